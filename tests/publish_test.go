// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

// Every request has exactly one decision-log line, however it ends.
func TestOneLinePerRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	slow := make(chan struct{})
	asked := make(chan struct{}, 10)
	s.upstream.Script(func(request string) string {
		switch {
		case strings.Contains(request, "/user_data "):
			asked <- struct{}{}
			<-slow
		case strings.Contains(request, "/meta_data.json "):
			return harness.Reset
		}
		return harness.OK("")
	})
	t.Cleanup(func() { close(slow) })

	hangUp := func(request string, when func()) func() {
		return func() {
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(request)); err != nil {
				t.Fatal(err)
			}
			when()
			_ = conn.Close()
		}
	}
	tests := []struct {
		name string
		send func()
		want map[string]any
	}{
		{
			"allowed", func() { s.get(t, "/openstack/latest/password") },
			map[string]any{"verdict": "allow", "reason": "policy_allow", "outcome": "forwarded", "status": 200.0, "resource": "password"},
		},
		{
			"early refusal", func() { s.get(t, "/openstack/latest/../password") },
			map[string]any{"verdict": "deny", "reason": "request_ambiguous", "outcome": "refused", "status": 400.0, "code": "path_dot_segment", "path": nil},
		},
		{
			"unknown caller", func() { harness.RawFrom(t, "127.0.0.9", s.address, "GET / HTTP/1.1\r\nHost: m\r\n\r\n") },
			map[string]any{"verdict": "deny", "reason": "identity_missing", "outcome": "refused", "status": 401.0, "peer": "127.0.0.9", "caller": nil},
		},
		{
			"hang-up in a body", hangUp("POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 10\r\n\r\nabc", func() {}),
			map[string]any{"verdict": "deny", "reason": "body_incomplete", "outcome": "aborted"},
		},
		{
			"hang-up while the server thinks", hangUp("GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\n\r\n", func() { <-asked }),
			map[string]any{"verdict": "allow", "reason": "response_incomplete", "outcome": "aborted", "code": "client_gone"},
		},
		{
			"reset by the server", func() { s.get(t, "/openstack/latest/meta_data.json") },
			map[string]any{"verdict": "allow", "reason": "response_incomplete", "outcome": "failed", "status": 502.0},
		},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.send()
			line := s.decisions(t, i+1)[i]
			for name, want := range test.want {
				if line[name] != want {
					t.Errorf("%s: %v, want %v in %v", name, line[name], want, line)
				}
			}
			if id, _ := line["decision_id"].(string); len(id) != 36 {
				t.Errorf("decision_id %q", id)
			}
		})
	}
	// A last one, so that a second line of an earlier request has had its time.
	last := s.get(t, "/openstack").Header.Get("X-Metaguard-Decision")
	s.Eventually("the last request is logged", func() bool { return strings.Contains(s.Log(), last) })
	lines := s.decisions(t, len(tests)+1)
	if len(lines) != len(tests)+1 {
		t.Errorf("%d requests, %d lines", len(tests)+1, len(lines))
	}
}

// A write goes on when its client hangs up, and its outcome holds.
func TestWriteOutlivesItsClient(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.upstream.Script(func(string) string {
		close(asked)
		<-answer
		return harness.OK("")
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\n\r\nfirst")); err != nil {
		t.Fatal(err)
	}
	<-asked
	_ = conn.Close()
	if second := s.post(t, "", "second"); second.Status != 409 || reason(second) != "password_write_pending" {
		t.Errorf("while it is on its way: %d %q", second.Status, second.Body)
	}
	close(answer)
	lines := s.decisions(t, 2)
	if line := lines[1]; line["verdict"] != "allow" || line["action"] != "write" {
		t.Errorf("%v", line)
	}
	if second := s.post(t, "", "second"); second.Status != 409 || reason(second) != "password_already_set" {
		t.Errorf("after it: %d %q", second.Status, second.Body)
	}
}

// No secret is in any log, not even at debug level, if the log imports
// logging.caddy, or takes nothing but Metaguard's own lines (I3).
func TestNoSecretInAnyLog(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, neutronFrom("127.0.0.0/8")+"\n"+policyDirectory, map[string]string{
		"logging.caddy":    shippedFile(t, "logging.caddy"),
		"policy/data.json": grant(instance1, "password:read"),
	})
	s.edit(t, "Caddyfile", "format json\n\t}", "exclude http.handlers.metaguard\n\t\timport logging.caddy\n\t}\n"+
		"\tlog metaguard {\n\t\tinclude http.handlers.metaguard\n\t\tlevel DEBUG\n\t\tformat json\n\t}")
	s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind 127.0.0.1\n\tlog {\n\t\toutput stdout\n\t\tlevel DEBUG\n\t\timport logging.caddy\n\t}")
	s.Run(s.address)

	signature, wrong := sign(instance1), sign("marker-of-a-wrong-signature")
	markers := []string{secret, signature, wrong}
	marker := func(name string) string {
		text := "planted-" + name + "-marker"
		markers = append(markers, text)
		return text
	}
	headers := "Cookie: session=" + marker("cookie") + "\r\nX-Auth-Token: " + marker("keystone") +
		"\r\nX-Aws-Ec2-Metadata-Token: " + marker("session") + "\r\nAuthorization: Bearer " + marker("bearer") + "\r\n"
	written := marker("written")
	answers := map[string]string{ // by what stands in the request
		"POST /openstack/latest/password": "HTTP/1.1 200 OK\r\nSet-Cookie: " + marker("set-cookie") + "\r\nX-Secret: " + marker("header") + "\r\nContent-Length: 0\r\n\r\n",
		"GET /openstack/latest/password":  harness.OK(marker("stored")),
		"/meta_data.json ":                "HTTP/1.1 500 Oops\r\nContent-Length: 99\r\n\r\n" + marker("error-page"),
		"/vendor_data.json ":              harness.OK("no JSON: " + marker("document")),
		"/user_data ":                     "HTTP/1.1 200 OK\r\nbroken " + marker("broken-head") + "\r\n\r\n",
		"/network_data.json ":             marker("no-HTTP") + "\r\n\r\n",
		"/vendor_data2.json ":             "HTTP/1.1 " + marker("status") + "\r\n\r\n",
		"/content/1 ":                     "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + marker("framing") + "\r\n\r\n",
		"/content/2 ":                     "HTTP/1.1 302 Found\r\nLocation: http://evil/" + marker("location") + "\r\nContent-Length: 0\r\n\r\n",
	}
	s.upstream.Script(func(request string) string {
		for part, answer := range answers {
			if strings.Contains(request, part) {
				return answer
			}
		}
		return harness.OK("")
	})
	send := func(first, signature, rest string) harness.Answer {
		return harness.Raw(t, s.address, first+" HTTP/1.1\r\nHost: m\r\n"+agentHeaders(instance1, signature)+headers+rest)
	}
	tests := []struct {
		answer harness.Answer
		status int
	}{
		{send("POST /openstack/latest/password", signature, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(written), written)), 200},
		{send("POST /openstack/latest/password", signature, "Transfer-Encoding: chunked\r\n\r\nzz"+marker("chunk")+"\r\n\r\n"), 400},
		{send("GET /openstack/latest/password?token="+marker("query"), signature, "\r\n"), 400},
		{send("GET /openstack/latest/", wrong, "\r\n"), 403},
		{send("GET /openstack/latest/", signature, "X-Instance-ID-Signature: "+signature+"\r\n\r\n"), 400},
	}
	for _, name := range []string{"password", "meta_data.json", "vendor_data.json", "user_data", "network_data.json", "vendor_data2.json", "../content/1", "../content/2"} {
		answer := send("GET "+filepath.Join("/openstack/latest", name), signature, "\r\n")
		tests = append(tests, struct {
			answer harness.Answer
			status int
		}{answer, 500})
	}
	for i, test := range tests {
		if test.answer.Status != test.status {
			t.Errorf("request %d: %d %q, want %d", i, test.answer.Status, test.answer.Body, test.status)
		}
	}
	s.decisions(t, len(tests))
	s.Eventually("the access log is there", func() bool { return strings.Count(s.Log(), `"msg":"handled request"`) >= len(tests) })
	log := s.Log()
	if !strings.Contains(log, `"logger":"metaguard.reverse_proxy","msg":"upstream roundtrip"`) {
		t.Error("the log is not at debug level, or loggers.caddy cannot leave these lines out")
	}
	for line := range strings.Lines(log) {
		for _, marker := range markers {
			if strings.Contains(line, marker) {
				t.Errorf("%s is in the log: %s", marker, line)
			}
		}
	}
}

// Without logging.caddy the same log would hold a signature: the test above
// can fail.
func TestLoggingSnippetIsNeeded(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, neutronFrom("127.0.0.0/8"), nil)
	s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind 127.0.0.1\n\tlog")
	s.Run(s.address)
	harness.Raw(t, s.address, "GET /openstack/latest/ HTTP/1.1\r\nHost: m\r\n"+agentHeaders(instance1, sign(instance1))+"\r\n")
	s.Eventually("Caddy's own access log shows the signature", func() bool { return strings.Contains(s.Log(), sign(instance1)) })
}

// What was decided is there for the site's own log fields.
func TestPlaceholdersInTheAccessLog(t *testing.T) {
	t.Parallel()
	names := []string{"id", "decision", "reason", "outcome", "caller", "source", "dialect", "resource", "action", "revision"}
	s := prepareSite(t, byAddress, nil)
	appended := "bind 127.0.0.1\n\tlog {\n\t\tformat json\n\t}"
	for _, name := range names {
		appended += "\n\tlog_append my_" + name + " {http.vars.metaguard." + name + "}"
	}
	s.edit(t, "Caddyfile", "bind 127.0.0.1", appended)
	s.Run(s.address)
	caller := "instance:" + instance1
	for path, want := range map[string]string{
		"/openstack/latest/user_data": "allow policy_allow forwarded " + caller + " remote_ip openstack userdata read",
		"/openstack/latest/password":  "deny policy_deny empty " + caller + " remote_ip openstack password read",
		"/secret":                     "deny policy_deny refused " + caller + " remote_ip openstack unknown read",
		"/a/../b":                     "deny request_ambiguous refused   openstack  ",
	} {
		id := s.get(t, path).Header.Get("X-Metaguard-Decision")
		var access map[string]any
		s.Eventually("the access log", func() bool {
			for line := range strings.Lines(s.Log()) {
				if strings.Contains(line, `"msg":"handled request"`) && strings.Contains(line, id) {
					return json.Unmarshal([]byte(line), &access) == nil
				}
			}
			return false
		})
		var got []string
		for _, name := range names[1:9] {
			got = append(got, fmt.Sprint(access["my_"+name]))
		}
		if strings.Join(got, " ") != want || access["my_id"] != id {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if revision, _ := access["my_revision"].(string); (revision == "") != strings.Contains(want, "ambiguous") {
			t.Errorf("%s: revision %q", path, revision)
		}
		// Without any configuration, too.
		if access["decision_id"] != id || access["verdict"] != access["my_decision"] || access["reason"] != access["my_reason"] {
			t.Errorf("%s: %v", path, access)
		}
	}
}

// And for its own headers, which are made when the answer begins.
func TestPlaceholdersInHeaders(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind 127.0.0.1\n\theader >X-Reason \"{http.vars.metaguard.decision} {http.vars.metaguard.reason} {http.vars.metaguard.outcome}\"")
	s.Run(s.address)
	for path, want := range map[string]string{
		"/openstack/latest/user_data": "allow policy_allow forwarded",
		"/openstack/latest/password":  "deny policy_deny empty",
		"/secret":                     "deny policy_deny refused",
		"/a/../b":                     "deny request_ambiguous refused",
	} {
		if got := s.get(t, path).Header.Get("X-Reason"); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// Counters survive a reload, and labels come from closed sets.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress, map[string]string{"policy/data.json": "{}"})
	for _, request := range []string{"GET /openstack/latest/user_data", "GET /secret-" + instance1, "GET /a/../b", "TRACE /", "GET /openstack/latest/password"} {
		harness.Raw(t, m.address, request+" HTTP/1.1\r\nHost: evil\r\nUser-Agent: evil\r\n\r\n")
	}
	const name = "caddy_metaguard_decisions_total"
	before := m.admin.Metrics(t, name)
	if err := m.admin.Load(m.adapted(t)); err != nil {
		t.Fatal(err)
	}
	m.ask(t, "/openstack/latest/user_data") // also where the old listener resets the first connection
	allowed := `{dialect="openstack",outcome="forwarded",reason="policy_allow",resource="userdata",site="` + m.address + `",verdict="allow"}`
	m.Eventually("the counter goes on where it was", func() bool { return m.admin.Metrics(t, name)[allowed] == 2 })
	after := m.admin.Metrics(t, name)
	sum := 0.0
	for labels, count := range after {
		sum += count
		if labels != allowed && before[labels] != count {
			t.Errorf("%s: %v before and %v after a reload", labels, before[labels], count)
		}
	}
	if sum != 6 {
		t.Errorf("6 requests, counted %v: %v", sum, after)
	}

	closed := map[string][]string{
		"verdict": {"allow", "deny", "would_deny"},
		"outcome": {
			"forwarded", "streamed", "empty", "refused", "failed", "aborted", "panic",
			"accepted", "already_set", "unsent", "unknown", // of password writes
		},
		"resource": {
			"listing", "metadata", "password", "userdata", "vendordata", "network", "credentials", "token", "health", "unknown",
		},
		"dialect":   {"openstack"},
		"what":      {"json_member", "listing_entry", "password_key"},
		"result":    {"ok", "failed", "same", "different", "dropped", "hit", "miss", "conflict", "corrupt", "timeout", "identified"},
		"reason":    {"lost", "buffer_full", "rate_limit", "encoding", "write_failed"}, // of events and log lines that were dropped
		"site":      {m.address},
		"source":    {"remote_ip", "none"},
		"operation": {"load", "swap", "reset"},
		"mode":      {"enforce", "audit"},
		"latch":     {"file"},
	}
	for _, reason := range decision.Reasons() {
		closed["reason"] = append(closed["reason"], string(reason))
	}
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for line := range strings.Lines(m.admin.Get(t, "/metrics")) {
		if !strings.HasPrefix(line, "caddy_metaguard_") {
			continue
		}
		for _, match := range label.FindAllStringSubmatch(line, -1) {
			switch name, value := match[1], match[2]; name {
			case "le", "engine", "revision", "inventory": // one to a bucket, policy, file
			default:
				if !slices.Contains(closed[name], value) {
					t.Errorf("%s=%q is in no closed set: %s", name, value, line)
				}
			}
		}
	}
}

// adapted is the site's configuration as JSON.
func (s *site) adapted(t *testing.T) string {
	t.Helper()
	output, err := s.Command("adapt", "--config", filepath.Join(s.Dir, "Caddyfile"))
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for line := range strings.Lines(output) { // the rest are log lines
		if strings.HasPrefix(line, `{"admin"`) || strings.HasPrefix(line, `{"apps"`) {
			return line
		}
	}
	t.Fatal(output)
	return ""
}

// A refusal is JSON where the client asks for it.
func TestRefusalAsJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, nil)
	for accept, wantJSON := range map[string]bool{"application/json": true, "text/html, application/json;q=0.9": true, "*/*": false, "": false} {
		answer := harness.Raw(t, s.address, "GET /secret HTTP/1.1\r\nHost: m\r\nAccept: "+accept+"\r\n\r\n")
		var body struct {
			Status                  int
			Error, Reason, Decision string
		}
		err := json.Unmarshal([]byte(answer.Body), &body)
		if isJSON := err == nil; isJSON != wantJSON || strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") != wantJSON {
			t.Errorf("Accept %q: %q %v", accept, answer.Body, answer.Header)
		}
		if wantJSON && (body.Status != 404 || body.Error != "Not Found" || body.Reason != "policy_deny" || body.Decision != answer.Header.Get("X-Metaguard-Decision")) {
			t.Errorf("Accept %q: %+v", accept, body)
		}
	}
}

// A Neutron agent gets the statuses that it passes on, from the earliest
// refusal to the latest; anyone else gets the true ones. The reason is the
// same for both.
func TestStatusesForAnAgent(t *testing.T) {
	t.Parallel()
	const agent, other = "127.0.0.2", "127.0.0.1"
	s := newSite(t, neutronFrom(agent+"/32")+"\nidentify remote_ip inventory.json\ndeny_status 404\n"+policyDirectory, map[string]string{
		"policy/team.rego": "package metaguard.team\n\n" +
			"deny contains \"no_writes\" if {\n\tinput.resource.action == \"write\"\n\tinput.request.body.size == 2\n}\n\n" +
			"deny contains \"fails\" if {\n\tinput.resource.kind == \"network\"\n\tto_number(input.caller.id) > 0\n}\n",
	})
	s.upstream.Script(func(string) string { return "" })
	post := func(length int) string {
		return fmt.Sprintf("POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\n%%sContent-Length: %d\r\n\r\n%s", length, strings.Repeat("x", length))
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: m\r\n%s\r\n" }
	tests := []struct {
		name, request string
		reason        string
		other, agent  int
	}{
		{"ambiguous", get("/a/../b"), "request_ambiguous", 400, 400},
		{"method", "PUT /openstack/latest/password HTTP/1.1\r\nHost: m\r\n%sContent-Length: 0\r\n\r\n", "method_not_allowed", 405, 400},
		{"too large", post(1021), "body_too_large", 413, 400},
		{"policy", get("/secret"), "policy_deny", 404, 404},
		{"policy, a write", post(2), "policy_deny", 404, 403},
		{"policy fails", get("/openstack/latest/network_data.json"), "policy_error", 503, 500},
		{"no answer", get("/openstack/latest/user_data"), "response_incomplete", 502, 500},
	}
	signed := agentHeaders(instance1, sign(instance1))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if answer := harness.RawFrom(t, other, s.address, fmt.Sprintf(test.request, "")); answer.Status != test.other || reason(answer) != test.reason {
				t.Errorf("anyone: %d %q, want %d %s", answer.Status, answer.Body, test.other, test.reason)
			}
			answer := harness.RawFrom(t, agent, s.address, fmt.Sprintf(test.request, signed))
			if answer.Status != test.agent || reason(answer) != test.reason {
				t.Errorf("agent: %d %q, want %d %s", answer.Status, answer.Body, test.agent, test.reason)
			}
			if answer.Header.Get("Content-Type") == "" {
				t.Error("the agent needs a Content-Type")
			}
		})
	}
	t.Run("identity", func(t *testing.T) {
		for from, want := range map[string]int{other: 401, agent: 403} {
			answer := harness.RawFrom(t, from, s.address, fmt.Sprintf(get("/openstack"), agentHeaders(instance1, sign("another"))))
			if answer.Status != want || reason(answer) != "identity_invalid" {
				t.Errorf("%s: %d %q, want %d", from, answer.Status, answer.Body, want)
			}
		}
	})
}

// neutronFrom is `identify neutron` with the tests' secret.
func neutronFrom(trust string) string {
	return "identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\ntrust " + trust + "\n}"
}

// sign is Neutron's signature of an instance.
func sign(instance string) string { return signWith(secret, instance) }

// signWith is sign with another secret.
func signWith(secret, instance string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(instance))
	return hex.EncodeToString(mac.Sum(nil))
}

// agentHeaders are what Neutron's agent adds for an instance.
func agentHeaders(instance, signature string) string {
	return "X-Instance-ID: " + instance + "\r\nX-Tenant-ID: " + projectA + "\r\nX-Instance-ID-Signature: " + signature +
		"\r\nX-Forwarded-For: 10.0.0.11\r\n"
}

// shippedFile reads a file of the folder caddyfiles.
func shippedFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "caddyfiles", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
