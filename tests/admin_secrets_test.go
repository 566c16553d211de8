// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// Every secret that a site can be given or sent goes through it, and none of them is in an
// answer of the admin API, in a log or in a metric.
func TestNothingShowsASecret(t *testing.T) {
	t.Parallel()
	tokens := newIssuer(t)
	given := map[string]string{ // by the variable that it is in
		"METAGUARD_PLANTED_SESSION":     "pl4nted-session-key-of-32-bytes-or-more!",
		"METAGUARD_PLANTED_FINGERPRINT": "pl4nted-fingerprint-key-0123456789abcdef",
		"METAGUARD_PLANTED_REDIS":       fmt.Sprintf("redis://user:pl4nted-redis-password@127.0.0.1:%d/0", harness.FreePort(t)),
		"METAGUARD_NEUTRON_SECRET":      secret,
		"METAGUARD_POLICY_TOKEN":        policyToken,
	}
	guard := func(latch string) string {
		return `identify keystone {
			url ` + tokens.keystone + `/v3
			target request inventory.json
		}
		identify jwt {
			issuer https://issuer.example
			audience metaguard
			jwks keys.json
			target claim vm project
		}
		` + neutronFrom("127.0.0.2") + "\n" + byAddress + `
		session optional {
			key {env.METAGUARD_PLANTED_SESSION}
		}
		password {
			` + latch + `
			fingerprint_key {env.METAGUARD_PLANTED_FINGERPRINT}
		}`
	}
	m := prepareManaged(t, guard(""), map[string]string{
		"keys.json":        tokens.keys,
		"opa.yaml":         fmt.Sprintf("services: {away: {url: 'http://127.0.0.1:%d', credentials: {bearer: {token: '${METAGUARD_POLICY_TOKEN}'}}}}\ndecision_logs: {service: away}\n", harness.FreePort(t)),
		"policy/data.json": grant(instance1, "password:read"),
	})
	m.edit(t, "Caddyfile", "policy policy {", "policy policy {\n\topa opa.yaml")
	// Another site has the latch that knows a password.
	text := m.read(t, "Caddyfile")
	_, site, _ := strings.Cut(text, "http://:")
	site = strings.Replace(site, strings.TrimPrefix(m.address, "127.0.0.1:"), fmt.Sprint(harness.FreePort(t)), 1)
	site = strings.Replace(site, "fingerprint_key", "latch redis {env.METAGUARD_PLANTED_REDIS}\n\t\t\tfingerprint_key", 1)
	m.Write("Caddyfile", text+"http://:"+site)
	for name, value := range given {
		m.Setenv(name, value)
	}
	const written, forged = "pl4nted-password", "pl4nted-forged-t0ken"
	m.upstream.Script(func(request string) string {
		if strings.Contains(request, "POST ") || !strings.Contains(request, "/password") {
			return harness.OK("")
		}
		return harness.OK(written)
	})
	m.watch(t)

	session := harness.Raw(t, m.address, "PUT /latest/api/token HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: 0\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n")
	if session.Status != 200 || session.Body == "" {
		t.Fatalf("a session token: %d %q", session.Status, session.Body)
	}
	signature := sign(instance1)
	wants := func(what string, status int, headers string) {
		t.Helper()
		if answer := m.asks(t, userdataPath, headers); answer.Status != status {
			t.Errorf("%s: %d %q, want %d", what, answer.Status, answer.Body, status)
		}
	}
	wants("a session", 200, "X-Aws-Ec2-Metadata-Token: "+session.Body+"\r\n")
	wants("another session", 401, "X-Aws-Ec2-Metadata-Token: "+forged+"\r\n")
	wants("a token of Keystone's", 403, "X-Auth-Token: "+keystoneToken+"\r\nX-Metaguard-Target: "+instance1+"\r\n")
	wants("one that Keystone does not know", 401, "X-Auth-Token: "+forged+"\r\n")
	wants("a JWT", 403, "Authorization: Bearer "+tokens.token+"\r\n")
	wants("another's JWT", 401, "Authorization: Bearer "+tokens.foreign+"\r\n")
	wants("a signature from a stranger", 401, "X-Instance-ID: "+instance1+"\r\nX-Tenant-ID: "+projectA+"\r\nX-Instance-ID-Signature: "+signature+"\r\n")
	if answer := m.post(t, "", written); answer.Status != 200 {
		t.Errorf("a password: %d %q", answer.Status, answer.Body)
	}
	if answer := m.get(t, "/openstack/latest/password"); answer.Status != 200 || answer.Body != written {
		t.Errorf("reading it: %d %q", answer.Status, answer.Body)
	}

	planted := []string{written, forged, keystoneToken, tokens.token, tokens.foreign, session.Body, signature, "pl4nted-redis-password"}
	for name, value := range given {
		if name != "METAGUARD_PLANTED_REDIS" {
			planted = append(planted, value)
		}
	}
	for _, word := range []string{tokens.token, tokens.foreign, session.Body} { // nor a part of it
		planted = append(planted, word[len(word)-20:])
	}
	shown := map[string]string{"the log": "", "the configuration": m.admin.Get(t, "/config/"), "metrics": m.admin.Get(t, "/metrics")}
	for _, endpoint := range adminEndpoints {
		body := endpoint.body
		if strings.HasSuffix(endpoint.path, "/check") {
			body = fmt.Sprintf(`{"site": %q, %s`, m.address, body[1:])
		}
		code, answer := m.admin.Ask(t, endpoint.method, endpoint.path, body)
		if code >= 400 {
			t.Errorf("%s: %d %s", endpoint.path, code, answer)
		}
		shown[endpoint.path] = answer
	}
	for _, policy := range policyNames(t, shown["/metaguard/policies"]) {
		shown["the bundle "+policy] = m.admin.Get(t, "/metaguard/policies/"+policy)
	}
	code, reset := m.admin.Ask(t, http.MethodPost, "/metaguard/password/reset", fmt.Sprintf(`{"instance_id": %q}`, instance1))
	if code != 503 || !strings.Contains(reset, "forgotten in 1 of 2 sites") {
		t.Errorf("a reset where one latch is away: %d %s", code, reset)
	}
	shown["a reset"] = reset
	shown["the log"] = m.Log()
	for where, text := range shown {
		for _, word := range planted {
			if strings.Contains(text, word) {
				t.Errorf("%s shows %s", where, word)
			}
		}
	}
	for name := range given {
		if name != "METAGUARD_POLICY_TOKEN" && !strings.Contains(shown["the configuration"], "{env."+name+"}") {
			t.Errorf("the configuration does not name %s", name)
		}
	}
	if status := m.status(t); status.problems() != "latch_unavailable" || !status.Ready || len(status.Sites) != 2 {
		t.Errorf("%+v", status)
	}
	m.Stop()
	for _, word := range planted {
		if strings.Contains(m.Log(), word) {
			t.Errorf("the log of the end shows %s", word)
		}
	}
}

// policyNames reads the answer of GET /metaguard/policies.
func policyNames(t *testing.T, answer string) (names []string) {
	t.Helper()
	var policies []struct{ Name string }
	if err := json.Unmarshal([]byte(answer), &policies); err != nil || len(policies) == 0 {
		t.Fatalf("%s %v", answer, err)
	}
	for _, policy := range policies {
		names = append(names, policy.Name)
	}
	return names
}
