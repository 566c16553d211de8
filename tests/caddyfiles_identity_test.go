// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// runShipped starts a shipped Caddyfile on a free port, with the inventory of
// the other tests and a server that answers with a text.
func runShipped(t *testing.T, name, listens string, setenv map[string]string) *managed {
	t.Helper()
	s := prepareShipped(t, name, listens, setenv)
	s.Run(s.address)
	return s
}

func prepareShipped(t *testing.T, name, listens string, setenv map[string]string) *managed {
	t.Helper()
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("name") })
	port := harness.FreePort(t)
	s := shippedSite(t, name+".Caddyfile", fmt.Sprint("127.0.0.1:", port), upstream, map[string]string{listens + " {": fmt.Sprint(":", port, " {")})
	s.Write(name+"/inventory.json", inventory)
	for variable, value := range setenv {
		s.Setenv(variable, value)
	}
	return s
}

func writeText(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *managed) asks(t *testing.T, path, headers string) harness.Answer {
	t.Helper()
	return harness.Raw(t, m.address, "GET "+path+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+headers+"\r\n")
}

// toldOf wants exactly one request at the server, about this instance.
func (m *managed) toldOf(t *testing.T, instance string) {
	t.Helper()
	requests := m.upstream.Requests()
	m.upstream.Forget()
	if len(requests) != 1 || strings.Count(requests[0], "X-Instance-Id: "+instance+"\r\n") != 1 || strings.Count(requests[0], "X-Instance-Id-Signature: "+sign(instance)+"\r\n") != 1 {
		t.Errorf("the server was not told of %s once: %d requests", instance, len(requests))
	}
}

func TestMTLSCaddyfile(t *testing.T) {
	t.Parallel()
	authority := harness.NewAuthority(t)
	certificate, key := authority.Server()
	dir := t.TempDir()
	paths := make(map[string]string)
	for variable, content := range map[string]string{"METAGUARD_TLS_CERTIFICATE": certificate, "METAGUARD_TLS_KEY": key, "METAGUARD_CLIENT_CA": authority.PEM()} {
		paths[variable] = filepath.Join(dir, variable)
		writeText(t, paths[variable], content)
	}
	s := runShipped(t, "mtls", ":8443", paths)
	ask := func(certificates []tls.Certificate, headers string) (harness.Answer, error) {
		return send("127.0.0.1", s.address, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: certificates},
			"GET "+metadataPath+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+headers+"\r\n")
	}
	reader, other := authority.Issue(named("", "spiffe://example.org/ns/backup/sa/reader")), authority.Issue(named("other"))
	target := "X-Metaguard-Target: " + instance2 + "\r\n"
	if answer, err := ask([]tls.Certificate{reader}, target); err != nil || answer.Status != 200 {
		t.Errorf("granted: %d %q %v", answer.Status, answer.Body, err)
	}
	s.toldOf(t, instance2)
	if answer, err := ask([]tls.Certificate{other}, target); err != nil || reason(answer) != "policy_deny" {
		t.Errorf("another: %d %q %v", answer.Status, answer.Body, err)
	}
	if answer, err := ask(nil, target); err == nil {
		t.Errorf("without a certificate: %d %q", answer.Status, answer.Body)
	}
}

func TestJWTCaddyfile(t *testing.T) {
	t.Parallel()
	tokens, authority := newIssuer(t), harness.NewAuthority(t)
	apiServer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-sidecar" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, tokens.keys)
	}))
	apiServer.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})}}
	apiServer.StartTLS()
	t.Cleanup(apiServer.Close)
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "ca.crt"), authority.PEM())
	writeText(t, filepath.Join(dir, "token"), "of-the-sidecar\n")
	s := prepareShipped(t, "jwt", ":8775", map[string]string{
		"METAGUARD_ISSUER": "https://issuer.example", "METAGUARD_JWKS": apiServer.URL + "/openid/v1/jwks", "METAGUARD_JWKS_CA": filepath.Join(dir, "ca.crt"),
	})
	s.edit(t, "Caddyfile", "/var/run/secrets/kubernetes.io/serviceaccount/token", filepath.Join(dir, "token"))
	s.edit(t, "jwt/policy/data.json", "jwt:https://kubernetes.default.svc.cluster.local#system:serviceaccount:kube-system:cloud-controller-manager", "jwt:https://issuer.example#worker")
	s.Run(s.address)
	if answer := s.asks(t, metadataPath, "Authorization: Bearer "+tokens.token+"\r\n"); answer.Status != 200 {
		t.Errorf("granted: %d %q", answer.Status, answer.Body)
	}
	s.toldOf(t, instance1) // whose address the test has
	if answer := s.asks(t, metadataPath, "Authorization: Bearer "+tokens.foreign+"\r\n"); reason(answer) != "identity_invalid" {
		t.Errorf("another issuer's: %d %q", answer.Status, answer.Body)
	}
	if answer := s.asks(t, "/openstack/latest/user_data", "Authorization: Bearer "+tokens.token+"\r\n"); reason(answer) != "policy_deny" {
		t.Errorf("not granted: %d %q", answer.Status, answer.Body)
	}
	for _, planted := range []string{tokens.token, tokens.foreign, "of-the-sidecar"} {
		if strings.Contains(s.Log(), planted) {
			t.Errorf("the log holds %s", planted)
		}
	}
}

func TestKeystoneCaddyfile(t *testing.T) {
	t.Parallel()
	s := runShipped(t, "keystone", ":8775", map[string]string{"METAGUARD_KEYSTONE": newIssuer(t).keystone + "/v3"})
	token, target := "X-Auth-Token: "+keystoneToken+"\r\n", "X-Metaguard-Target: "+instance2+"\r\n"
	if answer := s.asks(t, metadataPath, token+target); reason(answer) != "policy_deny" {
		t.Errorf("a reader of Keystone's own: %d %q", answer.Status, answer.Body)
	}
	s.edit(t, "keystone/policy/data.json", "metadata_reader", "reader")
	s.Eventually("the role is granted", func() bool { return s.asks(t, metadataPath, token+target).Status == 200 })
	s.upstream.Forget()
	s.asks(t, metadataPath, token+target)
	s.toldOf(t, instance2)
	for headers, want := range map[string]string{token: "target_unknown", target: "identity_missing", target + "X-Auth-Token: wrong\r\n": "identity_invalid"} {
		if answer := s.asks(t, metadataPath, headers); reason(answer) != want {
			t.Errorf("%q: %d %q, want %s", headers, answer.Status, answer.Body, want)
		}
	}
}

func TestProcessCaddyfile(t *testing.T) {
	t.Parallel()
	s := runShipped(t, "process", ":8169", nil)
	if answer := s.asks(t, metadataPath, ""); reason(answer) != "policy_deny" {
		t.Errorf("a test: %d %q", answer.Status, answer.Body)
	}
	line := s.decisions(t, 1)[0]
	if caller, _ := line["caller"].(string); !strings.HasPrefix(caller, "uid:") {
		t.Errorf("logged as %v", line)
	}
}

func TestSessionCaddyfile(t *testing.T) {
	t.Parallel()
	s := runShipped(t, "session", ":80", nil)
	const host = "Host: 169.254.169.254\r\nConnection: close\r\n"
	ask := func(line, headers string) harness.Answer {
		return harness.Raw(t, s.address, line+" HTTP/1.1\r\n"+host+headers+"\r\n")
	}
	if answer := ask("GET "+metadataPath, ""); reason(answer) != "session_missing" {
		t.Errorf("without a token: %d %q", answer.Status, answer.Body)
	}
	made := ask("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n")
	if made.Status != 200 || made.Body == "" {
		t.Fatalf("a token: %d %q", made.Status, made.Body)
	}
	if answer := ask("GET "+metadataPath, "X-aws-ec2-metadata-token: "+made.Body+"\r\n"); answer.Status != 200 {
		t.Errorf("with a token: %d %q", answer.Status, answer.Body)
	}
	s.toldOf(t, instance1)
}

func TestAnonymousCaddyfile(t *testing.T) {
	t.Parallel()
	s := runShipped(t, "anonymous", ":8775", nil)
	for _, test := range []struct{ from, path, reason string }{
		{"127.0.0.1", metadataPath, ""},
		{"127.0.0.9", "/openstack", ""},
		{"127.0.0.9", metadataPath, "policy_deny"},
		{"127.0.0.9", "/openstack/latest/", "policy_deny"},
	} {
		answer := harness.RawFrom(t, test.from, s.address, "GET "+test.path+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
		if test.reason == "" && answer.Status != 200 || test.reason != "" && reason(answer) != test.reason {
			t.Errorf("%+v: %d %q", test, answer.Status, answer.Body)
		}
	}
}

// The policies of the shipped Caddyfiles are formatted and pass the check.
func TestShippedPolicies(t *testing.T) {
	t.Parallel()
	policies, err := filepath.Glob(filepath.Join(harness.Root(t), "caddyfiles", "*", "policy"))
	if err != nil || len(policies) < 7 {
		t.Fatalf("%q %v", policies, err)
	}
	for _, command := range [][]string{{"policy", "check"}, {"policy", "fmt", "--check"}} {
		for _, policy := range policies {
			if output, err := exec.Command(harness.Binary(t), append(command, policy)...).CombinedOutput(); err != nil {
				t.Errorf("%v %s: %v\n%s", command, policy, err, output)
			}
		}
	}
}
