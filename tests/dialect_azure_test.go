// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/azureserver"
	"github.com/metaguard/metaguard/tests/harness"
)

const (
	azureVersion   = "?api-version=2021-02-01"
	azureTokenPath = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F"
	azureMetadata  = "Metadata: true"
)

// newAzureSite is newSite in front of Azure's service.
func newAzureSite(t *testing.T, settings string, files map[string]string) *site {
	t.Helper()
	s := prepareSite(t, settings, files)
	s.upstream.Script(azureserver.Answer)
	s.Write("Caddyfile", strings.Replace(caddyfile(s.address, s.upstream.Address, settings), "dialect openstack", "dialect azure", 1))
	s.Run(s.address)
	return s
}

func TestAzureRequests(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, nil)
	for _, test := range []struct {
		name, first string
		lines       []string
		status      int
		reason      string
	}{
		{"versions", "GET /metadata/versions", nil, 200, ""},
		{"instance", "GET /metadata/instance" + azureVersion, nil, 200, ""},
		{"slash at the end", "GET /metadata/instance/" + azureVersion, nil, 200, ""},
		{"two slashes", "GET //metadata//instance" + azureVersion, nil, 200, ""},
		{"escaped letters", "GET /%6detadata/instance" + azureVersion, nil, 200, ""},
		{"HEAD", "HEAD /metadata/instance" + azureVersion, nil, 200, ""},
		{"part", "GET /metadata/instance/compute/osProfile" + azureVersion, nil, 200, ""},
		{"value", "GET /metadata/instance/compute/vmId" + azureVersion + "&format=text", nil, 200, ""},
		{"value as a document", "GET /metadata/instance/compute/vmId" + azureVersion, nil, 400, ""}, // the server's own
		{"listing", "GET /metadata/instance" + azureVersion + "&format=text", nil, 200, ""},
		{"user data", "GET /metadata/instance/compute/userData" + azureVersion + "&format=text", nil, 200, ""},
		{"element", "GET /metadata/instance/network/interface/0" + azureVersion, nil, 200, ""},
		{"no such element", "GET /metadata/instance/network/interface/7" + azureVersion, nil, 404, ""},
		{"load balancer", "GET /metadata/loadbalancer" + azureVersion, nil, 200, ""},
		{"tenant", "GET /metadata/identity/info" + azureVersion, nil, 200, ""},
		{"events", "GET /metadata/scheduledevents" + azureVersion, nil, 200, ""},
		{"no version", "GET /metadata/instance", nil, 400, ""},
		{"a version that is none", "GET /metadata/instance?api-version=latest", nil, 400, ""},

		{"access token", "GET " + azureTokenPath, nil, 403, "policy_deny"},
		{"signed document", "GET /metadata/attested/document" + azureVersion, nil, 403, "policy_deny"},
		{"machine's secrets", "GET /metadata/reprovisiondata" + azureVersion, nil, 403, "policy_deny"},
		{"approval of an event", "POST /metadata/scheduledevents" + azureVersion, []string{"Content-Length: 2\r\n\r\n{}"}, 403, "policy_deny"},
		{"unknown", "GET /metadata/nothing" + azureVersion, nil, 404, "policy_deny"},
		{"user data in other letters", "GET /metadata/instance/compute/USERDATA" + azureVersion + "&format=text", nil, 404, "policy_deny"},
		{"another server's path", "GET /machine?comp=goalstate", nil, 400, "request_ambiguous"},

		{"POST", "POST /metadata/instance" + azureVersion, []string{"Content-Length: 0"}, 405, "method_not_allowed"},
		{"POST of a token", "POST " + azureTokenPath, []string{"Content-Length: 0"}, 405, "method_not_allowed"},
		{"PUT", "PUT /metadata/scheduledevents" + azureVersion, []string{"Content-Length: 0"}, 405, "method_not_allowed"},
		{"OPTIONS", "OPTIONS /metadata/versions", nil, 405, "method_not_allowed"},
		{"body", "GET /metadata/instance" + azureVersion, []string{"Content-Length: 1\r\n\r\nx"}, 400, "body_unexpected"},
		{"dot segments", "GET /metadata/versions/../instance" + azureVersion, nil, 400, "request_ambiguous"},
		{"escaped slash", "GET /metadata%2Finstance" + azureVersion, nil, 400, "request_ambiguous"},
		{"version twice", "GET /metadata/instance" + azureVersion + "&api-version=2019-06-01", nil, 400, "request_ambiguous"},
		{"version twice, escaped", "GET /metadata/instance" + azureVersion + "&%61pi-version=2019-06-01", nil, 400, "request_ambiguous"},
		{"query of nobody", "GET /metadata/instance" + azureVersion + "&x=1", nil, 400, "request_ambiguous"},
		{"format of nobody", "GET /metadata/instance" + azureVersion + "&format=xml", nil, 400, "request_ambiguous"},
		{"format in other letters", "GET /metadata/instance" + azureVersion + "&format=TEXT", nil, 400, "request_ambiguous"},
		{"format twice", "GET /metadata/instance" + azureVersion + "&format=json&format=text", nil, 400, "request_ambiguous"},
		{"token as text", "GET " + azureTokenPath + "&format=text", nil, 400, "request_ambiguous"},

		{"proxy", "GET /metadata/versions", []string{"X-Forwarded-For: 10.0.0.9"}, 400, "header_refused"},
		{"proxy for nobody", "GET /metadata/versions", []string{"X-Forwarded-For:"}, 400, "header_refused"},
		{"Forwarded", "GET /metadata/versions", []string{"Forwarded: for=10.0.0.9"}, 400, "header_refused"},
		{"Metadata twice", "GET /metadata/versions", []string{azureMetadata}, 400, "header_refused"},
	} {
		s.upstream.Forget()
		lines := append([]string{azureMetadata}, test.lines...)
		answer := s.ask(t, "127.0.0.1", test.first, lines...)
		if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason && test.first[:4] != "HEAD") {
			t.Errorf("%s: %d %q, want %d %s", test.name, answer.Status, answer.Body, test.status, test.reason)
		}
		requests := s.upstream.Requests()
		if test.reason != "" && len(requests) != 0 || test.reason == "" && len(requests) != 1 {
			t.Errorf("%s: the server saw %q", test.name, requests)
		}
		for _, request := range requests {
			if strings.Contains(request, "X-Forwarded") || strings.Count(request, "Metadata: true\r\n") != 1 || !strings.Contains(request, "Host: "+s.upstream.Address) {
				t.Errorf("%s: the server saw %q", test.name, request)
			}
		}
	}
	for name, line := range map[string]string{"no header": "Accept: */*", "false": "Metadata: false", "empty": "Metadata:", "other name": "Metadata-Flavor: Google"} {
		s.upstream.Forget()
		if answer := s.ask(t, "127.0.0.1", "GET /metadata/versions", line); answer.Status != 400 || reason(answer) != "header_refused" || len(s.upstream.Requests()) != 0 {
			t.Errorf("%s: %d %q", name, answer.Status, answer.Body)
		}
	}
	if answer := s.ask(t, "127.0.0.1", "GET /metadata/versions", "metadata: TRUE"); answer.Status != 200 {
		t.Errorf("in other letters: %d %q", answer.Status, answer.Body)
	}
	if log := s.Log(); strings.Contains(log, "PLANTED") {
		t.Error("the log shows what was answered")
	}
}

// Credentials of another instance, of an unidentified caller and of a caller
// without a session are refused.
func TestAzureCredentials(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress+"\nsession optional", map[string]string{"policy/data.json": grant(instance2, "credentials:read")})
	token := func(from string) string {
		answer := s.ask(t, from, "PUT /metaguard/session", azureMetadata, "X-Metaguard-Session-Ttl-Seconds: 60", "Content-Length: 0")
		if answer.Status != 200 {
			t.Fatalf("no session: %d %q", answer.Status, answer.Body)
		}
		return "X-Metaguard-Session: " + answer.Body
	}
	own, foreign := token("127.0.0.1"), token("127.0.0.2")
	for _, path := range []string{azureTokenPath, "/metadata/attested/document" + azureVersion} {
		for _, test := range []struct {
			name, from, session string
			status              int
			reason              string
		}{
			{"no session, no grant", "127.0.0.1", "", 403, "policy_deny"},
			{"session", "127.0.0.1", own, 200, ""},
			{"grant", "127.0.0.2", "", 200, ""},
			{"another's session", "127.0.0.1", foreign, 401, "session_invalid"},
			{"a session that is none", "127.0.0.1", "X-Metaguard-Session: x", 401, "session_invalid"},
			{"nobody", "127.0.0.9", "", 401, "identity_missing"},
			{"nobody with a session", "127.0.0.9", own, 401, "identity_missing"},
		} {
			s.upstream.Forget()
			lines := []string{azureMetadata}
			if test.session != "" {
				lines = append(lines, test.session)
			}
			answer := s.ask(t, test.from, "GET "+path, lines...)
			if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason) || (test.status == 200) != strings.Contains(answer.Body, "PLANTED") {
				t.Errorf("%s, %s: %d %q", path, test.name, answer.Status, answer.Body)
			}
			requests := s.upstream.Requests()
			if (len(requests) == 1) != (test.status == 200) || strings.Contains(strings.Join(requests, ""), "ession") {
				t.Errorf("%s, %s: the server saw %q", path, test.name, requests)
			}
		}
	}
	if log := s.Log(); strings.Contains(log, "PLANTED") {
		t.Error("the log shows a token")
	}
}

// A caller that is no instance gets nothing of one, though its target is known.
func TestAzureOfAnother(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, "identify process {\n\ttarget remote_ip inventory.json\n}\n"+policyDirectory, nil)
	for _, path := range []string{azureTokenPath, "/metadata/attested/document" + azureVersion, "/metadata/instance" + azureVersion} {
		if answer := s.ask(t, "127.0.0.2", "GET "+path, azureMetadata); answer.Status != 403 || reason(answer) != "policy_deny" {
			t.Errorf("%s: %d %q", path, answer.Status, answer.Body)
		}
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}

// What a policy allows of scheduled events goes through with its body.
func TestAzureApproval(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, map[string]string{"policy/team.rego": `package metaguard.team

allow contains "approver" if {
	input.resource.key == "scheduledevents"
	input.resource.action == "write"
	input.caller.instance_id == "` + instance1 + `"
}
`})
	const body = `{"StartRequests": [{"EventId": "C7061BAC-AFDC-4513-B24B-AA5F13A16123"}]}`
	approve := func(from string) harness.Answer {
		return harness.RawFrom(t, from, s.address, fmt.Sprintf("POST /metadata/scheduledevents%s HTTP/1.1\r\nHost: m\r\nMetadata: true\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", azureVersion, len(body), body))
	}
	if answer := approve("127.0.0.1"); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if answer := approve("127.0.0.2"); answer.Status != 403 {
		t.Errorf("another: %d %q", answer.Status, answer.Body)
	}
	requests := s.upstream.Requests()
	if len(requests) != 1 || !strings.HasSuffix(requests[0], "\r\n\r\n"+body) || !strings.Contains(requests[0], "Content-Type: application/json\r\n") {
		t.Errorf("the server saw %q", requests)
	}
}

// The shipped Caddyfile.
func TestAzureCaddyfile(t *testing.T) {
	t.Parallel()
	s := prepareShipped(t, "azure", ":80", nil)
	s.upstream.Script(azureserver.Answer)
	s.Run(s.address)
	ask := func(path, headers string) harness.Answer {
		return harness.Raw(t, s.address, "GET "+path+" HTTP/1.1\r\nHost: 169.254.169.254\r\n"+headers+"\r\n")
	}
	if answer := ask("/metadata/instance"+azureVersion, azureMetadata+"\r\n"); answer.Status != 200 || !strings.Contains(answer.Body, `"vmId"`) {
		t.Errorf("instance: %d %q", answer.Status, answer.Body)
	}
	if answer := ask(azureTokenPath, azureMetadata+"\r\n"); answer.Status != 403 {
		t.Errorf("token: %d %q", answer.Status, answer.Body)
	}
	if answer := ask("/metadata/versions", ""); answer.Status != 400 {
		t.Errorf("without the header: %d %q", answer.Status, answer.Body)
	}
	s.Write("azure/policy/data.json", grant(instance1, "credentials:read"))
	s.Eventually("the grant is live", func() bool { return ask(azureTokenPath, azureMetadata+"\r\n").Status == 200 })
}
