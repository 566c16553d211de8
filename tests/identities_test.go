// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// secureSite is a site with TLS that verifies client certificates, and its
// authority.
func secureSite(t *testing.T, settings string, files map[string]string) (*site, *harness.Authority) {
	t.Helper()
	authority := harness.NewAuthority(t)
	certificate, key := authority.Server()
	all := map[string]string{"server.pem": certificate, "server.key": key, "ca.pem": authority.PEM()}
	for name, content := range files {
		all[name] = content
	}
	s := prepareSite(t, settings, all)
	s.edit(t, "Caddyfile", "http://:", "https://:")
	s.edit(t, "Caddyfile", "bind 127.0.0.1\n", strings.ReplaceAll("bind 127.0.0.1\n\ttls DIR/server.pem DIR/server.key {\n\t\tclient_auth {\n\t\t\tmode verify_if_given\n\t\t\ttrust_pool file DIR/ca.pem\n\t\t}\n\t}\n", "DIR", s.Dir))
	return s, authority
}

// over sends a request over TLS with a client certificate, or without one.
func (s *site) over(t *testing.T, authority *harness.Authority, certificate *tls.Certificate, request string) harness.Answer {
	t.Helper()
	config := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	method, _, _ := strings.Cut(request, " ")
	return harness.DialTLS(t, "", s.address, config).Send(request).Answer(method)
}

func named(common string, spiffe ...string) *x509.Certificate {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: common}}
	for _, text := range spiffe {
		uri, err := url.Parse(text)
		if err != nil {
			panic(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	return template
}

// A workload with a certificate reads what it was granted of the instance that
// it names, and only what is in the inventory can be named.
func TestMTLS(t *testing.T) {
	t.Parallel()
	s, authority := secureSite(t, "identify mtls {\n\ttarget request inventory.json\n}\nassert neutron {env.METAGUARD_NEUTRON_SECRET}\n"+policyDirectory, map[string]string{
		"policy/data.json": `{"metaguard": {"grants": {"caller_id": {"spiffe://example.org/backup": ["userdata:read", "target:any"], "subject:CN=near": ["userdata:read"]}}}}`,
	})
	s.Run(s.address)
	backup := authority.Issue(named("", "spiffe://example.org/backup"))
	near, broken := authority.Issue(named("near")), authority.Issue(named("x", "spiffe://example.org/a", "spiffe://example.org/b"))
	of := func(headers string) string {
		return "GET /openstack/latest/user_data HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + "\r\n"
	}
	target := func(id string) string { return "X-Metaguard-Target: " + id + "\r\n" }
	for name, test := range map[string]struct {
		certificate *tls.Certificate
		headers     string
		status      int
		reason      string
		told        string
	}{
		"granted":              {&backup, target(instance2), 200, "", instance2},
		"granted, the other":   {&backup, target(instance1), 200, "", instance1},
		"nobody's grant":       {&near, target(instance1), 403, "policy_deny", ""},
		"without a target":     {&backup, "", 403, "target_unknown", ""},
		"an unknown target":    {&backup, target("33333333-3333-4333-8333-333333333333"), 403, "target_unknown", ""},
		"two targets":          {&backup, target(instance1) + target(instance1), 400, "header_refused", ""},
		"no certificate":       {nil, target(instance1), 401, "identity_missing", ""},
		"a broken certificate": {&broken, target(instance1), 401, "identity_invalid", ""},
		"with forged headers":  {&backup, target(instance1) + "X-Instance-ID: " + instance2 + "\r\n", 200, "", instance1},
	} {
		s.upstream.Forget()
		answer := s.over(t, authority, test.certificate, of(test.headers))
		if answer.Status != test.status || test.reason != "" && reason(answer) != test.reason {
			t.Errorf("%s: %d %q", name, answer.Status, answer.Body)
		}
		requests := s.upstream.Requests()
		if test.told == "" && len(requests) != 0 {
			t.Errorf("%s: reached the server: %q", name, requests)
		}
		if test.told != "" && (len(requests) != 1 || strings.Count(requests[0], "X-Instance-Id:") != 1 || !strings.Contains(requests[0], "X-Instance-Id: "+test.told+"\r\n") ||
			strings.Contains(requests[0], "X-Metaguard-Target")) {
			t.Errorf("%s: the server saw %q", name, requests)
		}
	}
	// Who is signed by another authority does not get as far as a request.
	foreign := harness.NewAuthority(t).Issue(named("", "spiffe://example.org/backup"))
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{foreign}})
	if err == nil {
		fmt.Fprint(conn, of(target(instance1)))
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if err == nil {
		t.Error("a foreign certificate was answered")
	}
}

// The latch and the fingerprint are the target's, whoever writes or reads.
func TestTargetPassword(t *testing.T) {
	t.Parallel()
	s, authority := secureSite(t, "identify mtls {\n\ttarget request inventory.json\n}\nidentify remote_ip inventory.json\n"+policyDirectory, map[string]string{
		"policy/data.json": `{"metaguard": {"grants": {"caller_id": {"subject:CN=rescue": ["password:read", "password:write", "target:any"]}}}}`,
	})
	s.Run(s.address)
	rescue := authority.Issue(named("rescue"))
	write := func(certificate *tls.Certificate, headers, body string) harness.Answer {
		return s.over(t, authority, certificate, fmt.Sprintf("POST /openstack/latest/password HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", len(body), headers, body))
	}
	read := func(headers string) harness.Answer {
		return s.over(t, authority, &rescue, "GET /openstack/latest/password HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+headers+"\r\n")
	}
	target := func(id string) string { return "X-Metaguard-Target: " + id + "\r\n" }
	if answer := write(&rescue, target(instance1), "for the first"); answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	if answer := write(nil, "", "its own"); reason(answer) != "password_already_set" {
		t.Errorf("the instance itself, which is 127.0.0.1: %d %q", answer.Status, answer.Body)
	}
	if answer := write(&rescue, target(instance2), "for the second"); answer.Status != 200 {
		t.Errorf("another target: %d %q", answer.Status, answer.Body)
	}
	for id, status := range map[string]int{instance1: 200, instance2: 502} {
		s.upstream.Script(func(string) string { return harness.OK("for the first") })
		if answer := read(target(id)); answer.Status != status || status == 502 && reason(answer) != "password_mismatch" {
			t.Errorf("%s: %d %q", id, answer.Status, answer.Body)
		}
	}
}

// A certificate that expires ends what its connection may do.
func TestMTLSExpires(t *testing.T) {
	t.Parallel()
	s, authority := secureSite(t, "identify mtls\n"+policyDirectory, map[string]string{
		"policy/data.json": `{"metaguard": {"grants": {"caller_id": {"subject:CN=short": ["userdata:read"]}}}}`,
	})
	s.Run(s.address)
	template := named("short")
	template.NotAfter = time.Now().Add(4 * time.Second)
	short := authority.Issue(template)
	client := harness.DialTLS(t, "", s.address, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{short}})
	ask := func() harness.Answer {
		return client.Send("GET /openstack/latest/user_data HTTP/1.1\r\nHost: localhost\r\n\r\n").Answer("GET")
	}
	if answer := ask(); answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	s.Eventually("the certificate has expired", func() bool {
		answer := ask()
		return answer.Status == 401 && reason(answer) == "identity_invalid"
	})
}

// The address is the connection's unless the source says otherwise.
func TestAddresses(t *testing.T) {
	t.Parallel()
	const trusting = "persist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t\tlistener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\tallow 127.0.0.1/32\n\t\t\t}\n\t\t}\n\t}"
	for address, want := range map[string]string{"connection": instance1, "client_ip": instance2, "proxy_protocol": "33333333-3333-4333-8333-333333333333"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, "identify remote_ip inventory.json {\n\taddress "+address+"\n}\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", map[string]string{
				"inventory.json": `[{"address": "127.0.0.1", "instance_id": "` + instance1 + `", "project_id": "p"}, {"address": "192.0.2.2", "instance_id": "` + instance2 + `", "project_id": "p"},
					{"address": "192.0.2.3", "instance_id": "33333333-3333-4333-8333-333333333333", "project_id": "p"}]`,
			})
			s.edit(t, "Caddyfile", "persist_config off", trusting)
			s.Run(s.address)
			preface := "PROXY TCP4 192.0.2.3 127.0.0.1 1 2\r\n"
			if address == "client_ip" {
				preface = "" // whose address would be the peer's for Caddy
			}
			answer := harness.Raw(t, s.address, preface+"GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.3, 192.0.2.2\r\n\r\n") // the first is the client's own word
			requests := s.upstream.Requests()
			if answer.Status != 200 || len(requests) != 1 || !strings.Contains(requests[0], "X-Instance-Id: "+want) {
				t.Errorf("%d %q, the server saw %q", answer.Status, answer.Body, requests)
			}
		})
	}
}

// Without trusted_proxies_strict an address in a header would be the client's own
// word, so that it could be any instance, and no limit would hold it.
func TestAddressesOfProxiesThatAppend(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"identity": "identify remote_ip inventory.json {\n\taddress client_ip\n}",
		"target":   "identify process {\n\ttarget remote_ip inventory.json client_ip\n}",
		"limit":    "identify remote_ip inventory.json\nlimit {\n\trefusals 1/s\n\taddress client_ip\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, settings, nil)
			s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t}")
			if output, err := s.Command("validate", "--config", "Caddyfile"); err == nil || !strings.Contains(output, "needs trusted_proxies_strict") {
				t.Errorf("%v: %s", err, output)
			}
			s.edit(t, "Caddyfile", "static 127.0.0.1", "static 127.0.0.1\n\t\ttrusted_proxies_strict")
			if output, err := s.Command("validate", "--config", "Caddyfile"); err != nil {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
}

// What cannot work is refused when it is loaded, and the error says what is
// missing.
func TestIdentityValidate(t *testing.T) {
	t.Parallel()
	const agents = "identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n}"
	for name, test := range map[string]struct{ settings, want string }{
		"a site that verifies nobody": {"identify mtls", "identify mtls needs a site that verifies client certificates"},
		"a token behind agents only":  {agents + "\nidentify jwt {\n\tissuer https://issuer.example\n\taudience a\n}", "identify jwt waits for a header that would never arrive"},
		"Keystone behind agents only": {agents + "\nidentify keystone {\n\turl https://keystone.example\n}", "identify keystone waits for a header that would never arrive"},
		"a token without an issuer":   {"identify jwt {\n\taudience a\n}", "issuer"},
		"a token for anybody":         {"identify jwt {\n\tissuer https://issuer.example\n}", "audience"},
		"a token that anyone signs":   {"identify jwt {\n\tissuer https://issuer.example\n\taudience a\n\talgorithms HS256\n}", "HS256"},
		"keys that anyone brings":     {"identify jwt {\n\tissuer https://issuer.example\n\taudience a\n\tjwks http://issuer.example/keys\n}", "https"},
		"keys that are not there":     {"identify jwt {\n\tissuer https://issuer.example\n\taudience a\n\tjwks no-such.json\n}", "no-such.json"},
		"Keystone without its place":  {"identify keystone", "url"},
		"Keystone in the clear":       {"identify keystone {\n\turl http://keystone.example/v3\n}", "https"},
		"a target without a file":     {"identify mtls {\n\ttarget request\n}", "target request <inventory-file>"},
		"limit of nothing":            {"identify anonymous\nlimit", "give requests, refusals or both"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, test.settings, nil)
			output, err := s.Command("validate", "--config", "Caddyfile")
			if err == nil || !strings.Contains(output, test.want) {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
}
