// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	cloudStackSend  = "DomU_Request: send_my_password\r\n"
	cloudStackSaved = "DomU_Request: saved_password\r\n"
	cloudStackNone  = "saved_password"
)

// cloudStackSite is a guarded server of a virtual router.
type cloudStackSite struct {
	*managed
	router *harness.CloudStack
}

// newCloudStack guards one of a router's servers. Instances may read their own
// passwords, if open says so.
func newCloudStack(t *testing.T, settings string, open, metadata bool) *cloudStackSite {
	t.Helper()
	s := prepareCloudStack(t, settings, open, metadata)
	s.Run(s.address)
	return s
}

func prepareCloudStack(t *testing.T, settings string, open, metadata bool) *cloudStackSite {
	t.Helper()
	files := map[string]string{}
	if open {
		for _, name := range []string{"policy/team.rego", "policy/data.json"} {
			files[name] = shippedFile(t, "cloudstack/"+name)
		}
	}
	s := &cloudStackSite{prepareManaged(t, byAddress+"\n"+settings, files), harness.NewCloudStack(t)}
	server := s.router.Passwords
	if metadata {
		server = s.router.Metadata
	}
	s.edit(t, "Caddyfile", s.upstream.Address, server.Address)
	s.edit(t, "Caddyfile", "dialect openstack", "dialect cloudstack")
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\texpected_underscore_headers DomU_Request\n\t}")
	s.upstream = server
	return s
}

// sends sends a request of a caller and gives what the server saw of it.
func (s *cloudStackSite) sends(t *testing.T, from, method, path, headers string) (harness.Answer, []string) {
	t.Helper()
	s.upstream.Forget()
	answer := harness.RawFrom(t, from, s.address, method+" "+path+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+headers+"\r\n")
	return answer, s.upstream.Requests()
}

// reads wants this answer to a read, acknowledges to an acknowledgement.
func (s *cloudStackSite) reads(t *testing.T, from, want string) {
	t.Helper()
	if answer, _ := s.sends(t, from, "GET", "/", cloudStackSend); answer.Status != 200 || answer.Body != want {
		t.Errorf("%s reads: %d %q, want %q", from, answer.Status, answer.Body, want)
	}
}

func (s *cloudStackSite) acknowledges(t *testing.T, from string, status, sent int) {
	t.Helper()
	answer, seen := s.sends(t, from, "GET", "/", cloudStackSaved)
	if answer.Status != status || len(seen) != sent || (status == 200) != (answer.Body == cloudStackNone) {
		t.Errorf("%s acknowledges: %d %q, want %d; the server saw %q", from, answer.Status, answer.Body, status, seen)
	}
	if status == 409 && reason(answer) != "password_unverified" {
		t.Errorf("%s: %q", from, answer.Body)
	}
}

// Spellings that the server could read in another way than the guard.
func TestCloudStackSpellings(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "unread")
	for name, test := range map[string]struct {
		method, path, headers string
		status                int
		reason                string
	}{
		"no header":                {"GET", "/", "", 404, "policy_deny"},
		"doubled":                  {"GET", "/", cloudStackSend + cloudStackSend, 404, "policy_deny"}, // Caddy drops both
		"doubled, two words":       {"GET", "/", cloudStackSend + cloudStackSaved, 404, "policy_deny"},
		"joined":                   {"GET", "/", "DomU_Request: send_my_password, saved_password\r\n", 404, "policy_deny"},
		"empty":                    {"GET", "/", "DomU_Request:\r\n", 404, "policy_deny"},
		"with a hyphen":            {"GET", "/", "DomU-Request: send_my_password\r\n", 404, "policy_deny"},
		"with a dot":               {"GET", "/", "DomU.Request: send_my_password\r\n", 404, "policy_deny"},
		"value in another case":    {"GET", "/", "DomU_Request: Send_My_Password\r\n", 404, "policy_deny"},
		"another word":             {"GET", "/", "DomU_Request: save_password\r\n", 404, "policy_deny"},
		"no ASCII":                 {"GET", "/", "DomU_Request: send_my_passw\xc3\xb6rd\r\n", 400, "header_refused"},
		"on another path":          {"GET", "/latest/meta-data/instance-id", cloudStackSend, 400, "request_ambiguous"},
		"acknowledged elsewhere":   {"GET", "/x", cloudStackSaved, 400, "request_ambiguous"},
		"any word elsewhere":       {"GET", "/latest", "DomU_Request: x\r\n", 400, "request_ambiguous"},
		"query":                    {"GET", "/?x", cloudStackSend, 400, "request_ambiguous"},
		"dots":                     {"GET", "/./", cloudStackSend, 400, "request_ambiguous"},
		"HEAD":                     {"HEAD", "/", cloudStackSend, 405, ""},
		"HEAD, acknowledging":      {"HEAD", "/", cloudStackSaved, 405, ""},
		"POST":                     {"POST", "/", cloudStackSend + "Content-Length: 0\r\n", 405, "method_not_allowed"},
		"storing":                  {"POST", "/", "DomU_Request: save_password\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 0\r\n", 405, "method_not_allowed"},
		"storing without a header": {"POST", "/", "Content-Length: 0\r\n", 405, "method_not_allowed"},
		"PUT":                      {"PUT", "/", cloudStackSend + "Content-Length: 0\r\n", 405, "method_not_allowed"},
		"DELETE":                   {"DELETE", "/", "", 405, "method_not_allowed"},
	} {
		answer, seen := s.sends(t, "127.0.0.1", test.method, test.path, test.headers)
		if answer.Status != test.status || len(seen) != 0 || (test.reason != "" && reason(answer) != test.reason) {
			t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, seen)
		}
		if allow := answer.Header.Get("Allow"); answer.Status == 405 && (strings.Contains(allow, "POST") || allow == "") {
			t.Errorf("%s: Allow: %q", name, allow)
		}
	}
	s.acknowledges(t, "127.0.0.1", 409, 0) // none of them was a read
	for name, test := range map[string][2]string{
		"another case": {"/", "DOMU_REQUEST: send_my_password\r\n"}, "two slashes": {"//", cloudStackSend}, "bare query": {"/?", cloudStackSend},
		"blanks": {"/", "DomU_Request:\t send_my_password \r\n"},
	} {
		answer, seen := s.sends(t, "127.0.0.1", "GET", test[0], test[1])
		if answer.Body != "unread" || len(seen) != 1 || strings.Count(seen[0], "\r\n"+cloudStackSend) != 1 {
			t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, seen)
		}
	}
	// Two on one connection are two requests.
	s.upstream.Forget()
	both := "GET / HTTP/1.1\r\nHost: m\r\n" + cloudStackSend + "\r\nGET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n" + cloudStackSaved + "\r\n"
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, both)
	reader := bufio.NewReader(conn)
	for _, want := range []string{"unread", cloudStackNone} {
		if answer := harness.ReadAnswer(reader, "GET "); answer.Status != 200 || answer.Body != want {
			t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
		}
	}
	if seen := s.upstream.Requests(); len(seen) != 2 || s.router.Password("127.0.0.1") != "" {
		t.Errorf("the server saw %q", seen)
	}
}

// What the built-in policy alone says: an instance boots without its password.
func TestCloudStackBuiltInPolicy(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", false, false)
	s.router.SetPassword("127.0.0.1", "secret of the router")
	answer, seen := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSend)
	if answer.Status != 200 || answer.Body != cloudStackNone || len(seen) != 0 || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %q %v, the server saw %q", answer.Status, answer.Body, answer.Header, seen)
	}
	s.acknowledges(t, "127.0.0.1", 409, 0)
	if answer, seen := s.sends(t, "127.0.0.9", "GET", "/", cloudStackSend); answer.Status != 401 || len(seen) != 0 {
		t.Errorf("%d %q, the server saw %q", answer.Status, answer.Body, seen)
	}
}

// Only the server's words and one line of text pass as its answers.
func TestCloudStackAnswers(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	const head = "HTTP/1.0 200 OK\r\nContent-type: text/plain\r\n\r\n"
	for name, test := range map[string]struct {
		answer string
		status int
		reason string
		body   string
		acked  int // status of an acknowledgement after it
	}{
		"password":             {head + "x", 200, "", "x", 200},
		"with a newline":       {head + "x y\r\n", 200, "", "x y\r\n", 200},
		"as long as it may be": {head + strings.Repeat("x", 255), 200, "", strings.Repeat("x", 255), 200},
		"too long":             {head + strings.Repeat("x", 256), 502, "response_too_large", "", 409},
		"empty":                {head, 200, "", "", 409},
		"none":                 {head + "saved_password", 200, "", "saved_password", 409},
		"none, newline":        {head + "saved_password\n", 200, "", "saved_password\n", 409},
		"bad request":          {head + "bad_request", 200, "", "bad_request", 409},
		"wrong password":       {head + "wrong_password\n", 200, "", "wrong_password\n", 409},
		"two lines":            {head + "x\ny", 502, "response_unreadable", "", 409},
		"Python 2's":           {head + "HTTP/1.0 400 Bad Request\r\nServer: x\r\nbad_request", 502, "response_unreadable", "", 409},
		"page":                 {head + "<html>\n</html>\n", 502, "response_unreadable", "", 409},
		"escape":               {head + "x\x1b[2J", 502, "response_unreadable", "", 409},
		"not UTF-8":            {head + "x\xff", 502, "response_unreadable", "", 409},
		"error":                {"HTTP/1.0 500 Oops\r\n\r\npassword", 500, "", "Internal Server Error\n", 409},
		"reset":                {harness.Reset, 502, "response_incomplete", "", 409},
	} {
		s.upstream.Script(func(string) string { return head + "two\nlines" })
		s.sends(t, "127.0.0.1", "GET", "/", cloudStackSend) // nothing of an earlier row is known after it
		s.upstream.Script(func(string) string { return test.answer })
		answer, _ := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSend)
		if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason) || (test.reason == "" && answer.Body != test.body) {
			t.Errorf("%s: %d %q", name, answer.Status, answer.Body)
		}
		s.upstream.Script(s.router.ServePassword)
		if answer, seen := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != test.acked || (test.acked == 200) != (len(seen) == 1) {
			t.Errorf("acknowledged after %s: %d %q, the server saw %q", name, answer.Status, answer.Body, seen)
		}
	}
	// And as the answers to acknowledgements; after a failure the reader tries again.
	s.router.SetPassword("127.0.0.1", "to be acknowledged")
	s.reads(t, "127.0.0.1", "to be acknowledged")
	for name, test := range map[string]struct {
		answer string
		status int
	}{
		"bad request": {head + "bad_request", 200}, "empty": {head, 200}, "a password": {head + "to be acknowledged", 502},
		"error": {"HTTP/1.0 503 Oops\r\n\r\n", 503}, "reset": {harness.Reset, 502},
	} {
		s.upstream.Script(func(string) string { return test.answer })
		if answer, seen := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != test.status || len(seen) != 1 || strings.Contains(answer.Body, "to be") {
			t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, seen)
		}
	}
	// A complaint says nothing of the password that was read before.
	s.upstream.Script(func(string) string { return head + "bad_request" })
	s.reads(t, "127.0.0.1", "bad_request")
	s.upstream.Script(s.router.ServePassword)
	s.acknowledges(t, "127.0.0.1", 200, 1)
}

// A site whose server drops the header could only ever say no.
func TestCloudStackNeedsTheHeader(t *testing.T) {
	t.Parallel()
	s := prepareCloudStack(t, "", true, false)
	for setting, fine := range map[string]bool{
		"expected_underscore_headers DomU_Request": true, "expected_underscore_headers X_Y domu_request": true, "expected_underscore_headers DOMU_*": true,
		"expected_underscore_headers Other_Request": false, "expected_underscore_headers DomU_Request_*": false, "trusted_proxies_strict": false,
	} {
		s.edit(t, "Caddyfile", "expected_underscore_headers DomU_Request", setting)
		output, err := s.Command("validate", "--config", s.Dir+"/Caddyfile")
		if (err == nil) != fine || (!fine && !strings.Contains(output, `expected_underscore_headers DomU_Request\n`)) {
			t.Errorf("%s: %v\n%s", setting, err, output)
		}
		s.edit(t, "Caddyfile", setting, "expected_underscore_headers DomU_Request")
	}
}

// The shipped Caddyfile, in front of both servers.
func TestCloudStackCaddyfile(t *testing.T) {
	connectsFromElsewhere(t)
	t.Parallel()
	router := harness.NewCloudStack(t)
	router.SetPassword("127.0.0.1", "made by the router")
	router.SetMetadata("127.0.0.1", "#!/bin/sh\n", cloudStackMetadata(instance1, "127.0.0.1"))
	passwords, metadata := harness.FreePort(t), harness.FreePort(t)
	m := shippedSite(t, "cloudstack.Caddyfile", fmt.Sprint("127.0.0.1:", metadata), router.Metadata, map[string]string{
		":8080 {": fmt.Sprint(":", passwords, " {"), ":80 {": fmt.Sprint(":", metadata, " {"),
	})
	m.Setenv("METAGUARD_PASSWORD_UPSTREAM", router.Passwords.Address)
	m.Write("cloudstack/inventory.json", inventory)
	m.Run(m.address)
	s := &cloudStackSite{m, router}
	if answer, _ := s.sends(t, "", "GET", "/latest/meta-data/vm-id", ""); answer.Body != instance1 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	s.address, s.upstream = fmt.Sprint("127.0.0.1:", passwords), router.Passwords
	s.reads(t, "127.0.0.1", "made by the router")
	s.acknowledges(t, "127.0.0.1", 200, 1)
	s.acknowledges(t, "127.0.0.2", 409, 0)
}
