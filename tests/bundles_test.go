// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// control is the server of a security team: bundles out, decision events in.
type control struct {
	*httptest.Server
	mu     sync.Mutex
	bundle []byte
	etag   string
	down   bool
	events []map[string]any
}

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *control) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case strings.HasPrefix(r.URL.Path, "/logs"):
		var events []map[string]any
		unzipped, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(unzipped).Decode(&events)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.events = append(c.events, events...)
	case r.URL.Path != "/team.tar.gz":
		http.NotFound(w, r)
	case r.Header.Get("If-None-Match") == c.etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", c.etag)
		_, _ = w.Write(c.bundle)
	}
}

// put publishes a bundle that denies one kind.
func (c *control) put(t *testing.T, revision, kind string) {
	t.Helper()
	c.putFiles(t, revision, map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/team"]}`, revision),
		"team.rego": fmt.Sprintf("package metaguard.team\n\ndeny contains \"no_%s\" if input.resource.kind == %q\n", kind, kind),
	})
}

func (c *control) putFiles(t *testing.T, etag string, files map[string]string) {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for name, content := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle, c.etag = b.Bytes(), `"`+etag+`"`
}

func (c *control) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *control) received() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]map[string]any(nil), c.events...)
}

// opa is a configuration of OPA with this server.
func (c *control) opa(more string) string {
	return fmt.Sprintf(`services:
  team:
    url: %s
    response_header_timeout_seconds: 2
bundles:
  team:
    service: team
    resource: team.tar.gz
    persist: true
    polling: {min_delay_seconds: 0, max_delay_seconds: 0}
%s`, c.URL, more)
}

const byBundle = "identify remote_ip inventory.json\npolicy policy {\n\topa opa.yaml\n\tready_timeout 2s\n\ttimeout 2s\n}"

const userdataPath = "/openstack/latest/user_data"

// A team's bundle decides, its next revision is live, and a broken one keeps
// the last good one.
func TestBundleSite(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "r1", "userdata")
	s := newManaged(t, byBundle, map[string]string{"opa.yaml": c.opa("")})
	s.settles(t, userdataPath, 403)
	s.settles(t, metadataPath, 200)
	line := s.decisions(t, 2)[0]
	if line["revision"] == "" || !strings.HasPrefix(line["revision"].(string), "team@r1 files@") || fmt.Sprint(line["rules"]) != "[bundle:team/team.rego:3]" || fmt.Sprint(line["codes"]) != "[no_userdata]" {
		t.Errorf("%v", line)
	}
	c.put(t, "r2", "metadata")
	s.settles(t, metadataPath, 403)
	s.settles(t, userdataPath, 200)
	c.putFiles(t, "r3", map[string]string{"team.rego": "package metaguard.team\n\ndeny contains \"all\" if true\n"})
	s.Eventually("the refusal is logged", func() bool {
		return strings.Contains(s.Log(), "the bundle declares no roots, so that it would erase the built-in policy")
	})
	s.Eventually("the policy is stale", func() bool { return s.stale(t) })
	s.settles(t, metadataPath, 403)
	c.put(t, "r4", "userdata")
	s.settles(t, metadataPath, 200)
	s.Eventually("nothing is stale", func() bool { return !s.stale(t) })
	if !strings.Contains(s.admin.Get(t, "/metrics"), `caddy_metaguard_bundle_activated_timestamp_seconds{bundle="team"`) {
		t.Error("no metric tells when the bundle was activated")
	}
}

// stale tells whether the newest edit of any policy is broken.
func (m *managed) stale(t *testing.T) (stale bool) {
	t.Helper()
	for _, value := range m.admin.Metrics(t, staleEngine) {
		stale = stale || value == 1
	}
	return stale
}

// Without its bundle a site refuses everything, and answers when it comes. A
// reload to a configuration whose bundle does not come is refused. What was
// persisted decides at the next start, whether or not the server is there.
func TestBundleServerAway(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.setDown(true)
	s := prepareManaged(t, byBundle, map[string]string{"opa.yaml": c.opa(""), "other.yaml": strings.ReplaceAll(c.opa(""), "team.tar.gz", "nothing.tar.gz")})
	s.Run(s.address)
	if answer := s.get(t, metadataPath); answer.Status != 503 || reason(answer) != "policy_not_ready" {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	c.put(t, "r1", "userdata")
	c.setDown(false)
	s.settles(t, metadataPath, 200)
	s.settles(t, userdataPath, 403)
	s.edit(t, "Caddyfile", "opa opa.yaml", "opa other.yaml")
	if output, err := s.reload(t); err == nil || !strings.Contains(output, "no policy has come from elsewhere yet") {
		t.Errorf("the reload: %v %s", err, output)
	}
	s.settles(t, userdataPath, 403)
	s.edit(t, "Caddyfile", "opa other.yaml", "opa opa.yaml")
	c.setDown(true)
	s.Stop()
	s.Run(s.address)
	s.settles(t, userdataPath, 403)
	s.settles(t, metadataPath, 200)
}

// Events reach the service, masked, and the log beside it; nothing of a
// password is in them.
func TestEventsOfSite(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "r1", "userdata")
	s := newManaged(t, byBundle, map[string]string{
		"opa.yaml":        c.opa("decision_logs:\n  service: team\n  reporting: {min_delay_seconds: 0, max_delay_seconds: 0}\n"),
		"policy/log.rego": "package system.log\n\nmask contains \"/input/caller/project_id\"\n",
	})
	const password = "planted-pA55word-of-an-instance"
	s.settles(t, userdataPath, 403)
	if answer := s.post(t, "127.0.0.1", password); answer.Status != 200 {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	s.Eventually("both events arrive", func() bool { return len(c.received()) >= 2 })
	for _, event := range c.received() {
		text, err := json.Marshal(event)
		if err != nil || strings.Contains(string(text), projectA+`","roles`) || event["decision_id"] == "" || event["input"] == nil || event["result"] == nil {
			t.Errorf("%v %s", err, text)
		}
	}
	if logged := s.events(t, 2); logged[0]["bundles"] == nil || fmt.Sprint(logged[0]["erased"]) != "[/input/caller/project_id]" {
		t.Errorf("%v", logged[0])
	}
	all, _ := json.Marshal(c.received())
	if strings.Contains(s.Log()+string(all), password) {
		t.Error("a password is in an event or the log")
	}
}

// events gives the decision events in the log, once there are n of them.
func (s *site) events(t *testing.T, n int) []map[string]any {
	t.Helper()
	var lines []map[string]any
	s.Eventually(fmt.Sprintf("%d decision events", n), func() bool {
		lines = nil
		for line := range strings.Lines(s.Log()) {
			var entry map[string]any
			if strings.Contains(line, `"decision event"`) && json.Unmarshal([]byte(line), &entry) == nil {
				lines = append(lines, entry)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// Where a decision must be on record, a full buffer refuses, and nothing goes to
// the legacy server.
func TestLogFullRefuses(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.setDown(true)
	s := newManaged(t, strings.ReplaceAll(byBundle, "opa opa.yaml", "opa opa.yaml\n\tlog_full refuse"), map[string]string{
		"opa.yaml": "services: {team: {url: '" + c.URL + "'}}\ndecision_logs: {service: team, reporting: {buffer_size_limit_events: 5, min_delay_seconds: 600, max_delay_seconds: 600}}\n",
	})
	s.Eventually("a request is refused", func() bool {
		before := len(s.upstream.Requests())
		answer := s.get(t, metadataPath)
		return answer.Status == 503 && reason(answer) == "log_full" && len(s.upstream.Requests()) == before
	})
	s.Eventually("the refusal is logged", func() bool {
		for _, line := range s.decisions(t, 1) {
			if line["verdict"] == "deny" && line["reason"] == "log_full" && line["outcome"] == "refused" {
				return true
			}
		}
		return false
	})
}

// A candidate is asked beside the live policy, has no say, and what it says
// otherwise is logged and counted.
func TestCandidate(t *testing.T) {
	t.Parallel()
	s := newManaged(t, "identify remote_ip inventory.json\npolicy policy {\n\tcandidate next\n\ttimeout 2s\n}", map[string]string{
		"next/team.rego": "package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"userdata\"\n",
	})
	for range 5 {
		if answer := s.get(t, userdataPath); answer.Status != 200 {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		s.settles(t, metadataPath, 200)
	}
	const differences = `caddy_metaguard_candidate_differences_total{candidate="deny",live="allow",resource="userdata"}`
	s.Eventually("five differences are counted", func() bool {
		return strings.Contains(s.admin.Get(t, "/metrics"), differences+" 5\n")
	})
	if page := s.admin.Get(t, "/metrics"); !strings.Contains(page, `caddy_metaguard_candidate_decisions_total{result="same"} 5`) || strings.Contains(page, `resource="metadata"} 5`+"\n"+differences) {
		t.Errorf("%s", page)
	}
	var found bool
	for line := range strings.Lines(s.Log()) {
		found = found || strings.Contains(line, `"candidate decides otherwise"`) && strings.Contains(line, `"codes":["closed"]`) &&
			strings.Contains(line, `next/team.rego:3"`) && strings.Contains(line, `"difference":"verdict"`)
	}
	if !found {
		t.Error("no line tells what differs")
	}
	// An edit of the candidate is live too, and a broken one harms nobody.
	s.Write("next/team.rego", brokenPolicy)
	s.Eventually("the broken edit is reported", func() bool { return strings.Contains(s.Log(), "policy not loaded") })
	s.Write("next/team.rego", denyMetadata)
	s.Eventually("the edit is compared", func() bool {
		s.settles(t, metadataPath, 200)
		return strings.Contains(s.admin.Get(t, "/metrics"), `live="allow",resource="metadata"}`)
	})
}

// An edit that allows too much is refused with an explanation, and the last
// good policy stays; accepted in so many words, it is live.
func TestEditThatAllowsTooMuch(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	s.settles(t, metadataPath, 403)
	s.Write("policy/team.rego", "package metaguard.team\n\nallow contains \"reads\" if {\n\tinput.resource.kind == \"password\"\n\tdata.metaguard.own\n}\n")
	s.Eventually("the edit is refused", func() bool {
		return strings.Contains(s.Log(), `add \\\"password:read by own\\\" to data.metaguard.settings.accept`) ||
			strings.Contains(s.Log(), `add \"password:read by own\" to data.metaguard.settings.accept`)
	})
	if answer := s.get(t, metadataPath); answer.Status != 403 {
		t.Errorf("%d", answer.Status)
	}
	s.Write("policy/data.json", `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`)
	s.settles(t, metadataPath, 200)
}

// Over the owner's socket, and there only, the policies in force can be seen and
// taken away to be tried.
func TestAdminPolicies(t *testing.T) {
	t.Parallel()
	s := newManaged(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	s.settles(t, metadataPath, 403)
	s.Eventually("the configuration is in force", func() bool { return strings.Contains(s.Log(), "serving initial configuration") })
	var states []map[string]any
	if err := json.Unmarshal([]byte(s.admin.Get(t, "/metaguard/policies")), &states); err != nil || len(states) != 1 {
		t.Fatalf("%v %v", err, states)
	}
	name, _ := states[0]["name"].(string)
	if name == "" || states[0]["revision"] == "" || states[0]["loads"] != 1.0 {
		t.Errorf("%v", states[0])
	}
	for _, path := range []string{"/metaguard/policies/", "/metaguard/policies/" + name} {
		if bundle := s.admin.Get(t, path); !strings.HasPrefix(bundle, "\x1f\x8b") {
			t.Errorf("%s: %q", path, bundle)
		}
	}
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	s.edit(t, "Caddyfile", "admin "+s.admin.Listen, "admin "+address)
	if output, err := s.reload(t); err != nil {
		t.Fatalf("%v %s", err, output)
	}
	client := http.Client{Timeout: 10 * time.Second}
	for _, path := range []string{"/metaguard/policies", "/metaguard/policies/"} {
		response, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s over TCP: %d", path, response.StatusCode)
		}
	}
}
