// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// mayAssertAddress tells whether a site here can have `assert address`.
var mayAssertAddress = func() bool { return false }

// wanted is what status must say of a site.
type wanted struct {
	problems  string // the words for them
	answers   bool   // its server does
	upstreams string // their addresses
}

// Every kind of site in one process, some of them well: the status says so of each, and
// health of all.
func TestStatusOfSeveralSites(t *testing.T) {
	t.Parallel()
	authority := harness.NewAuthority(t)
	certificate, key := authority.Server()
	m := prepareManaged(t, byAddress, map[string]string{"ca.pem": authority.PEM(), "other.pem": harness.NewAuthority(t).PEM()})
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of looks that do not trust it
	secure.StartTLS()
	t.Cleanup(secure.Close)
	m.Write("opa.yaml", fmt.Sprintf("services: {away: {url: 'http://127.0.0.1:%d'}}\nbundles: {team: {service: away, resource: team.tar.gz}}\n", harness.FreePort(t)))
	_, plain, _ := net.SplitHostPort(m.upstream.Address)

	var caddyfile strings.Builder
	before, _, _ := strings.Cut(m.read(t, "Caddyfile"), "http://:")
	caddyfile.WriteString(before)
	want := make(map[string]wanted)
	guard := func(hosts []string, binds, upstream, settings string, w wanted) {
		port := harness.FreePort(t)
		var listens []string
		for bind := range strings.FieldsSeq(binds) {
			listens = append(listens, fmt.Sprintf("%s:%d", bind, port))
		}
		for i, host := range hosts {
			fmt.Fprintf(&caddyfile, "http://%s:%d {\n\tbind %s\n\tmetaguard {\n\t\tdialect openstack\n\t\tupstream %s\n\t\tidentify remote_ip inventory.json\n\t\t%s\n\t}\n}\n", host, port, binds, upstream, settings)
			name := strings.Join(listens, ",")
			if i > 0 {
				name += fmt.Sprint("#", i+1)
			}
			want[name] = w
		}
	}
	anyHost := []string{""}
	gone := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	overTLS := func(ca string) string {
		return "https://" + secure.Listener.Addr().String() + " {\n\t\ttransport http {\n\t\t\ttls_trust_pool file " + m.Dir + "/" + ca + "\n\t\t}\n\t}"
	}
	guard([]string{"one.example", "two.example"}, "127.0.0.1 127.0.0.2", m.upstream.Address, "", wanted{"", true, m.upstream.Address})
	guard(anyHost, "127.0.0.1", overTLS("ca.pem"), "", wanted{"", true, secure.Listener.Addr().String()})
	guard(anyHost, "127.0.0.1", overTLS("other.pem"), "", wanted{"upstream_unreachable", false, secure.Listener.Addr().String()})
	guard(anyHost, "127.0.0.1", "{\n\t\tdynamic a localhost "+plain+" {\n\t\t\tversions ipv4\n\t\t}\n\t}", "", wanted{"", true, "127.0.0.1:" + plain})
	guard(anyHost, "127.0.0.1", m.upstream.Address+" "+gone, "", wanted{"upstream_degraded", true, m.upstream.Address + " " + gone})
	guard(anyHost, "127.0.0.1", m.upstream.Address, "policy {\n\t\topa opa.yaml\n\t\tready_timeout 1s\n\t}", wanted{"policy_not_ready", true, m.upstream.Address})
	if mayAssertAddress() {
		guard(anyHost, "127.0.0.1", m.upstream.Address, "assert address", wanted{"", true, m.upstream.Address})
	}
	m.Write("Caddyfile", caddyfile.String())
	for name := range want {
		m.address, _, _ = strings.Cut(strings.TrimSuffix(name, "#2"), ",")
	}
	m.watch(t)

	status := m.status(t)
	problems := make(map[string]string)
	for _, problem := range status.Problems {
		problems[problem.Site] = strings.TrimSpace(problems[problem.Site] + " " + problem.What)
	}
	if len(status.Sites) != len(want) || status.Ready {
		t.Errorf("%d sites of %d, ready %v", len(status.Sites), len(want), status.Ready)
	}
	var health struct {
		Ready bool
		Sites []struct {
			Site    string
			Ready   bool
			Reasons []string
		}
	}
	code, text := m.admin.Ask(t, http.MethodGet, "/metaguard/health", "")
	if err := json.Unmarshal([]byte(text), &health); err != nil || code != 503 || health.Ready || len(health.Sites) != len(want) {
		t.Fatalf("%d %s %v", code, text, err)
	}
	for i, site := range status.Sites {
		w, known := want[site.Name]
		var addresses []string
		answers := false
		for _, upstream := range site.Upstreams {
			addresses = append(addresses, upstream.Address)
			answers = answers || upstream.Answers
		}
		ready := w.problems == "" || w.problems == "upstream_degraded"
		if !known || problems[site.Name] != w.problems || answers != w.answers || strings.Join(addresses, " ") != w.upstreams || site.Ready != ready {
			t.Errorf("%s: problems %q, %+v; it is %+v", site.Name, problems[site.Name], site, w)
		}
		h := health.Sites[i]
		if h.Site != site.Name || h.Ready != ready || ready == (len(h.Reasons) > 0) || (!ready && h.Reasons[0] != w.problems) {
			t.Errorf("health %+v, status %+v", h, site)
		}
	}
	if ranked := status.problems(); ranked != "policy_not_ready upstream_unreachable upstream_degraded" {
		t.Errorf("problems are ranked %q", ranked)
	}
	output, err := m.Command("status", "--address", m.admin.Address)
	if exitCode(err) != 1 || strings.Count(output, "\nsite ") != len(want) || strings.Count(output, "PROBLEM") != 3 {
		t.Errorf("%v\n%s", err, output)
	}
	// Each site is checked by its name; without one there is no telling which is meant.
	const described = `"address": "127.0.0.1", "path": "/openstack"}`
	for name := range want {
		if code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/check", fmt.Sprintf(`{"site": %q, %s`, name, described)); code != 200 || !strings.Contains(text, fmt.Sprintf(`"site":%q`, name)) {
			t.Errorf("check %s: %d %s", name, code, text)
		}
	}
	if code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/check", "{"+described); code != 400 {
		t.Errorf("check without a site: %d %s", code, text)
	}
}

// Over Caddy's remote administration those with a certificate may do what they are
// granted, and nobody else gets anything.
func TestRemoteAdmin(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, nil)
	owner, reader := harness.NewAuthority(t), harness.NewAuthority(t)
	var config map[string]any
	if err := json.Unmarshal([]byte(m.adapted(t)), &config); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	access := func(a *harness.Authority, methods ...string) map[string]any {
		return map[string]any{
			"public_keys": []string{base64.StdEncoding.EncodeToString(a.Certificate().Raw)},
			"permissions": []any{map[string]any{"paths": []string{"/metaguard/"}, "methods": methods}},
		}
	}
	admin := config["admin"].(map[string]any)
	admin["identity"] = map[string]any{"identifiers": []string{"localhost"}, "issuers": []any{map[string]any{"module": "internal"}}}
	admin["remote"] = map[string]any{"listen": address, "access_control": []any{access(owner, "GET", "POST"), access(reader, "GET")}}
	config["apps"].(map[string]any)["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	changed, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.admin.Load(string(changed)); err != nil {
		t.Fatal(err)
	}
	ask := func(a *harness.Authority, method, path, body string) (int, error) {
		//nolint:gosec // the server's own name is not what is tested
		tlsConfig := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
		if a != nil {
			tlsConfig.Certificates = []tls.Certificate{a.Own()}
		}
		request, err := http.NewRequest(method, "https://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}}).Do(request)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	m.Eventually("the remote administration answers", func() bool {
		code, err := ask(owner, http.MethodGet, "/metaguard/health/live", "")
		return code == 200 && err == nil
	})
	for _, endpoint := range adminEndpoints {
		if code, err := ask(owner, endpoint.method, endpoint.path, endpoint.body); code != 200 || err != nil {
			t.Errorf("%s %s: %d %v", endpoint.method, endpoint.path, code, err)
		}
		want := 403
		if endpoint.method == http.MethodGet {
			want = 200
		}
		if code, err := ask(reader, endpoint.method, endpoint.path, endpoint.body); code != want || err != nil {
			t.Errorf("who may read only, %s %s: %d %v, want %d", endpoint.method, endpoint.path, code, err, want)
		}
		for name, stranger := range map[string]*harness.Authority{"a stranger": harness.NewAuthority(t), "nobody": nil} {
			if code, err := ask(stranger, endpoint.method, endpoint.path, endpoint.body); err == nil {
				t.Errorf("%s, %s %s: %d", name, endpoint.method, endpoint.path, code)
			}
		}
	}
	if code, err := ask(owner, http.MethodGet, "/config/", ""); code != 403 || err != nil {
		t.Errorf("a path that nobody was granted: %d %v", code, err)
	}
}
