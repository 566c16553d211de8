// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// Nothing reaches the server without an identity and an allow (I1), and every
// refusal says why in one line and one header.
func TestRefusals(t *testing.T) {
	s := newSite(t, byAddress, nil)
	tests := []struct {
		name, from, request string
		status              int
		reason              string
	}{
		{"dot segment", "", "GET /openstack/../openstack/latest/password HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"encoded slash", "", "GET /openstack%2flatest/password HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"past a cleaned path", "", "GET /openstack//../latest/password HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"absolute form", "", "GET http://m/openstack/latest/password HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"query", "", "GET /openstack/latest/password?x=1 HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"unknown caller", "127.0.0.9", "GET /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 401, "identity_missing"},
		{"PUT", "", "PUT /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\nx", 405, "method_not_allowed"},
		{"OPTIONS", "", "OPTIONS /openstack/latest/password HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"POST elsewhere", "", "POST /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\nx", 405, "method_not_allowed"},
		{"GET with a body", "", "GET /openstack HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\nx", 400, "body_unexpected"},
		{"upgrade", "", "GET /openstack HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400, "header_refused"},
		{"method override", "", "GET /openstack HTTP/1.1\r\nHost: m\r\nX-HTTP-Method-Override: POST\r\n\r\n", 400, "header_refused"},
		{"unknown path", "", "GET /secret HTTP/1.1\r\nHost: m\r\n\r\n", 404, "policy_deny"},
		{"empty password", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n", 400, "password_empty"},
		{"no length", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\n\r\n", 400, "password_empty"},
		{"too long", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 1021\r\n\r\n" + strings.Repeat("x", 1021), 413, "body_too_large"},
		{"too long, chunked", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n3fd\r\n" + strings.Repeat("x", 1021) + "\r\n0\r\n\r\n", 413, "body_too_large"},
		{"not UTF-8", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\n\r\n\xff", 400, "body_unreadable"},
		{"bad chunk", "", "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "body_incomplete"},
	}
	id := regexp.MustCompile(`^[0-9a-f-]{36}$`)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer := harness.RawFrom(t, test.from, s.address, test.request)
			if answer.Status != test.status || reason(answer) != test.reason {
				t.Errorf("got %d %q %v, want %d %s", answer.Status, answer.Body, answer.Err, test.status, test.reason)
			}
			if strings.Count(answer.Body, "\n") != 1 || !id.MatchString(answer.Header.Get("X-Metaguard-Decision")) {
				t.Errorf("a refusal is one line and names its decision: %q %v", answer.Body, answer.Header)
			}
			if test.status == 405 && answer.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
	if lines := s.decisions(t, len(tests)); len(lines) != len(tests) {
		t.Errorf("%d requests, %d decision-log lines", len(tests), len(lines))
	}
}

// What goes upstream is rebuilt: nothing of the client's but what is on the
// list, one identity, one X-Forwarded-For (I2).
func TestUpstreamSeesTheCanonicalRequest(t *testing.T) {
	s := newSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	hostile := "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.9.9.9\r\n" +
		"X-Real-IP: 10.9.9.9\r\nX_Instance_ID: evil\r\nCookie: a=b\r\nAuthorization: Basic eDp5\r\nRange: bytes=0-1\r\n" +
		"Accept-Encoding: gzip\r\nIdempotency-Key: 1\r\nVia: 1.0 evil\r\nTE: trailers\r\nX-Evil: yes\r\n"
	answer := harness.Raw(t, s.address, "GET //openstack///latest/%6deta_data.json HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: probe/1\r\nAccept: */*\r\n"+hostile+"\r\n")
	if answer.Status != 502 { // the scripted server's text is no JSON
		t.Errorf("got %d %q", answer.Status, answer.Body)
	}
	requests := s.upstream.Requests()
	if len(requests) != 1 {
		t.Fatalf("the server saw %d requests: %q", len(requests), requests)
	}
	head := strings.Split(strings.TrimSuffix(requests[0], "\r\n\r\n"), "\r\n")
	if head[0] != "GET /openstack/latest/meta_data.json HTTP/1.1" {
		t.Errorf("request line %q", head[0])
	}
	got := head[1:]
	slices.Sort(got)
	signature := "" // checked by its length: the value is nobody's business
	for i, line := range got {
		if value, found := strings.CutPrefix(line, "X-Instance-Id-Signature: "); found {
			signature, got[i] = value, "X-Instance-Id-Signature: …"
		}
	}
	want := []string{
		"Accept-Encoding: identity", "Accept: */*", "Connection: close", "Host: " + s.upstream.Address,
		"User-Agent: probe/1", "Via: 1.1 Caddy", "X-Forwarded-For: 127.0.0.1",
		"X-Instance-Id-Signature: …", "X-Instance-Id: " + instance1, "X-Tenant-Id: " + projectA,
	}
	slices.Sort(want)
	if !slices.Equal(got, want) || len(signature) != 64 {
		t.Errorf("the server saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if log := s.Log(); strings.Contains(log, secret) {
		t.Error("the shared secret is in the log")
	}
}

// A chunked body arrives as one with a length, whole.
func TestChunkedWriteArrivesWhole(t *testing.T) {
	s := newSite(t, byAddress, nil)
	answer := harness.Raw(t, s.address, "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"+
		"2;ext=1\r\npa\r\n6\r\nssword\r\n0\r\nX-T: evil\r\n\r\n")
	if answer.Status != 200 {
		t.Fatalf("got %d %q", answer.Status, answer.Body)
	}
	for name, want := range map[string]string{"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	request := s.upstream.Requests()[0]
	if !strings.HasSuffix(request, "\r\n\r\npassword") || strings.Count(request, "Content-Length: 8\r\n") != 1 ||
		strings.Contains(request, "Transfer-Encoding") || strings.Contains(request, "X-T") || strings.Contains(request, "Trailer") {
		t.Errorf("the server saw %q", request)
	}
}

// A caller that may write its password but not read it gets an empty answer,
// and the server is not asked.
func TestPasswordReadIsEmptyWithoutAGrant(t *testing.T) {
	s := newSite(t, byAddress, nil)
	for _, path := range []string{"/openstack/latest/password", "/openstack/2013-04-04/password/", "//openstack/latest/%70assword"} {
		answer := s.get(t, path)
		if answer.Status != 200 || answer.Body != "" || answer.Header.Get("Content-Length") != "0" {
			t.Errorf("%s: %d %q %v", path, answer.Status, answer.Body, answer.Header)
		}
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}

// A first password stays: the second writer gets 409 at once, whatever the
// server would say, also after a crash and a restart.
func TestPasswordIsWrittenOnce(t *testing.T) {
	s := newSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	if answer := s.post(t, "", "first"); answer.Status != 200 {
		t.Fatalf("got %d %q", answer.Status, answer.Body)
	}
	for range 3 {
		if answer := s.post(t, "", "second"); answer.Status != http.StatusConflict || reason(answer) != "password_already_set" {
			t.Fatalf("got %d %q", answer.Status, answer.Body)
		}
		s.Kill()
		s.Run(s.address)
	}
	if answer := s.post(t, "127.0.0.2", "another's"); answer.Status != 200 {
		t.Errorf("another instance has a password of its own: %d %q", answer.Status, answer.Body)
	}
	s.upstream.Script(func(string) string { return harness.OK("first") })
	if answer := s.get(t, "/openstack/latest/password"); answer.Status != 200 || answer.Body != "first" {
		t.Errorf("read back: %d %q", answer.Status, answer.Body)
	}
	s.upstream.Script(func(string) string { return harness.OK("forged") })
	if answer := s.get(t, "/openstack/latest/password"); answer.Status != 502 || reason(answer) != "password_mismatch" {
		t.Errorf("what was not written: %d %q", answer.Status, answer.Body)
	}
	if log := s.Log(); strings.Contains(log, "forged") || strings.Contains(log, "another's") {
		t.Error("a password is in the log")
	}
}

// What the server says decides what becomes of a reservation.
func TestPasswordOutcomes(t *testing.T) {
	s := newSite(t, byAddress, nil)
	for _, test := range []struct {
		server         string
		status         int
		reason         string
		secondSeen     bool // the second write reaches the server
		secondsReason  string
		freshDirectory string
	}{
		{server: "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", status: 400, secondSeen: true},
		{server: "HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n", status: 409, secondsReason: "password_already_set"},
		{server: "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", status: 500, secondsReason: "password_write_pending"},
		{server: "", status: 502, reason: "response_incomplete", secondsReason: "password_write_pending"},
		{server: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", status: 502, reason: "response_incomplete", secondsReason: "password_write_pending"},
		{server: "HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", status: 502, reason: "upstream_redirect", secondsReason: "password_write_pending"},
	} {
		s.Stop()
		s.Data = t.TempDir()
		fresh := prepareSite(t, byAddress, nil)
		fresh.Run(fresh.address)
		fresh.upstream.Script(func(string) string { return test.server })
		answer := fresh.post(t, "", "first")
		if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason) {
			t.Errorf("%q: %d %q, want %d %s", test.server, answer.Status, answer.Body, test.status, test.reason)
		}
		before := len(fresh.upstream.Requests())
		answer = fresh.post(t, "", "second")
		if seen := len(fresh.upstream.Requests()) > before; seen != test.secondSeen {
			t.Errorf("%q: the second write reached the server: %t", test.server, seen)
		}
		if test.secondsReason != "" && (answer.Status != 409 || reason(answer) != test.secondsReason) {
			t.Errorf("%q: then %d %q, want 409 %s", test.server, answer.Status, answer.Body, test.secondsReason)
		}
		fresh.Stop()
	}
}

// Listings lose what the same caller could not read; JSON documents lose
// admin_pass and every key that only begins like a password's.
func TestRedaction(t *testing.T) {
	s := newSite(t, byAddress, nil)
	s.upstream.Script(func(request string) string {
		if strings.HasPrefix(request, "GET /openstack/latest/ ") {
			return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nmeta_data.json\nuser_data\npassword\nvendor_data.json" // ends at close
		}
		return harness.OK(`{"uuid": "x", "meta": {"admin_pass": "p1", "a": 1.10, "admin\u005fpass":"p2"}, "password_0": "c0", "password_evil": "p3", "password_10": "p4", "n": 12345678901234567890}`)
	})
	if answer := s.get(t, "/openstack/latest/"); answer.Status != 200 || answer.Body != "meta_data.json\nuser_data\nvendor_data.json" || answer.Header.Get("Content-Length") == "" {
		t.Errorf("listing: %d %q %v", answer.Status, answer.Body, answer.Header)
	}
	answer := s.get(t, "/openstack/latest/meta_data.json")
	want := `{"uuid": "x", "meta": {"a": 1.10}, "password_0": "c0", "n": 12345678901234567890}`
	if answer.Status != 200 || strings.Join(strings.Fields(answer.Body), "") != strings.Join(strings.Fields(want), "") {
		t.Errorf("document: %d %s", answer.Status, answer.Body)
	}
	lines := s.decisions(t, 2)
	if got := fmt.Sprint(lines[1]["removed"], lines[1]["removed_password_keys"]); got != "4 2" {
		t.Errorf("removed %s, want 4 2", got)
	}
}

// Answers are whole or not at all.
func TestAnswers(t *testing.T) {
	s := newSite(t, byAddress+"\nresponse {\n\tmax_buffer 1KiB\n}", nil)
	for _, test := range []struct {
		name, server string
		status       int
		body, reason string
	}{
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n", 200, "xyz", ""},
		{"close-delimited", "HTTP/1.1 200 OK\r\n\r\nxyz", 200, "xyz", ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nxyz", 200, "xyz", ""},
		{"informational first", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz", 200, "xyz", ""},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxyz", 502, "", "response_incomplete"},
		{"last chunk missing", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n", 502, "", "response_incomplete"},
		{"nothing", "", 502, "", "response_incomplete"},
		{"no HTTP", "hello\r\n\r\n", 502, "", "response_incomplete"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nxyzz", 502, "", "response_incomplete"},
		{"redirect", "HTTP/1.1 301 Moved\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", 502, "", "upstream_redirect"},
		{"gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz", 502, "", "response_unreadable"},
		{"partial", "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nxyz", 502, "", "response_unreadable"},
		{"upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502, "", ""},
		{"declared too large", "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nxyz", 502, "", "response_too_large"},
		{"too large", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 5000), 502, "", "response_too_large"},
		{"not found", "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nxyz", 404, "Not Found\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.upstream.Script(func(string) string { return test.server })
			for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
				answer := harness.Raw(t, s.address, "GET /openstack/latest/user_data "+version+"\r\nHost: m\r\n\r\n")
				if answer.Err != nil || answer.Status != test.status || (test.body != "" && answer.Body != test.body) ||
					(test.reason != "" && reason(answer) != test.reason) {
					t.Errorf("%s: %d %q %v, want %d %q %s", version, answer.Status, answer.Body, answer.Err, test.status, test.body, test.reason)
				}
				if answer.Header.Get("Content-Length") == "" || strings.Contains(answer.Body, "xyz") && test.status != 200 {
					t.Errorf("%s: %v %q", version, answer.Header, answer.Body)
				}
			}
			head := harness.Raw(t, s.address, "HEAD /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\n\r\n")
			if head.Status != test.status || head.Body != "" {
				t.Errorf("HEAD: %d %q", head.Status, head.Body)
			}
		})
	}
}

// A refusal does not wait for a body that nobody reads.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	s := newSite(t, byAddress+"\nbody_timeout 60s", nil)
	for _, request := range []string{
		"POST /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n\r\n",
		"POST /openstack/../latest/password HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 10000000\r\n\r\n",
	} {
		answer := harness.Raw(t, s.address, request) // which gives up after 30 s
		if answer.Err != nil || answer.Status < 400 {
			t.Errorf("%q: %d %v %v", request, answer.Status, answer.Header, answer.Err)
		}
	}
}

// A body that comes too slowly ends the request, in time and with its reason.
func TestBodyTimeout(t *testing.T) {
	s := newSite(t, byAddress+"\nbody_timeout 200ms", nil)
	answer := harness.Raw(t, s.address, "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\nContent-Length: 10\r\n\r\nabc")
	if answer.Status != http.StatusRequestTimeout || reason(answer) != "body_timeout" {
		t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}
