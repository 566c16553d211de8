// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

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

// recorded waits until all that was answered is in the log, and so in the latch
// before: a client has its answer a moment earlier.
func (s *cloudStackSite) recorded(t *testing.T) {
	t.Helper()
	s.Eventually("the end of every request", func() bool {
		return strings.Count(s.Log(), `"msg":"decision event"`) == strings.Count(s.Log(), `"msg":"decision",`)
	})
}

// A password is read, acknowledged and forgotten, and the next one that is made
// can be read again.
func TestCloudStackPassword(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	for _, password := range []string{"aB3dEf", "aB3dEf", "längeres Passwort: #1"} {
		s.router.SetPassword("127.0.0.1", password)
		s.router.SetPassword("127.0.0.2", "another's")
		for range 2 { // cloudbase-init reads twice
			answer, seen := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSend)
			if answer.Status != 200 || answer.Body != password {
				t.Fatalf("%d %q", answer.Status, answer.Body)
			}
			for name, want := range map[string]string{
				"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "Caddy",
			} {
				if got := answer.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if len(seen) != 1 || !strings.HasPrefix(seen[0], "GET / HTTP/1.1\r\n") || strings.Count(seen[0], "\r\n"+cloudStackSend) != 1 {
				t.Errorf("the server saw %q", seen)
			}
		}
		s.acknowledges(t, "127.0.0.1", 200, 1)
		if s.router.Password("127.0.0.1") != "" || s.router.Password("127.0.0.2") != "another's" {
			t.Error("the server has not forgotten it, or another's")
		}
		s.acknowledges(t, "127.0.0.1", 200, 0) // a client that did not get the answer
		s.reads(t, "127.0.0.1", cloudStackNone)
	}
	lines := s.decisions(t, 3)
	if line := lines[2]; line["resource"] != "password" || line["action"] != "write" || line["key"] != "saved_password" || line["reason"] != "policy_allow" {
		t.Errorf("%v", line)
	}
	if strings.Contains(s.Log(), "aB3dEf") || strings.Contains(s.Log(), "Passwort") {
		t.Error("a password is in the log")
	}
}

// An acknowledgement makes the server forget, so it is for who has read alone.
func TestCloudStackAcknowledgementNeedsARead(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "first")
	s.router.SetPassword("127.0.0.2", "second")
	s.acknowledges(t, "127.0.0.1", 409, 0)
	s.reads(t, "127.0.0.1", "first")
	s.acknowledges(t, "127.0.0.2", 409, 0)
	if answer, seen := s.sends(t, "127.0.0.3", "GET", "/", cloudStackSaved); answer.Status != 401 || len(seen) != 0 {
		t.Errorf("nobody: %d, the server saw %q", answer.Status, seen)
	}
	if s.router.Password("127.0.0.1") != "first" || s.router.Password("127.0.0.2") != "second" {
		t.Fatal("forgotten")
	}
	// An empty read is none, and what is read later is newer than what was read.
	s.router.SetPassword("127.0.0.1", "")
	s.reads(t, "127.0.0.1", cloudStackNone)
	s.router.SetPassword("127.0.0.1", "newer")
	s.acknowledges(t, "127.0.0.1", 409, 0)
	for _, line := range s.decisions(t, 6) {
		if line["status"] == 409.0 && line["code"] != "acknowledge_without_read" {
			t.Errorf("%v", line)
		}
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

// An acknowledgement whose client hangs up goes on, so that what the server made of
// it is known, and it is not sent again for a newer password.
func TestCloudStackHangUpAcknowledging(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "read")
	s.reads(t, "127.0.0.1", "read")
	asked, answered := make(chan struct{}, 8), make(chan struct{})
	s.upstream.Script(func(request string) string {
		asked <- struct{}{}
		<-answered
		return s.router.ServePassword(request)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: m\r\n%s\r\n", cloudStackSaved)
	<-asked
	conn.Close()
	answer := sync.OnceFunc(func() { close(answered) })
	time.AfterFunc(10*time.Second, answer) // if one is sent that must not be
	if answer, _ := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != 409 || reason(answer) != "password_write_pending" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if len(asked) != 0 {
		t.Error("it was sent twice")
	}
	answer()
	s.acknowledges(t, "127.0.0.1", 200, 0)
}

// A client that hangs up before its answer was sent has not read.
func TestCloudStackHangUp(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "unread")
	asked, answered := make(chan struct{}), make(chan struct{})
	s.upstream.Script(func(request string) string {
		close(asked)
		<-answered
		return s.router.ServePassword(request)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: m\r\n%s\r\n", cloudStackSend)
	<-asked
	// While it reads, nobody acknowledges.
	if answer, _ := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != 409 || reason(answer) != "password_write_pending" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	conn.Close()
	s.decisions(t, 2)
	close(answered)
	s.upstream.Script(s.router.ServePassword)
	s.acknowledges(t, "127.0.0.1", 409, 0)
	s.reads(t, "127.0.0.1", "unread")
	s.acknowledges(t, "127.0.0.1", 200, 1)
}

// Of many that acknowledge at once one is sent, and all are told.
func TestCloudStackConcurrently(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "once")
	var all sync.WaitGroup
	together := func(headers, want string) {
		for range 4 {
			all.Go(func() {
				answer := harness.RawFrom(t, "127.0.0.1", s.address, "GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+headers+"\r\n")
				if answer.Status != 200 || answer.Body != want {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
			})
		}
		all.Wait()
	}
	together(cloudStackSend, "once")
	s.upstream.Forget()
	together(cloudStackSaved, cloudStackNone)
	if seen := s.upstream.Requests(); len(seen) != 1 {
		t.Errorf("the server saw %q", seen)
	}
}

// Who has read may acknowledge through another replica, after a reload and after
// a restart or a crash.
func TestCloudStackReplicas(t *testing.T) {
	t.Parallel()
	directory, _ := sharedDirectory(t)
	redis, _ := sharedRedis(t)
	for name, shared := range map[string]sharing{"file": directory, "redis": redis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := "password {\n\t\tlatch " + shared.latch + "\n\t\tfingerprint_key {env.METAGUARD_FINGERPRINT}\n\t}"
			router := harness.NewCloudStack(t)
			replicas := make([]*cloudStackSite, 2)
			for i := range replicas {
				s := prepareCloudStack(t, settings, true, false)
				s.edit(t, "Caddyfile", s.upstream.Address, router.Passwords.Address)
				s.upstream, s.router = router.Passwords, router
				for _, variable := range append(shared.env, "METAGUARD_FINGERPRINT=0123456789abcdef0123456789abcdef") {
					name, value, _ := strings.Cut(variable, "=")
					s.Setenv(name, value)
				}
				s.Run(s.address)
				replicas[i] = s
			}
			one, two := replicas[0], replicas[1]
			for name, between := range map[string]func(){
				"nothing": func() {},
				"reload": func() {
					if output, err := one.reload(t, "--force"); err != nil {
						t.Fatalf("%v\n%s", err, output)
					}
				},
				"restart": func() { one.Stop(); one.Run(one.address) },
				"crash":   func() { one.Kill(); one.Run(one.address) },
			} {
				router.SetPassword("127.0.0.1", "made before "+name)
				one.reads(t, "127.0.0.1", "made before "+name)
				one.recorded(t)
				between()
				two.acknowledges(t, "127.0.0.2", 409, 0)
				two.acknowledges(t, "127.0.0.1", 200, 1)
				one.acknowledges(t, "127.0.0.1", 200, 0)
				if router.Password("127.0.0.1") != "" {
					t.Errorf("%s: not forgotten", name)
				}
				router.SetPassword("127.0.0.1", "made after "+name)
				two.reads(t, "127.0.0.1", "made after "+name)
				two.recorded(t)
				between()
				one.acknowledges(t, "127.0.0.1", 200, 1)
			}
		})
	}
}

// cloudStackMetadata is what a router keeps for an instance.
func cloudStackMetadata(instance, address string) map[string]string {
	return map[string]string{
		"service-offering": "Small Instance", "availability-zone": "zone-1", "local-ipv4": address, "local-hostname": "vm-1",
		"public-ipv4": "192.0.2.80", "public-hostname": "192.0.2.80", "instance-id": instance, "vm-id": instance,
		"public-keys": "ssh-ed25519 AAAAC3 one\nssh-ed25519 AAAAC3 two\n", "cloud-identifier": "CloudStack-{1f2e}",
		"hypervisor-host-name": "kvm-1", "role": "database",
	}
}

// The metadata tree: what each path is, and that no listing names what is refused.
func TestCloudStackMetadata(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, true)
	for address, instance := range map[string]string{"127.0.0.1": instance1, "127.0.0.2": instance2} {
		s.router.SetMetadata(address, "#cloud-config\n", cloudStackMetadata(instance, address))
	}
	for path, want := range map[string]struct{ kind, body string }{
		"/latest/user-data":                      {"userdata", "#cloud-config\n"},
		"/latest/user-data/":                     {"userdata", "#cloud-config\n"},
		"/latest/meta-data/instance-id":          {"metadata", instance1},
		"/latest/instance-id":                    {"metadata", instance1},
		"/latest/meta-data/local-ipv4/":          {"metadata", "127.0.0.1"},
		"/latest/meta-data/public-keys":          {"metadata", "ssh-ed25519 AAAAC3 one\nssh-ed25519 AAAAC3 two\n"},
		"/latest/meta-data/role":                 {"userdata", "database"},
		"/latest/meta-data":                      {"listing", strings.Join(harness.CloudStackNames, "\n") + "\nrole\n"},
		"/latest/meta-data/":                     {"listing", strings.Join(harness.CloudStackNames, "\n") + "\nrole\n"},
		"/latest//meta-data/instance-id":         {"metadata", instance1},
		"/latest/meta-data/hypervisor-host-name": {"metadata", "kvm-1"},
	} {
		answer, _ := s.sends(t, "127.0.0.1", "GET", path, "")
		if answer.Status != 200 || answer.Body != want.body {
			t.Errorf("%s: %d %q", path, answer.Status, answer.Body)
		}
		if head, _ := s.sends(t, "127.0.0.1", "HEAD", path, ""); head.Status != 200 || head.Body != "" {
			t.Errorf("HEAD %s: %d %q", path, head.Status, head.Body)
		}
		if post, seen := s.sends(t, "127.0.0.1", "POST", path, "Content-Length: 0\r\n"); post.Status != 405 || post.Header.Get("Allow") != "GET, HEAD" || len(seen) != 0 {
			t.Errorf("POST %s: %d %v", path, post.Status, post.Header)
		}
		for _, line := range s.decisions(t, 1) {
			if line["path"] == path && line["resource"] != want.kind {
				t.Errorf("%s: %v, want %s", path, line["resource"], want.kind)
			}
		}
	}
	for path, want := range map[string]int{
		"/": 404, "/latest": 404, "/latest/": 404, "/latest/role": 404, "/latest/meta-data/meta-data": 404, "/latest/META-DATA/": 404,
		"/latest/meta-data/a/b": 404, "/1.0/meta-data/": 404, "/metadata/127.0.0.2/instance-id": 404, "/userdata/127.0.0.2/user-data": 404,
		"/doc/": 404, "/cgi-bin/x": 404, "/latest/meta-data/../../metadata/127.0.0.2/vm-id": 400, "/latest/meta-data/%2e%2e/x": 400,
		"/latest/user-data?x=1": 400,
	} {
		if answer, seen := s.sends(t, "127.0.0.1", "GET", path, ""); answer.Status != want || len(seen) != 0 {
			t.Errorf("%s: %d %q, the server saw %q", path, answer.Status, answer.Body, seen)
		}
	}
	if answer, seen := s.sends(t, "127.0.0.9", "GET", "/latest/user-data", "X-Forwarded-For: 127.0.0.1\r\n"); answer.Status != 401 || len(seen) != 0 {
		t.Errorf("nobody: %d", answer.Status)
	}
	if answer, _ := s.sends(t, "127.0.0.2", "GET", "/latest/vm-id", "X-Forwarded-For: 127.0.0.1\r\n"); answer.Body != instance2 {
		t.Errorf("another's: %d %q", answer.Status, answer.Body)
	}
	s.Write("policy/team.rego", "package metaguard.team\n\ndeny contains \"no_keys\" if input.resource.key == \"meta-data/public-keys\"\n\ndeny contains \"no_userdata\" if input.resource.kind == \"userdata\"\n")
	hidden := strings.Replace(strings.Join(harness.CloudStackNames, "\n")+"\n", "public-keys\n", "", 1)
	s.Eventually("what is refused is not listed", func() bool {
		answer, _ := s.sends(t, "127.0.0.1", "GET", "/latest/meta-data/", "")
		return answer.Body == hidden
	})
	for _, path := range []string{"/latest/meta-data/public-keys", "/latest/user-data"} { // which clients take for none
		if answer, seen := s.sends(t, "127.0.0.1", "GET", path, ""); answer.Status != 404 || reason(answer) != "policy_deny" || len(seen) != 0 {
			t.Errorf("%s: %d %q, the server saw %q", path, answer.Status, answer.Body, seen)
		}
	}
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
