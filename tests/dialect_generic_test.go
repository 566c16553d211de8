// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// homegrown is a server as somebody might have written it in an afternoon: it
// knows callers by X-Forwarded-For and gives everyone everything, and what it
// says of errors is a page.
type homegrown struct {
	mu        sync.Mutex
	passwords map[string]string
}

func (h *homegrown) answer(request string) string {
	head, body, _ := strings.Cut(request, "\r\n\r\n")
	method, rest, _ := strings.Cut(head, " ")
	target, _, _ := strings.Cut(rest, " ")
	path, query, _ := strings.Cut(target, "?")
	_, caller, _ := strings.Cut(head, "X-Forwarded-For: ")
	caller, _, _ = strings.Cut(caller, "\r\n")
	h.mu.Lock()
	defer h.mu.Unlock()
	switch method + " " + strings.TrimSuffix(path, "/") {
	case "GET /v1":
		return harness.OK("metadata\nuser-data\ncredentials/\npassword\nevents\nnotes\nbackup\n")
	case "GET /v1/metadata":
		return harness.OK(`{"name": "web-1", "query": "` + query + `", "admin_pass": "PLANTED"}`)
	case "GET /v1/user-data":
		return harness.OK("#cloud-config\n")
	case "GET /v1/credentials/main":
		return harness.OK("PLANTED-key")
	case "GET /v1/password":
		return harness.OK(h.passwords[caller])
	case "POST /v1/password":
		h.passwords[caller] = body
		return harness.OK("")
	case "GET /v1/all":
		return harness.OK(`{"v1": {"metadata": {"name": "web-1"}, "credentials": {"main": "PLANTED"}, "password": "PLANTED", "backup": "PLANTED"}}`)
	case "POST /v1/events", "PUT /v1/events", "DELETE /v1/events":
		return "HTTP/1.1 200 OK\r\nX-Theirs: kept\r\nX-Other: dropped\r\nContent-Length: 0\r\n\r\n"
	}
	return "HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n<h1>PLANTED</h1>\r\n"
}

// described is the home-grown server with all that it has.
const described = `dialect generic {
	resource listing /{version}
	resource metadata /{version}/metadata {
		json
	}
	resource userdata /{version}/user-data
	resource credentials /{version}/credentials/*
	resource password /{version}/password {
		action read
		action write POST
	}
	resource metadata /{version}/events {
		action write POST PUT DELETE
		json
	}
	resource metadata /all {
		tree
	}
	passwords {
		max_size 100
		cache 15s
	}
	query format json
	headers X-Own
	answer_headers X-Theirs
}`

func newGenericSite(t *testing.T, dialect, settings string, files map[string]string) *site {
	t.Helper()
	s := prepareSite(t, settings, files)
	s.upstream.Script((&homegrown{passwords: make(map[string]string)}).answer)
	s.Write("Caddyfile", strings.Replace(caddyfile(s.address, s.upstream.Address, settings), "dialect openstack", dialect, 1))
	s.Run(s.address)
	return s
}

func TestGenericRequests(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, described, byAddress+"\nsession optional", map[string]string{"policy/team.rego": `package metaguard.team

allow contains "events" if {
	input.resource.key == "events"
	input.caller.instance_id == "` + instance1 + `"
}
`})
	const own = "X-Own: mine"
	for _, test := range []struct {
		name, first, line string
		status            int
		reason, body      string
	}{
		{"listing hides what would be refused", "GET /v1", own, 200, "", "metadata\nuser-data\n"},
		{"listing with a slash", "GET /v1/", own, 200, "", "metadata\nuser-data\n"},
		{"document", "GET /v1/metadata", own, 200, "", `{"name": "web-1", "query": ""}`},
		{"document with a query", "GET /v1/metadata?format=json", own, 200, "", `{"name": "web-1", "query": "format=json"}`},
		{"user data", "GET /v1/user-data", own, 200, "", "#cloud-config\n"},
		{"HEAD", "HEAD /v1/user-data", own, 200, "", ""},
		{"the server's own refusal", "GET /v2/user-data", own, 404, "", "Not Found\n"},
		{"POST", "POST /v1/events", "Content-Length: 2\r\n\r\n{}", 200, "", ""},
		{"PUT", "PUT /v1/events", "Content-Length: 2\r\n\r\n{}", 200, "", ""},
		{"DELETE", "DELETE /v1/events", "Content-Length: 0", 200, "", ""},
		{"long body", "POST /v1/events", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 64<<10, strings.Repeat("x", 64<<10)), 200, "", ""},

		{"body too long", "POST /v1/events", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 64<<10+1, strings.Repeat("x", 64<<10+1)), 413, "body_too_large", ""},
		{"only written", "GET /v1/events", own, 405, "method_not_allowed", ""},
		{"method that it has not", "PATCH /v1/events", "Content-Length: 0", 405, "method_not_allowed", ""},
		{"only read", "POST /v1/metadata", "Content-Length: 0", 405, "method_not_allowed", ""},
		{"credentials without a session", "GET /v1/credentials/main", own, 403, "policy_deny", ""},
		{"not described", "GET /v1/backup", own, 404, "policy_deny", ""},
		{"above what is described", "GET /v1/credentials", own, 404, "policy_deny", ""},
		{"below what is described", "GET /v1/credentials/main/old", own, 404, "policy_deny", ""},
		{"in other letters", "GET /v1/Metadata", own, 404, "policy_deny", ""},
		{"root", "GET /", own, 404, "policy_deny", ""},
		{"dot segments", "GET /v1/metadata/../backup", own, 400, "request_ambiguous", ""},
		{"escaped slash", "GET /v1%2Fbackup", own, 400, "request_ambiguous", ""},
		{"byte that no path has", "GET /v1/credentials/a:b", own, 400, "request_ambiguous", ""},
		{"query value", "GET /v1/metadata?format=xml", own, 400, "request_ambiguous", ""},
		{"query name", "GET /v1/metadata?x=1", own, 400, "request_ambiguous", ""},
	} {
		s.upstream.Forget()
		answer := s.ask(t, "127.0.0.1", test.first, test.line)
		if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason) || (test.reason == "" && answer.Body != test.body) {
			t.Errorf("%s: %d %q, want %d %s %q", test.name, answer.Status, answer.Body, test.status, test.reason, test.body)
		}
		requests := s.upstream.Requests()
		if (len(requests) == 1) != (test.reason == "") {
			t.Errorf("%s: the server saw %q", test.name, requests)
		}
		if len(requests) == 1 && (strings.Contains(requests[0], "\r\n"+own+"\r\n") != (test.line == own) || !strings.Contains(requests[0], "X-Forwarded-For: 127.0.0.1\r\n")) {
			t.Errorf("%s: the server saw %.300q", test.name, requests)
		}
		if strings.HasSuffix(test.first, "/events") && test.status == 200 && (answer.Header.Get("X-Theirs") != "kept" || answer.Header.Get("X-Other") != "") {
			t.Errorf("%s: %v", test.name, answer.Header)
		}
	}
	if log := s.Log(); strings.Contains(log, "PLANTED") {
		t.Error("the log shows a secret")
	}
}

// Credentials of another instance, of an unidentified caller and of a caller
// without a session are refused.
func TestGenericCredentials(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, described, byAddress+"\nsession optional", nil)
	own, foreign := tokenHeader+": "+s.token(t, "127.0.0.1"), tokenHeader+": "+s.token(t, "127.0.0.2")
	for _, test := range []struct {
		from, line string
		status     int
	}{
		{"127.0.0.1", own, 200},
		{"127.0.0.1", "Accept: */*", 403},
		{"127.0.0.1", foreign, 401},
		{"127.0.0.2", foreign, 200},
		{"127.0.0.9", own, 401},
	} {
		if answer := s.ask(t, test.from, "GET /v1/credentials/main", test.line); answer.Status != test.status || (answer.Status == 200) != (answer.Body == "PLANTED-key") {
			t.Errorf("%+v: %d %q", test, answer.Status, answer.Body)
		}
	}
}

// A password of a home-grown server has the rules of any other.
func TestGenericPassword(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, described, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	post := func(from, body string) harness.Answer {
		return s.ask(t, from, "POST /v1/password", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
	}
	get := func(from string) harness.Answer { return s.ask(t, from, "GET /v1/password") }
	expect := func(what string, answer harness.Answer, status int, wanted string) {
		t.Helper()
		if answer.Status != status || (status == 200 && answer.Body != wanted) || (status != 200 && reason(answer) != wanted) {
			t.Errorf("%s: %d %q, want %d %q", what, answer.Status, answer.Body, status, wanted)
		}
	}
	expect("none yet", get("127.0.0.1"), 200, "")
	expect("empty", post("127.0.0.1", ""), 400, "password_empty")
	expect("too long", post("127.0.0.1", strings.Repeat("x", 101)), 413, "body_too_large")
	if requests := s.upstream.Requests(); len(requests) != 1 {
		t.Errorf("the server saw %q", requests)
	}
	expect("first", post("127.0.0.1", "PLANTED-one"), 200, "")
	expect("second", post("127.0.0.1", "PLANTED-two"), 409, "password_already_set")
	expect("read with the grant", get("127.0.0.1"), 200, "PLANTED-one")
	expect("another's", post("127.0.0.2", strings.Repeat("y", 100)), 200, "")
	expect("read without a grant", get("127.0.0.2"), 200, "")
	s.upstream.Script(func(string) string { return harness.OK("PLANTED-two") })
	if answer := get("127.0.0.1"); answer.Status != 502 || strings.Contains(answer.Body, "PLANTED") {
		t.Errorf("what was not written: %d %q", answer.Status, answer.Body)
	}
	if log := s.Log(); strings.Contains(log, "PLANTED") {
		t.Error("the log shows a password")
	}
}

// What is hidden of a document is hidden of one that answers a write, too.
func TestGenericAnswerToWrite(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, described, byAddress, map[string]string{"policy/team.rego": `package metaguard.team

allow contains "events" if {
	input.resource.key == "events"
	input.caller.instance_id == "` + instance1 + `"
}

redact_keys contains "receipt" if input.resource.key == "events"
`})
	s.upstream.Script(func(string) string { return harness.OK(`{"name": "web-1", "receipt": "PLANTED"}`) })
	if answer, want := s.ask(t, "127.0.0.1", "POST /v1/events", "Content-Length: 2\r\n\r\n{}"), `{"name": "web-1"}`; answer.Status != 200 || answer.Body != want {
		t.Errorf("%d %s, want %s", answer.Status, answer.Body, want)
	}
}

// A tree is redacted like the resources below it.
func TestGenericTree(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, `dialect generic {
		resource metadata /v1 {
			tree
		}
		resource metadata /v1/metadata {
			tree
		}
		resource metadata /v1/metadata/*
		resource metadata /v1/credentials {
			tree
		}
		resource credentials /v1/credentials/*
	}`, byAddress, nil)
	s.upstream.Script(func(string) string {
		return harness.OK(`{"metadata": {"name": "web-1"}, "credentials": {"main": "PLANTED"}, "password": "PLANTED", "backup": ["PLANTED"]}`)
	})
	if answer, want := s.get(t, "/v1"), `{"metadata": {"name": "web-1"}, "credentials": {}}`; answer.Status != 200 || answer.Body != want {
		t.Errorf("%d %s, want %s", answer.Status, answer.Body, want)
	}
}

// A password passes only where it is checked, so that no tree has one, whoever may
// read it.
func TestGenericTreePassword(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, `dialect generic {
		resource metadata /v1 {
			tree
		}
		resource metadata /v1/*
		resource password /v1/password
		passwords {
			max_size 100
			cache 0s
		}
	}`, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	s.upstream.Script(func(string) string { return harness.OK(`{"name": "web-1", "password": "PLANTED"}`) })
	if answer, want := s.get(t, "/v1"), `{"name": "web-1"}`; answer.Status != 200 || answer.Body != want {
		t.Errorf("%d %s, want %s", answer.Status, answer.Body, want)
	}
}

// A password that the server makes was never written, and is one line of text.
func TestGenericIssued(t *testing.T) {
	t.Parallel()
	s := newGenericSite(t, `dialect generic {
		resource password /v1/password
		passwords {
			max_size 20
			issued
		}
	}`, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	for _, test := range []struct {
		password string
		status   int
		reason   string
	}{
		{"PLANTED-one", 200, ""},
		{"PLANTED-two\n", 200, ""},
		{"", 200, ""},
		{"PLANTED\nPLANTED", 502, "response_unreadable"},
		{strings.Repeat("x", 21), 502, "response_too_large"},
	} {
		s.upstream.Script(func(string) string { return harness.OK(test.password) })
		answer := s.ask(t, "127.0.0.1", "GET /v1/password")
		if answer.Status != test.status || (test.reason == "" && answer.Body != test.password) || (test.reason != "" && reason(answer) != test.reason) {
			t.Errorf("%q: %d %q, want %d %s", test.password, answer.Status, answer.Body, test.status, test.reason)
		}
	}
	if answer := s.ask(t, "127.0.0.2", "GET /v1/password"); answer.Status != 200 || answer.Body != "" {
		t.Errorf("without a grant: %d %q", answer.Status, answer.Body)
	}
	if log := s.Log(); strings.Contains(log, "PLANTED") {
		t.Error("the log shows a password")
	}
}

// What cannot work is refused before anything runs.
func TestGenericValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ old, new, settings, want string }{
		"write_once shorter than the cache": {"cache 15s", "cache 2m", "", "write_once 1m0s is shorter than the 2m0s"},
		"more than the server keeps":        {"", "", "password {\n\tmax_size 101\n}", "max_size 101 is more than the 100 bytes"},
		"header of the connection":          {"headers X-Own", "headers Upgrade", "", "header Upgrade"},
		"header that tells who calls":       {"headers X-Own", "headers X-Forwarded-For", "", "header X-Forwarded-For"},
		"query name":                        {"query format", "query for=mat", "", "query name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, byAddress, nil)
			s.Write("Caddyfile", strings.Replace(caddyfile(s.address, "127.0.0.1:1", byAddress+"\n"+test.settings), "dialect openstack", strings.Replace(described, test.old, test.new, 1), 1))
			if output, err := s.Command("validate", "--config", filepath.Join(s.Dir, "Caddyfile")); err == nil || !strings.Contains(output, test.want) {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// The shipped Caddyfile is the worked example, and policies are tried with it.
func TestGenericCaddyfile(t *testing.T) {
	t.Parallel()
	s := prepareShipped(t, "generic", ":80", nil)
	s.upstream.Script((&homegrown{passwords: make(map[string]string)}).answer)
	s.Run(s.address)
	ask := func(method, path, rest string) harness.Answer {
		return harness.Raw(t, s.address, method+" "+path+" HTTP/1.1\r\nHost: 169.254.169.254\r\n"+rest+"\r\n")
	}
	for _, test := range []struct {
		method, path, rest string
		status             int
		body               string
	}{
		{"GET", "/v1/", "", 200, "metadata\nuser-data\n"},
		{"GET", "/v1/metadata", "", 200, `{"name": "web-1", "query": ""}`},
		{"GET", "/v1/user-data", "", 200, "#cloud-config\n"},
		{"GET", "/v1/password", "", 200, ""},
		{"POST", "/v1/password", "Content-Length: 5\r\n\r\nfirst", 200, ""},
		{"POST", "/v1/password", "Content-Length: 6\r\n\r\nsecond", 409, ""},
		{"GET", "/v1/credentials/main", "", 403, ""},
		{"GET", "/v1/backup", "", 404, ""},
	} {
		if answer := ask(test.method, test.path, test.rest); answer.Status != test.status || (test.status == 200 && answer.Body != test.body) {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, answer.Status, answer.Body, test.status, test.body)
		}
	}
	eval := func(dialect, path string) string {
		output, err := s.Command("policy", "eval", "--dialect", dialect, "--as", "instance:i-1", "--path", path)
		return fmt.Sprint(output, err)
	}
	for path, want := range map[string]string{"/v1/metadata": "own_instance", "/v1/password": "password_read_not_granted", "/v1/backup": "resource_unknown"} {
		if output := eval(filepath.Join(s.Dir, "Caddyfile"), path); !strings.Contains(output, want) {
			t.Errorf("%s: %s, want %s", path, output, want)
		}
	}
	if output := eval("generic", "/v1/metadata"); !strings.Contains(output, "no resource") || !strings.Contains(output, "name the Caddyfile instead") {
		t.Error(output)
	}
	if output := eval("./no-such", "/v1/metadata"); !strings.Contains(output, "no such file") {
		t.Error(output)
	}
}
