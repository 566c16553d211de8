// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// Without the logging snippet, at the default level, an answer that breaks off
// or is malformed shows neither the signature that went upstream nor what the
// server sent.
func TestBrokenAnswersShowNothing(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	s.edit(t, "Caddyfile", "\t\tformat json\n", "")
	s.Run(s.address)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nplanted-cut",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nplanted-trailer\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nplanted-chunk\r\n",
		"planted-line\r\n\r\n",
		"HTTP/1.1 200 OK\r\nplanted header\r\n\r\n",
	} {
		s.upstream.Script(func(string) string { return answer })
		if got := s.get(t, "/openstack/latest/user_data"); got.Status != 502 || reason(got) != "response_incomplete" {
			t.Errorf("%q: %d %q", answer, got.Status, got.Body)
		}
	}
	s.decisions(t, 5)
	for _, marker := range []string{"planted", sign(instance1), secret} {
		if log := s.Log(); strings.Contains(log, marker) {
			t.Errorf("%q is in the log:\n%s", marker, log)
		}
	}
}

// The placeholders of the site are not those of the outgoing request, so that
// nothing that a client sends chooses the server that gets the signed headers.
func TestRequestCannotChooseTheServer(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "metaguard {", "map {header.X-Backend} {chosen} {\n\t\tdefault "+s.upstream.Address+"\n\t}\n\tmetaguard {")
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream {chosen}")
	if output, err := s.Command("validate", "--config", s.Dir+"/Caddyfile"); err == nil || !strings.Contains(output, "{chosen}") {
		t.Errorf("%v: %s", err, output)
	}
}

// A dial that goes on after its client has left shares nothing with the
// request, whose variables are being published.
func TestDialOutlivesTheClient(t *testing.T) {
	t.Parallel()
	full := fullQueue(t)
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+full)
	s.Run(s.address)
	for range 20 { // each hangs up while the connection is being made
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /openstack/latest/ HTTP/1.1\r\nHost: m\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	for _, line := range s.decisions(t, 20) {
		if line["outcome"] != "aborted" {
			t.Errorf("%v", line)
		}
	}
	// A data race would be in the log of a binary built with -race.
}

// fullQueue is an address whose queue of connections is full: a dial hangs.
func fullQueue(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 4 {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

// Storage that hangs refuses password requests in time; everything else goes
// on, and it costs one goroutine.
func TestHangingStorage(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read"), "storage/metaguard/none": ""})
	if err := syscall.Mkfifo(s.Dir+"/storage/metaguard/fingerprint.key", 0o600); err != nil {
		t.Fatal(err)
	}
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tstorage file_system "+s.Dir+"/storage")
	s.Run(s.address)
	for _, answer := range []harness.Answer{s.get(t, "/openstack/latest/password"), s.post(t, "", "password")} {
		if answer.Status != 503 || reason(answer) != "latch_unavailable" {
			t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
		}
	}
	if answer := s.get(t, "/openstack/latest/user_data"); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if requests := s.upstream.Requests(); len(requests) != 1 {
		t.Errorf("the server saw %q", requests)
	}
}

// The server itself sees the signed headers, and no setting of reverse_proxy
// can change them.
func TestSignedHeadersReachTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	s.get(t, "/openstack/latest/")
	request := s.upstream.Requests()[0]
	for _, line := range []string{"X-Instance-Id: " + instance1, "X-Tenant-Id: " + projectA, "X-Instance-Id-Signature: " + sign(instance1)} {
		if strings.Count(request, line+"\r\n") != 1 {
			t.Errorf("%q is not there once in %q", line, request)
		}
	}
}

// All answers together hold no more than max_total; what is beyond it is
// refused, and goes on when there is room again.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress+"\nresponse {\n\tmax_buffer 4KiB\n\tmax_total 6KiB\n}", nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	finish := make(chan struct{})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"+strings.Repeat("x", 3900))
				<-finish
				fmt.Fprint(conn, strings.Repeat("x", 100))
			}()
		}
	}()
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+listener.Addr().String())
	s.Run(s.address)
	answers := make(chan harness.Answer, 2)
	for range 2 { // whichever comes second
		go func() { answers <- s.get(t, "/openstack/latest/user_data") }()
	}
	if answer := <-answers; answer.Status != 503 || reason(answer) != "overloaded" || answer.Header.Get("Retry-After") == "" {
		t.Errorf("while the other holds the memory: %d %q", answer.Status, answer.Body)
	}
	close(finish)
	if answer := <-answers; answer.Status != 200 || len(answer.Body) != 4000 {
		t.Errorf("%d %d bytes", answer.Status, len(answer.Body))
	}
	if answer := s.get(t, "/openstack/latest/user_data"); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}

// Over HTTP/2 without TLS the same is judged, refused and answered.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t}")
	s.Run(s.address)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/openstack/latest/user_data", "", 200, "from the server"},
		{"GET", "/openstack/..%2flatest/password", "", 400, "request_ambiguous"},
		{"POST", "/openstack/latest/password", "pass", 200, ""},
		{"POST", "/openstack/latest/password", "second", 409, "password_already_set"},
		{"POST", "/openstack/latest/password", strings.Repeat("x", 100_000), 413, "body_too_large"},
		{"PUT", "/openstack/latest/user_data", "x", 405, "method_not_allowed"},
	} {
		request, err := http.NewRequest(test.method, "http://"+s.address+test.path, struct{ io.Reader }{strings.NewReader(test.body)}) // without a length
		if err != nil {
			t.Fatal(err)
		}
		if test.body == "" {
			request.Body = nil
		}
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("%s %s: %v", test.method, test.path, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.ProtoMajor != 2 || response.StatusCode != test.status || !strings.Contains(string(body), test.want) {
			t.Errorf("%s %s: %s %d %q %v, want %d %s", test.method, test.path, response.Proto, response.StatusCode, body, err, test.status, test.want)
		}
	}
	for _, request := range s.upstream.Requests() {
		if strings.Contains(request, "HTTP/2") || strings.Contains(request, "Transfer-Encoding") {
			t.Errorf("the server saw %q", request)
		}
	}
}

// A server behind TLS is asked under its own name, with the signed headers.
func TestTLSUpstream(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		_, _ = io.WriteString(w, "behind TLS")
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	s := prepareSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream https://"+address+" {\n\t\t\ttransport http {\n\t\t\t\ttls_insecure_skip_verify\n\t\t\t}\n\t\t}")
	s.Run(s.address)
	if answer := s.get(t, "/openstack/latest/user_data"); answer.Status != 200 || answer.Body != "behind TLS" {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	r := <-seen
	if r.Host != address || r.Header.Get("X-Instance-ID-Signature") != sign(instance1) || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("%s %v", r.Host, r.Header)
	}
}

// What the server is told of a caller is Metaguard's to write, however a
// setting that says otherwise is spelled: Go reads JSON's names in any case.
func TestProxyProtocolIsRefusedInAnySpelling(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	adapted, err := s.Command("adapt", "--config", s.Dir+"/Caddyfile")
	if err != nil {
		t.Fatal(err, adapted)
	}
	_, plain, _ := strings.Cut(adapted, `{"admin"`)
	plain, _, _ = strings.Cut(`{"admin"`+plain, "\n") // the rest are log lines
	for _, name := range []string{"proxy_protocol", "Proxy_Protocol", "PROXY_PROTOCOL"} {
		changed := strings.Replace(plain, `"upstreams":`, `"transport":{"protocol":"http","`+name+`":"v1"},"upstreams":`, 1)
		s.Write("site.json", changed)
		if output, err := s.Command("validate", "--config", s.Dir+"/site.json"); err == nil || !strings.Contains(output, "proxy_protocol") {
			t.Errorf("%s: %v %s", name, err, output)
		}
	}
	s.Write("site.json", plain)
	if output, err := s.Command("validate", "--config", s.Dir+"/site.json"); err != nil {
		t.Errorf("the same without it: %s", output)
	}
}

// A read whose answer broke off is not asked again, though reverse_proxy would:
// only what no connection was made for is sent a second time.
func TestBrokenReadIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+s.upstream.Address+" {\n\t\t\tlb_try_duration 1s\n\t\t\tlb_try_interval 10ms\n\t\t}")
	s.upstream.Script(func(string) string { return "" })
	s.Run(s.address)
	if answer := s.get(t, "/openstack/latest/user_data"); answer.Status != 502 || reason(answer) != "response_incomplete" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if requests := s.upstream.Requests(); len(requests) != 1 {
		t.Errorf("the server was asked %d times", len(requests))
	}
}

// Where the server is told who the target is, a caller without one never gets
// as far as the policy.
func TestTargetUnknown(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", map[string]string{
		"inventory.json":   `[{"address": "127.0.0.1", "project_id": "` + projectA + `"}, {"address": "127.0.0.2", "instance_id": "` + instance2 + `"}]`,
		"policy/team.rego": "package metaguard.team\n\nallow contains \"anything\" if startswith(input.caller.address, \"127.\")\n",
	})
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} { // one has no instance, the other no project
		answer := harness.RawFrom(t, from, s.address, "GET /openstack/latest/ HTTP/1.1\r\nHost: m\r\n\r\n")
		if answer.Status != 403 || reason(answer) != "target_unknown" {
			t.Errorf("%s: %d %q", from, answer.Status, answer.Body)
		}
	}
	for _, line := range s.decisions(t, 2) {
		if _, judged := line["revision"]; judged {
			t.Errorf("the policy was asked: %v", line)
		}
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}

// An agent that does not say for which address it asks is not taken for one:
// the server then gets no address rather than a wrong one.
func TestCallerWithoutAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, neutronFrom("127.0.0.0/8"), nil)
	answer := harness.Raw(t, s.address, "GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\nX-Instance-ID: "+instance1+
		"\r\nX-Tenant-ID: "+projectA+"\r\nX-Instance-ID-Signature: "+sign(instance1)+"\r\n\r\n")
	if answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	if request := s.upstream.Requests()[0]; strings.Contains(request, "X-Forwarded") {
		t.Errorf("the server saw %q", request)
	}
}

// forward_headers adds to the list, and to nothing else.
func TestForwardHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nforward_headers X-Request-Id", nil)
	harness.Raw(t, s.address, "GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\nX-Request-ID: 42\r\nX-Other: 43\r\n\r\n")
	request := s.upstream.Requests()[0]
	if strings.Count(request, "X-Request-Id: 42\r\n") != 1 || strings.Contains(request, "X-Other") {
		t.Errorf("the server saw %q", request)
	}
}
