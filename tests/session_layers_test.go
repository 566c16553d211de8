// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/metaguard/metaguard/tests/harness"
)

// A token is given over whatever carries TCP, and refused where no hop limit can
// be set: HTTP/3. Everything else is answered there, too.
func TestSessionOverEveryProtocol(t *testing.T) {
	t.Parallel()
	certificate, key, pool := selfSigned(t)
	s := prepareSite(t, byAddress+"\nsession optional", map[string]string{"cert.pem": certificate, "key.pem": key})
	s.edit(t, "Caddyfile", "admin off", "admin off\n\tauto_https disable_redirects\n\tskip_install_trust")
	s.edit(t, "Caddyfile", "http://:", "https://:")
	s.edit(t, "Caddyfile", "bind 127.0.0.1", fmt.Sprintf("bind 127.0.0.1\n\ttls %[1]s/cert.pem %[1]s/key.pem", s.Dir))
	s.Run(s.address)
	config := func() *tls.Config { return &tls.Config{RootCAs: pool, ServerName: "metadata"} }
	quic := &http3.Transport{TLSClientConfig: config()}
	defer quic.Close()
	for _, test := range []struct {
		name      string
		transport http.RoundTripper
		major     int
		status    int
	}{
		{"HTTP/1.1", &http.Transport{TLSClientConfig: config()}, 1, 200},
		{"HTTP/2", &http.Transport{TLSClientConfig: config(), ForceAttemptHTTP2: true}, 2, 200},
		{"HTTP/3", quic, 3, 503},
	} {
		client := &http.Client{Transport: test.transport, Timeout: 20 * time.Second}
		send := func(method, path string) (*http.Response, string) {
			t.Helper()
			request, err := http.NewRequest(method, "https://"+s.address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set(ttlHeader, "60")
			answer, err := client.Do(request)
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			return answer, string(body)
		}
		if answer, body := send(http.MethodPut, "/latest/api/token"); answer.StatusCode != test.status || answer.ProtoMajor != test.major {
			t.Errorf("%s: %s %s %q", test.name, answer.Proto, answer.Status, body)
		}
		if answer, body := send(http.MethodGet, userData); answer.StatusCode != 200 || answer.ProtoMajor != test.major {
			t.Errorf("%s: %s %s %q", test.name, answer.Proto, answer.Status, body)
		}
	}
}

// Caddy's own layers do not hide the socket.
func TestSessionBelowLayers(t *testing.T) {
	t.Parallel()
	for _, servers := range []string{
		"protocols h1",
		"listener_wrappers {\n\t\t\tproxy_protocol\n\t\t}",
		"protocols h1\n\t\tlistener_wrappers {\n\t\t\tproxy_protocol\n\t\t}",
	} {
		s := prepareSite(t, byAddress+"\nsession required", nil)
		s.edit(t, "Caddyfile", "admin off", "admin off\n\tservers {\n\t\t"+servers+"\n\t}")
		s.Run(s.address)
		token := s.token(t, "")
		if answer := s.ask(t, "", "GET "+userData, tokenHeader+": "+token); answer.Status != 200 {
			t.Errorf("%s: %d %q", servers, answer.Status, answer.Body)
		}
	}
}

// A Unix socket has no hops, and is no less good for a token.
func TestSessionOverUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "mg") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s := prepareSite(t, "identify anonymous\n"+policyDirectory+"\nsession required", map[string]string{
		"policy/team.rego": "package metaguard.team\n\nallow contains \"socket\" if input.resource.kind == \"token\"\n",
	})
	s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind 127.0.0.1 unix/"+socket)
	s.Run(s.address)
	s.Eventually("listening on the socket", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	client := &http.Client{Transport: harness.DialTransport("unix", socket), Timeout: 20 * time.Second}
	request, err := http.NewRequest(http.MethodPut, "http://metadata/latest/api/token", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(ttlHeader, "60")
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 200 || len(body) < 60 {
		t.Errorf("%s %q", answer.Status, body)
	}
}
