// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// ask sends a request with header lines from an address.
func (s *site) ask(t *testing.T, from, first string, lines ...string) harness.Answer {
	t.Helper()
	head := first + " HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	return harness.RawFrom(t, from, s.address, head+"\r\n")
}

// token gets a session token.
func (s *site) token(t *testing.T, from string) string {
	t.Helper()
	answer := s.ask(t, from, "PUT /latest/api/token", ttlHeader+": 60", "Content-Length: 0")
	if answer.Status != 200 || answer.Body == "" {
		t.Fatalf("no token: %+v", answer)
	}
	return answer.Body
}

func TestSessionTokenProtocol(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession required {\n\tmax_ttl 1h\n}", nil)
	const ttl = ttlHeader + ": 60"
	long := strings.Repeat("0", 5000)
	tests := []struct {
		name, first, line string
		status            int
		reason, code      string
	}{
		{"token", "PUT /latest/api/token", ttl, 200, "", ""},
		{"longest", "PUT /latest/api/token", ttlHeader + ": 3600", 200, "", ""},
		{"any case", "PUT /latest/api/token", strings.ToLower(ttlHeader) + ": 1", 200, "", ""},
		{"two slashes", "PUT //latest/api/token", ttl, 200, "", ""},
		{"own endpoint", "PUT /metaguard/session", "X-Metaguard-Session-Ttl-Seconds: 60", 200, "", ""},
		{"own endpoint, the other's header", "PUT /metaguard/session", ttl, 400, "header_refused", "session_ttl"},
		{"no TTL", "PUT /latest/api/token", "Accept: */*", 400, "header_refused", "session_ttl"},
		{"zero", "PUT /latest/api/token", ttlHeader + ": 0", 400, "header_refused", "session_ttl"},
		{"signed", "PUT /latest/api/token", ttlHeader + ": +60", 400, "header_refused", "session_ttl"},
		{"not decimal", "PUT /latest/api/token", ttlHeader + ": 0x3c", 400, "header_refused", "session_ttl"},
		{"fraction", "PUT /latest/api/token", ttlHeader + ": 60.0", 400, "header_refused", "session_ttl"},
		{"very long", "PUT /latest/api/token", ttlHeader + ": " + long + "60", 400, "header_refused", "session_ttl"},
		{"TTL twice", "PUT /latest/api/token", ttl + "\r\n" + ttl, 400, "header_refused", "header_identity_doubled"},
		{"TTL with an underscore", "PUT /latest/api/token", ttl + "\r\nX_Aws_Ec2_Metadata_Token_Ttl_Seconds: 60", 200, "", ""}, // Caddy drops it
		{"forwarded", "PUT /latest/api/token", ttl + "\r\nX-Forwarded-For: 10.0.0.9", 403, "header_refused", "session_forwarded"},
		{"forwarded for nobody", "PUT /latest/api/token", ttl + "\r\nX-Forwarded-For:", 403, "header_refused", "session_forwarded"},
		{"forwarded in another case", "PUT /latest/api/token", ttl + "\r\nx-fORWARDED-for: a", 403, "header_refused", "session_forwarded"},
		{"forwarded twice", "PUT /latest/api/token", ttl + "\r\nX-Forwarded-For: a\r\nX-Forwarded-For: b", 403, "header_refused", "session_forwarded"},
		{"Forwarded", "PUT /latest/api/token", ttl + "\r\nForwarded: for=10.0.0.9", 403, "header_refused", "session_forwarded"},
		{"Forwarded, own endpoint", "PUT /metaguard/session", "X-Metaguard-Session-Ttl-Seconds: 60\r\nForwarded:", 403, "header_refused", "session_forwarded"},
		{"body", "PUT /latest/api/token", ttl + "\r\nContent-Length: 1\r\n\r\nx", 400, "body_unexpected", "body"},
		{"chunked body", "PUT /latest/api/token", ttl + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 400, "body_unexpected", "body"},
		{"query", "PUT /latest/api/token?x=1", ttl, 400, "request_ambiguous", "query_unexpected"},
		{"GET", "GET /latest/api/token", ttl, 405, "method_not_allowed", "method"},
		{"HEAD", "HEAD /latest/api/token", ttl, 405, "", ""},
		{"POST", "POST /latest/api/token", ttl, 405, "method_not_allowed", "method"},
		{"DELETE", "DELETE /metaguard/session", ttl, 405, "method_not_allowed", "method"},
		{"OPTIONS", "OPTIONS /latest/api/token", ttl, 405, "method_not_allowed", "method"},
		{"POST that says it is a PUT", "POST /latest/api/token", ttl + "\r\nX-HTTP-Method-Override: PUT", 400, "header_refused", "header_method_override"},
		{"slash at the end", "PUT /latest/api/token/", ttl, 401, "session_missing", "session_missing"},
		{"another version", "PUT /2009-04-04/api/token", ttl, 401, "session_missing", "session_missing"},
		{"dot segments", "PUT /latest/x/../api/token", ttl, 400, "request_ambiguous", "path_dot_segment"},
	}
	for _, test := range tests {
		answer := s.ask(t, "", test.first, test.line)
		if answer.Status != test.status || reason(answer) != test.reason && answer.Status != 200 || answer.Err != nil {
			t.Errorf("%s: %d %q %v", test.name, answer.Status, answer.Body, answer.Err)
		}
		if answer.Header.Get("X-Metaguard-Decision") == "" {
			t.Errorf("%s: no decision id", test.name)
		}
		switch answer.Status {
		case 405:
			if answer.Header.Get("Allow") != "PUT" {
				t.Errorf("%s: Allow %q", test.name, answer.Header.Get("Allow"))
			}
		case 200:
			name := ttlHeader
			if strings.Contains(test.first, "metaguard") {
				name = "X-Metaguard-Session-Ttl-Seconds"
			}
			_, want, _ := strings.Cut(strings.SplitN(test.line, "\r\n", 2)[0], ": ")
			if answer.Header.Get(name) != want || answer.Header.Get("Cache-Control") != "no-store" ||
				!strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") || len(answer.Body) > 120 {
				t.Errorf("%s: %v %q", test.name, answer.Header, answer.Body)
			}
		}
	}
	lines := s.decisions(t, len(tests))
	for i, test := range tests {
		line := lines[i]
		if test.status == 200 {
			test.reason = "policy_allow"
			if line["outcome"] != "answered" || line["resource"] != "token" || line["action"] != "write" || line["codes"].([]any)[0] != "session_token" {
				t.Errorf("%s: %v", test.name, line)
			}
		} else if line["outcome"] != "refused" {
			t.Errorf("%s: %v", test.name, line)
		}
		if line["reason"] != test.reason && test.reason != "" || line["code"] != test.code && test.code != "" {
			t.Errorf("%s: %v", test.name, line)
		}
	}
	if answer := s.ask(t, "", "PUT /latest/api/token", ttlHeader+": 21600"); answer.Status != 200 || answer.Header.Get(ttlHeader) != "3600" {
		t.Errorf("over max_ttl: %d %v", answer.Status, answer.Header)
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}

// Nothing follows a token on its connection.
func TestSessionTokenEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession optional", nil)
	client := harness.Dial(t, "", s.address)
	const get = "GET " + userData + " HTTP/1.1\r\nHost: m\r\n\r\n"
	client.Send(get)
	if answer := client.Answer("GET"); answer.Status != 200 {
		t.Fatalf("%+v", answer)
	}
	client.Send("PUT /latest/api/token HTTP/1.1\r\nHost: m\r\n" + ttlHeader + ": 60\r\n\r\n" + get)
	if answer := client.Answer("PUT"); answer.Status != 200 || len(answer.Body) < 60 {
		t.Fatalf("%+v", answer)
	}
	if rest, closed := client.Rest(); rest != "" || !closed {
		t.Errorf("after a token comes %q, closed: %t", rest, closed)
	}
	if requests := s.upstream.Requests(); len(requests) != 1 {
		t.Errorf("the server saw %d requests", len(requests))
	}
}

func TestSessionRequired(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession required", nil)
	mine, theirs := s.token(t, "127.0.0.1"), s.token(t, "127.0.0.2")
	changed := mine[:20] + string('A'+(mine[20]-'A'+1)%26) + mine[21:]
	tests := []struct {
		name, from   string
		lines        []string
		status       int
		reason, code string
	}{
		{"mine", "127.0.0.1", []string{tokenHeader + ": " + mine}, 200, "policy_allow", ""},
		{"again", "127.0.0.1", []string{"X-Metaguard-Session: " + mine}, 200, "policy_allow", ""},
		{"in both headers", "127.0.0.1", []string{"X-Metaguard-Session: " + mine, tokenHeader + ": " + mine}, 200, "policy_allow", ""},
		{"theirs", "127.0.0.2", []string{tokenHeader + ": " + theirs}, 200, "policy_allow", ""},
		{"none", "127.0.0.1", nil, 401, "session_missing", "session_missing"},
		{"another's", "127.0.0.1", []string{tokenHeader + ": " + theirs}, 401, "session_invalid", "session_foreign"},
		{"changed", "127.0.0.1", []string{tokenHeader + ": " + changed}, 401, "session_invalid", "session_foreign"},
		{"garbage", "127.0.0.1", []string{tokenHeader + ": planted-garbage"}, 401, "session_invalid", "session_malformed"},
		{"empty", "127.0.0.1", []string{tokenHeader + ":"}, 401, "session_invalid", "session_malformed"},
		{"two that differ", "127.0.0.1", []string{tokenHeader + ": " + mine, "X-Metaguard-Session: " + theirs}, 401, "session_invalid", "session_doubled"},
		{"twice", "127.0.0.1", []string{tokenHeader + ": " + mine, tokenHeader + ": " + mine}, 400, "header_refused", "header_identity_doubled"},
		{"named in Connection", "127.0.0.1", []string{tokenHeader + ": " + mine, "Connection: " + tokenHeader}, 400, "header_refused", "header_connection"},
		{"in Authorization", "127.0.0.1", []string{"Authorization: Bearer " + mine}, 401, "session_missing", "session_missing"},
		{"as a cookie", "127.0.0.1", []string{"Cookie: " + tokenHeader + "=" + mine}, 401, "session_missing", "session_missing"},
	}
	s.upstream.Forget()
	for _, test := range tests {
		answer := s.ask(t, test.from, "GET "+userData, test.lines...)
		if answer.Status != test.status || (test.status != 200 && reason(answer) != test.reason) {
			t.Errorf("%s: %d %q", test.name, answer.Status, answer.Body)
		}
		if strings.Contains(answer.Body, mine[:10]) || strings.Contains(answer.Body, "planted") {
			t.Errorf("%s: the answer shows the token: %q", test.name, answer.Body)
		}
	}
	for i, line := range s.decisions(t, len(tests)+2)[2:] {
		test := tests[i]
		if line["reason"] != test.reason || (test.code != "" && line["code"] != test.code) {
			t.Errorf("%s: %v", test.name, line)
		}
	}
	requests := s.upstream.Requests()
	if len(requests) != 4 {
		t.Errorf("the server saw %d requests", len(requests))
	}
	for _, text := range append(requests, s.Log()) {
		if lower := strings.ToLower(text); strings.Contains(lower, "x-aws-ec2") || strings.Contains(lower, "x-metaguard-session") ||
			strings.Contains(text, mine) || strings.Contains(text, theirs) || strings.Contains(text, mine[20:40]) || strings.Contains(text, "planted-garbage") {
			t.Error("a token went on or stands in the log")
		}
	}
	// The key lies in Caddy's storage, for its owner only.
	info, err := os.Stat(filepath.Join(s.Data, "caddy", "metaguard", "session.key"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 65 {
		t.Errorf("%v %v", info, err)
	}
}

func TestSessionExpires(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession required", nil)
	token := s.ask(t, "", "PUT /latest/api/token", ttlHeader+": 1").Body
	s.Eventually("the token ends", func() bool {
		answer := s.ask(t, "", "GET "+userData, tokenHeader+": "+token)
		return answer.Status == 401 && reason(answer) == "session_invalid"
	})
	s.Eventually("the log says why", func() bool { return strings.Contains(s.Log(), `"code":"session_expired"`) })
}

// A session is the policy's to ask for where it is optional; a token that is
// wrong is refused all the same. The policy sees the session, never the token.
func TestSessionOptional(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession optional", map[string]string{"policy/team.rego": `package metaguard.team

deny contains "user_data_in_a_session_only" if {
	input.resource.kind == "userdata"
	not input.session.valid
}

deny contains "too_old" if input.session.age_seconds > 60

deny contains "token_seen" if {
	some name, _ in input.request.headers
	contains(name, "token")
}
`})
	token := s.token(t, "")
	for _, test := range []struct {
		name, path, line string
		status           int
		session          string
	}{
		{"no token", "/openstack/latest/meta_data.json", "Accept: */*", 502, `"session":{"age_seconds":0,"present":false,"valid":false}`}, // no JSON
		{"no token, denied", userData, "Accept: */*", 403, `"session":{"age_seconds":0,"present":false,"valid":false}`},
		{"token", userData, tokenHeader + ": " + token, 200, `"session":{"age_seconds":`},
		{"wrong token", userData, tokenHeader + ": " + token[1:] + "A", 401, ""},
	} {
		answer := s.ask(t, "", "GET "+test.path, test.line)
		if answer.Status != test.status {
			t.Errorf("%s: %d %q", test.name, answer.Status, answer.Body)
		}
		id := answer.Header.Get("X-Metaguard-Decision")
		s.Eventually("the decision event", func() bool {
			return test.session == "" || strings.Contains(eventOf(s.Log(), id), test.session)
		})
		if test.name == "token" && !strings.Contains(eventOf(s.Log(), id), `"present":true,"valid":true`) {
			t.Error(eventOf(s.Log(), id))
		}
	}
}

func eventOf(log, id string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"msg":"decision event"`) && strings.Contains(line, id) {
			return line
		}
	}
	return ""
}

// In audit mode what a session refuses is forwarded and published.
func TestSessionInAuditMode(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nmode audit\nsession required", map[string]string{"policy/team.rego": `package metaguard.team

deny contains "no_network" if input.resource.kind == "network"
`})
	token := s.token(t, "")
	tests := []struct {
		name, path, line string
		status           int
		verdict, reason  string
	}{
		{"token", userData, tokenHeader + ": " + token, 200, "allow", "policy_allow"},
		{"no token", userData, "Accept: */*", 200, "would_deny", "session_missing"},
		{"wrong token", userData, tokenHeader + ": x", 200, "would_deny", "session_invalid"},
		{"no token and no right", "/openstack/latest/network_data.json", "Accept: */*", 200, "would_deny", "session_missing"},
		{"token and no right", "/openstack/latest/network_data.json", tokenHeader + ": " + token, 200, "would_deny", "policy_deny"},
		{"not forwarded", "/openstack/latest/user_data?x=1", "Accept: */*", 400, "deny", "request_ambiguous"},
		{"password", "/openstack/latest/password", "Accept: */*", 200, "would_deny", "session_missing"},
	}
	s.upstream.Script(func(request string) string {
		if strings.Contains(request, "/password ") {
			return harness.OK("")
		}
		return harness.OK("{}")
	})
	for _, test := range tests {
		answer := s.ask(t, "", "GET "+test.path, test.line)
		if answer.Status != test.status {
			t.Errorf("%s: %d %q", test.name, answer.Status, answer.Body)
		}
	}
	for i, line := range s.decisions(t, len(tests)+1)[1:] {
		test := tests[i]
		if line["verdict"] != test.verdict || line["reason"] != test.reason {
			t.Errorf("%s: %v", test.name, line)
		}
		if test.verdict == "would_deny" && line["outcome"] != "forwarded" {
			t.Errorf("%s: %v", test.name, line)
		}
		id, _ := line["decision_id"].(string)
		if event := eventOf(s.Log(), id); test.reason == "session_invalid" && (!strings.Contains(event, `"present":true,"valid":false`) || !strings.Contains(event, "would_deny")) {
			t.Errorf("%s: %s", test.name, event)
		}
	}
	// Tokens are given in audit mode, too, but not to a request that says it was
	// passed on.
	if answer := s.ask(t, "", "PUT /latest/api/token", ttlHeader+": 60", "X-Forwarded-For: a"); answer.Status != 403 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}

func TestSessionOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, nil)
	if answer := s.ask(t, "", "PUT /latest/api/token", ttlHeader+": 60"); answer.Status != 405 || answer.Header.Get("Allow") == "PUT" {
		t.Errorf("%+v", answer)
	}
	if answer := s.ask(t, "", "GET "+userData, tokenHeader+": x"); answer.Status != 200 {
		t.Errorf("%+v", answer)
	}
}

// Anonymous callers share a token by grant only, and a policy can refuse one.
func TestSessionTokenByPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t, "identify remote_ip inventory.json\nidentify anonymous\n"+policyDirectory+"\nsession required", map[string]string{
		"policy/team.rego": `package metaguard.team

deny contains "no_token_for_two" if {
	input.resource.kind == "token"
	input.resource.action == "write"
	endswith(input.caller.instance_id, "2")
}
`,
	})
	for from, status := range map[string]int{"127.0.0.1": 200, "127.0.0.2": 403, "127.0.0.3": 403} {
		if answer := s.ask(t, from, "PUT /latest/api/token", ttlHeader+": 60"); answer.Status != status {
			t.Errorf("%s: %d %q", from, answer.Status, answer.Body)
		}
	}
}

func TestRequireHeader(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nsession optional\nrequire_header Metadata-Flavor Google", nil)
	for line, status := range map[string]int{
		"Metadata-Flavor: Google":                            200,
		"metadata-flavor: google":                            200,
		"Metadata-Flavor: Googles":                           400,
		"Metadata-Flavor:":                                   400,
		"Metadata-Flavor: Google, Google":                    400,
		"Metadata-Flavor: Google\r\nMetadata-Flavor: Google": 400,
		"Metadata: true":                                     400,
		"Metadata_Flavor: Google":                            400,
	} {
		answer := s.ask(t, "", "GET "+userData, line)
		if answer.Status != status || (status == 400 && reason(answer) != "header_refused") {
			t.Errorf("%q: %d %q", line, answer.Status, answer.Body)
		}
	}
	if answer := s.ask(t, "", "PUT /latest/api/token", ttlHeader+": 60"); answer.Status != 400 {
		t.Errorf("a token without the header: %d", answer.Status)
	}
}

// Tokens outlive a reload, a restart and a change of settings that do not
// concern them.
func TestSessionOutlivesReload(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress+"\nsession required", nil)
	token := m.token(t, "")
	right := func(want int) {
		t.Helper()
		if answer := m.site.ask(t, "", "GET "+userData, tokenHeader+": "+token); answer.Status != want {
			t.Errorf("%d %q, want %d", answer.Status, answer.Body, want)
		}
	}
	right(200)
	m.edit(t, "Caddyfile", "session required", "session required {\n\thop_limit 5\n}\n\t\tdeny_status 404")
	if output, err := m.reload(t); err != nil {
		t.Fatal(output)
	}
	m.Eventually("the new configuration", func() bool {
		return strings.Contains(m.admin.Get(t, "/config/"), "hop_limit")
	})
	right(200)
	m.Stop()
	m.Run(m.address)
	right(200)
	m.edit(t, "Caddyfile", "hop_limit 5", "max_ttl 1s")
	if output, err := m.reload(t); err != nil {
		t.Fatal(output)
	}
	m.Eventually("older tokens end with a shorter max_ttl", func() bool {
		return m.site.ask(t, "", "GET "+userData, tokenHeader+": "+token).Status == 401
	})
}

// Replicas with one key take each other's tokens, also while it is rotated; a
// site on another port does not.
func TestSessionReplicas(t *testing.T) {
	t.Parallel()
	const one, two = "planted-session-key-one-0123456789", "planted-session-key-two-0123456789"
	port := harness.FreePort(t)
	start := func(host, keys string) *site {
		s := prepareSite(t, byAddress+"\nsession required {\n\tkey "+keys+"\n}", nil)
		s.Setenv("KEY_ONE", one)
		s.Setenv("KEY_TWO", two)
		_, old, _ := strings.Cut(s.address, ":")
		s.edit(t, "Caddyfile", "http://:"+old, fmt.Sprintf("http://:%d", port))
		s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind "+host)
		s.address = fmt.Sprintf("%s:%d", host, port)
		s.Run(s.address)
		return s
	}
	before, during, after := start("127.0.0.1", "{env.KEY_ONE}"), start("127.0.0.8", "{env.KEY_TWO} {env.KEY_ONE}"), start("127.0.0.9", "{env.KEY_TWO}")
	old, fresh := before.token(t, "127.0.0.1"), during.token(t, "127.0.0.1")
	for _, test := range []struct {
		at     *site
		token  string
		status int
	}{
		{before, old, 200},
		{during, old, 200},
		{after, old, 401},
		{before, fresh, 401},
		{during, fresh, 200},
		{after, fresh, 200},
	} {
		if answer := test.at.ask(t, "127.0.0.1", "GET "+userData, tokenHeader+": "+test.token); answer.Status != test.status {
			t.Errorf("%s: %d %q", test.at.address, answer.Status, answer.Body)
		}
	}
	port = harness.FreePort(t)
	elsewhere := start("127.0.0.1", "{env.KEY_ONE}")
	if answer := elsewhere.ask(t, "127.0.0.1", "GET "+userData, tokenHeader+": "+old); answer.Status != 401 {
		t.Errorf("another site takes the token: %d", answer.Status)
	}
	for _, s := range []*site{before, during, after, elsewhere} {
		if log := s.Log(); strings.Contains(log, one) || strings.Contains(log, two) || strings.Contains(log, old) {
			t.Error("a key or a token is in the log")
		}
		if _, err := os.Stat(filepath.Join(s.Data, "caddy", "metaguard", "session.key")); err == nil {
			t.Error("a key was made where one is given")
		}
	}
}

// Storage that cannot be written refuses tokens, and nothing else.
func TestSessionKeyCannotBeKept(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress+"\nsession optional", nil)
	if err := os.MkdirAll(filepath.Join(s.Data, "caddy", "metaguard", "session.key"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.Run(s.address)
	for _, lines := range [][]string{{"PUT /latest/api/token", ttlHeader + ": 60"}, {"GET " + userData, tokenHeader + ": " + strings.Repeat("A", 76)}} {
		start := time.Now()
		answer := s.ask(t, "", lines[0], lines[1:]...)
		if answer.Status != 503 || reason(answer) != "identity_unavailable" || time.Since(start) > 10*time.Second {
			t.Errorf("%d %q", answer.Status, answer.Body)
		}
	}
	if answer := s.ask(t, "", "GET "+userData); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}
