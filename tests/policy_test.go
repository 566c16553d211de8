// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// managed is a site whose process can be asked and reloaded.
type managed struct {
	*site
	admin *harness.Admin
}

// prepareManaged is prepareSite with an admin API on a Unix socket.
func prepareManaged(t *testing.T, settings string, files map[string]string) *managed {
	t.Helper()
	m := &managed{site: prepareSite(t, settings, files), admin: harness.NewAdmin(t)}
	m.edit(t, "Caddyfile", "admin off", "admin "+m.admin.Listen)
	m.edit(t, "Caddyfile", "format json", "format json\n\t\texclude admin.api")
	return m
}

func newManaged(t *testing.T, settings string, files map[string]string) *managed {
	t.Helper()
	m := prepareManaged(t, settings, files)
	m.Run(m.address)
	return m
}

// read gives a file beside the Caddyfile.
func (s *site) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// edit replaces something that stands in a file.
func (s *site) edit(t *testing.T, name, old, replacement string) {
	t.Helper()
	content := s.read(t, name)
	if !strings.Contains(content, old) {
		t.Fatalf("%s: no %q in\n%s", name, old, content)
	}
	s.Write(name, strings.ReplaceAll(content, old, replacement))
}

// settles polls a request until it is answered with this status.
func (s *site) settles(t *testing.T, path string, status int) {
	t.Helper()
	s.Eventually(path+" is answered otherwise", func() bool { return s.get(t, path).Status == status })
}

// live makes edits, which answer the path with one status and the other in
// turn, and tells how long the fastest of them took to be live. A busy machine
// may be late once.
func (s *site) live(t *testing.T, path string, edits ...liveEdit) time.Duration {
	t.Helper()
	fastest := time.Hour
	for range 2 {
		for _, edit := range edits {
			start := time.Now()
			edit.make()
			s.settles(t, path, edit.status)
			fastest = min(fastest, time.Since(start))
		}
	}
	return fastest
}

type liveEdit struct {
	make   func()
	status int
}

const (
	denyMetadata  = "package metaguard.team\n\ndeny contains \"no_metadata\" if input.resource.kind == \"metadata\"\n"
	denyNothing   = "package metaguard.team\n\ndeny contains \"nothing\" if input.resource.kind == \"token\"\n"
	brokenPolicy  = "package metaguard.team\n\ndeny contains \"oops\" if {\n"
	metadataPath  = "/2009-04-04/meta-data/hostname"
	liveWithin    = 2 * time.Second
	staleEngine   = "caddy_metaguard_policy_stale"
	auditingSites = "caddy_metaguard_audit_mode_sites"
)

// An edit is live within two seconds.
func TestPolicyEditIsLive(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{"policy/team.rego": denyNothing})
	s.settles(t, metadataPath, 200)
	took := s.live(t, metadataPath,
		liveEdit{func() { s.Write("policy/team.rego", denyMetadata) }, 403},
		liveEdit{func() { s.Write("policy/team.rego", denyNothing) }, 200})
	if took > liveWithin {
		t.Errorf("the fastest edit was live after %s", took)
	}
}

// So is one that Kubernetes makes to a mounted ConfigMap: files are links into
// a directory behind a link, and only that link changes.
func TestConfigMapSwapIsLive(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, "identify remote_ip inventory.json\npolicy mounted", map[string]string{"mounted/..v1/team.rego": denyNothing})
	mounted := filepath.Join(s.Dir, "mounted")
	link := func(target, name string) {
		t.Helper()
		temporary := filepath.Join(mounted, name+"_tmp")
		if err := os.Symlink(target, temporary); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(mounted, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..v1", "..data")
	link("..data/team.rego", "team.rego")
	s.Run(s.address)
	s.settles(t, metadataPath, 200)
	swap := func(old, next, content string) func() {
		return func() {
			s.Write("mounted/"+next+"/team.rego", content)
			link(next, "..data")
			if err := os.RemoveAll(filepath.Join(mounted, old)); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := s.live(t, metadataPath,
		liveEdit{swap("..v1", "..v2", denyMetadata), 403},
		liveEdit{swap("..v2", "..v1", denyNothing), 200})
	if took > liveWithin {
		t.Errorf("the fastest swap was live after %s", took)
	}
}

// A broken edit keeps the last good policy, says where it is broken, and does
// not poison the next good one.
func TestBrokenEditKeepsTheLastGoodPolicy(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	m.settles(t, metadataPath, 403)
	m.isStale(t, 0)
	for _, broken := range []struct{ content, place string }{
		{brokenPolicy, "team.rego:4"},
		{"package metaguard.team\n\ndenny contains \"x\" if input.caller.id\n", "team.rego:3"},
	} {
		m.Write("policy/team.rego", broken.content)
		m.Eventually("the log says "+broken.place, func() bool { return strings.Contains(m.Log(), broken.place) })
		m.isStale(t, 1)
		if answer := m.get(t, metadataPath); answer.Status != 403 {
			t.Errorf("the last good policy is not in force: %d", answer.Status)
		}
	}
	if err := os.RemoveAll(filepath.Join(m.Dir, "policy")); err != nil {
		t.Fatal(err)
	}
	m.Eventually("the log says that the directory is gone", func() bool { return strings.Contains(m.Log(), "no such file") })
	if answer := m.get(t, metadataPath); answer.Status != 403 {
		t.Errorf("a directory that vanishes keeps the last good policy: %d", answer.Status)
	}
	m.Write("policy/team.rego", denyNothing)
	m.settles(t, metadataPath, 200)
	m.isStale(t, 0)
}

// isStale waits until the one policy in use is stale, or is not.
func (m *managed) isStale(t *testing.T, want float64) {
	t.Helper()
	m.Eventually("the metric "+staleEngine, func() bool {
		samples := m.admin.Metrics(t, staleEngine)
		for _, value := range samples {
			if value != want {
				return false
			}
		}
		return len(samples) == 1
	})
}

// What would compile and mean nothing is refused at start, at the team's own
// line.
func TestMeaninglessPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, content, want string }{
		{"a name that nothing reads", "package metaguard.team\n\n\ndenny contains \"x\" if input.caller.id == \"y\"\n", "team.rego:4"},
		{"a package that nothing reads", "package metaguard.teams\n\ndeny contains \"x\" if input.caller.id == \"y\"\n", "team.rego:1"},
		{"an input that is not there", "package metaguard.team\n\ndeny contains \"x\" if {\n\tinput.caler.id == \"y\"\n}\n", "team.rego:4"},
		{"a rule of another form", "package metaguard.team\n\ndeny if input.caller.id == \"y\"\n", "team.rego:3"},
		{"a status that is none", "package metaguard.team\n\nstatus := 500\n", "team.rego:3"},
		{"a builtin that reaches the network", "package metaguard.team\n\ndeny contains \"x\" if http.send({\"url\": \"http://x\", \"method\": \"get\"})\n", "team.rego:3"},
		{"a syntax error", brokenPolicy, "team.rego:4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := prepareSite(t, byAddress, map[string]string{"policy/team.rego": test.content})
			output := s.fails(t)
			if !strings.Contains(output, test.want) {
				t.Errorf("no %s in\n%s", test.want, output)
			}
		})
	}
	t.Run("a grant that is none", func(t *testing.T) {
		s := prepareSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "pasword:read")})
		if output := s.fails(t); !strings.Contains(output, "data.json") || !strings.Contains(output, "pasword:read") {
			t.Error(output)
		}
	})
}

// fails starts the process, which must end with an error before it listens,
// and gives what it said.
func (s *site) fails(t *testing.T) string {
	t.Helper()
	output, err := s.Command("run", "--config", filepath.Join(s.Dir, "Caddyfile"))
	if err == nil || strings.Contains(err.Error(), "killed") {
		t.Errorf("the process started: %v\n%s", err, output)
	}
	return output
}

// Audit mode forwards what the policy refuses, without redaction, and says so;
// whatever else refuses, refuses all the same.
func TestAuditMode(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress+"\nmode audit", map[string]string{"policy/team.rego": denyMetadata})
	document := `{"admin_pass": "clear", "password_evil": "other", "a": 1}`
	m.upstream.Script(func(string) string { return harness.OK(document) })
	if answer := m.get(t, "/openstack/latest/meta_data.json"); answer.Status != 200 || !strings.Contains(answer.Body, "clear") || strings.Contains(answer.Body, "other") {
		t.Errorf("would be denied: %d %q", answer.Status, answer.Body)
	}
	if answer := m.get(t, "/openstack/latest/network_data.json"); answer.Status != 200 || strings.Contains(answer.Body, "clear") {
		t.Errorf("allowed, so redacted: %d %q", answer.Status, answer.Body)
	}
	lines := m.decisions(t, 2)
	if line := lines[0]; line["verdict"] != "would_deny" || line["reason"] != "policy_deny" || line["level"] != "warn" || line["outcome"] != "forwarded" || line["mode"] != "audit" {
		t.Errorf("would be denied: %v", line)
	}
	if line := lines[1]; line["verdict"] != "allow" || line["level"] != "info" {
		t.Errorf("allowed: %v", line)
	}
	m.upstream.Script(func(string) string { return harness.OK("") })
	if answer := m.post(t, "", "first"); answer.Status != 200 {
		t.Errorf("first write: %d %q", answer.Status, answer.Body)
	}
	m.upstream.Forget()
	m.upstream.Script(func(string) string { return harness.OK("forged") })
	for _, test := range []struct {
		from, request string
		status        int
		reason        string
	}{
		{"127.0.0.9", "GET /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 401, "identity_missing"},
		{"", "GET /openstack/../latest HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"", "PUT /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\nx", 405, "method_not_allowed"},
		{"", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", 400, "password_empty"},
		{"", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 6\r\n\r\nsecond", 409, "password_already_set"},
	} {
		if answer := harness.RawFrom(t, test.from, m.address, test.request); answer.Status != test.status || reason(answer) != test.reason {
			t.Errorf("%q: %d %q, want %d %s", test.request, answer.Status, answer.Body, test.status, test.reason)
		}
	}
	if requests := m.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
	if answer := m.get(t, "/openstack/latest/password"); answer.Status != 502 || reason(answer) != "password_mismatch" {
		t.Errorf("a read that the policy would refuse meets the password rules: %d %q", answer.Status, answer.Body)
	}
	if samples := m.admin.Metrics(t, auditingSites); samples[""] != 1 {
		t.Errorf("%s: %v", auditingSites, samples)
	}
	if !strings.Contains(m.Log(), "AUDIT MODE") {
		t.Error("the log does not say that the site is in audit mode")
	}
}

// A refusal's status is the decision's own, else deny_status.
func TestDenyStatus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, settings, team string
		want                 int
	}{
		{"default", "", denyMetadata, 403},
		{"deny_status", "\ndeny_status 404", denyMetadata, 404},
		{"the decision's", "", denyMetadata + "\nstatus := 404\n", 404},
		{"the decision's wins", "\ndeny_status 404", denyMetadata + "\nstatus := 429\n", 429},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, byAddress+test.settings, map[string]string{"policy/team.rego": test.team})
			if answer := s.get(t, metadataPath); answer.Status != test.want || reason(answer) != "policy_deny" || strings.Contains(answer.Body, "no_metadata") {
				t.Errorf("got %d %q, want %d", answer.Status, answer.Body, test.want)
			}
			if answer := s.get(t, "/openstack/latest/user_data"); answer.Status != 200 {
				t.Errorf("something else: %d %q", answer.Status, answer.Body)
			}
		})
	}
}

// deny wins over allow and over a grant; each code is in the log only.
func TestGrantsAllowAndDeny(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{
		"policy/data.json": grant(instance1, "password:read"),
		"policy/team.rego": "package metaguard.team\n\n" +
			"allow contains \"second_reads\" if {\n\tinput.caller.instance_id == \"" + instance2 + "\"\n\tinput.resource.kind == \"password\"\n}\n\n" +
			"deny contains \"not_2013\" if {\n\tinput.resource.version == \"2013-04-04\"\n\tinput.resource.kind == \"password\"\n}\n",
	})
	s.upstream.Script(func(string) string { return harness.OK("") })
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		if answer := harness.RawFrom(t, from, s.address, "GET /openstack/latest/password HTTP/1.1\r\nHost: m\r\n\r\n"); answer.Status != 200 {
			t.Errorf("%s: %d %q", from, answer.Status, answer.Body)
		}
		if answer := harness.RawFrom(t, from, s.address, "GET /openstack/2013-04-04/password HTTP/1.1\r\nHost: m\r\n\r\n"); answer.Status != 403 {
			t.Errorf("%s is denied: %d %q", from, answer.Status, answer.Body)
		}
	}
	lines := s.decisions(t, 4)
	for i, want := range []string{"[granted]", "[not_2013]", "[second_reads]", "[not_2013]"} {
		if got := codes(lines[i]); got != want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
	if requests := s.upstream.Requests(); len(requests) != 2 {
		t.Errorf("the server saw %q", requests)
	}
}

// codes are the policy's own codes in a decision-log line.
func codes(line map[string]any) string {
	var names []string
	list, _ := line["codes"].([]any)
	for _, code := range list {
		names = append(names, code.(string))
	}
	return "[" + strings.Join(names, " ") + "]"
}
