// SPDX-License-Identifier: Apache-2.0

package keystone_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/metaguard/metaguard/tests/harness"
)

// inventory gives the callers, who are no instances, a target.
const inventory = `[{"address": "127.0.0.1", "instance_id": "11111111-1111-4111-8111-111111111111", "project_id": "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"}]`

// rules allows metadata by what Keystone says of a caller.
const rules = `package metaguard.team

allow contains "reader_of_blue" if {
	input.resource.kind == "metadata"
	input.resource.action == "read"
	"metadata_reader" in input.caller.roles
	input.caller.source == "keystone"
	input.caller.id == "user:%[1]s"
	input.caller.instance_id == ""
	input.caller.project_id == "%[2]s"
	input.caller.claims.user_id == "%[1]s"
	input.caller.claims.user_name == "alice"
	input.caller.claims.user_domain_name == "Default"
	input.caller.claims.project_name == "blue"
	input.caller.claims.project_domain_id == "default"
	time.parse_rfc3339_ns(input.caller.claims.expires_at) > time.now_ns()
	not input.caller.claims.system
}

allow contains "admin_of_the_system" if {
	input.resource.kind == "metadata"
	"admin" in input.caller.roles
	input.caller.claims.system == true
	input.caller.project_id == ""
}

allow contains "admin_of_the_project" if {
	input.resource.kind == "metadata"
	"admin" in input.caller.roles
	input.caller.claims.project_name == "admin"
}

deny contains "no_credentials" if input.caller.claims.application_credential_id

deny contains "no_deputies" if {
	input.caller.claims.trust_id
	input.caller.claims.trustee_user_id == "%[3]s"
	input.caller.claims.trustor_user_id == "%[1]s"
	"metadata_reader" in input.caller.roles
}
`

func policyOf(c *cloud) string { return fmt.Sprintf(rules, c.alice, c.blue, c.bob) }

// guard is Metaguard with a Keystone beside it. All that stands in tokens must
// not be in what it wrote.
type guard struct {
	*harness.Process
	address  string
	upstream *harness.Upstream
	tokens   []string
}

// newGuard says as much as Metaguard can: at debug level, with an access log,
// under the logging snippet of every Caddyfile that is shipped.
func newGuard(t *testing.T, url, policy, settings string) *guard {
	t.Helper()
	snippet, err := os.ReadFile("../../caddyfiles/logging.caddy")
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{upstream: harness.NewUpstream(t, func(string) string { return harness.OK(`{"uuid": "from the server"}`) })}
	t.Cleanup(func() { g.hidesTokens(t) }) // after it has ended
	port := harness.FreePort(t)
	g.address = fmt.Sprint("127.0.0.1:", port)
	g.Process = harness.Start(t, g.address, map[string]string{
		"logging.caddy": string(snippet), "policy/team.rego": policy, "inventory.json": inventory,
		"Caddyfile": fmt.Sprintf(`{
	debug
	admin off
	persist_config off
	log {
		output stderr
		import logging.caddy
	}
}
http://:%d {
	bind 127.0.0.1
	log {
		import logging.caddy
	}
	metaguard {
		upstream %s
		dialect openstack
		policy policy
		identify keystone {
			url %s
			target remote_ip inventory.json
			timeout 20s # of a busy machine
			%s
		}
	}
}
`, port, g.upstream.Address, url, settings),
	})
	return g
}

func (g *guard) hidesTokens(t *testing.T) {
	t.Helper()
	if len(g.tokens) == 0 || !strings.Contains(g.Log(), "handled request") {
		t.Errorf("the log is no proof:\n%s", g.Log())
	}
	for _, token := range g.tokens {
		// The first bytes of all Fernet tokens are alike.
		for _, part := range []string{token, token[10:50], token[len(token)-40:]} {
			if strings.Contains(g.Log(), part) {
				t.Errorf("the log shows a token:\n%s", g.Log())
			}
		}
		for _, request := range g.upstream.Requests() {
			if strings.Contains(request, token) || strings.Contains(strings.ToLower(request), "x-auth-token") {
				t.Errorf("a token went upstream:\n%s", request)
			}
		}
	}
}

// get asks with tokens, each in a header of its own.
func (g *guard) get(t *testing.T, path string, tokens ...string) harness.Answer {
	t.Helper()
	g.tokens = append(g.tokens, tokens...)
	var headers strings.Builder
	for _, token := range tokens {
		fmt.Fprintf(&headers, "X-Auth-Token: %s\r\n", token)
	}
	return harness.Raw(t, g.address, "GET "+path+" HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n"+headers.String()+"\r\n")
}

const metadata = "/openstack/latest/meta_data.json"

// want checks the status of an answer, and what the decision log says of it.
func (g *guard) want(t *testing.T, answer harness.Answer, status int, fields map[string]any) {
	t.Helper()
	if answer.Status != status {
		t.Errorf("%d %s, want %d", answer.Status, answer.Body, status)
	}
	id := answer.Header.Get("X-Metaguard-Decision")
	var entry map[string]any
	g.Eventually("the decision is logged", func() bool {
		for line := range strings.Lines(g.Log()) {
			entry = nil
			if id != "" && strings.Contains(line, id) && json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "decision" {
				return true
			}
		}
		return false
	})
	for name, value := range fields {
		if entry[name] != value {
			t.Errorf("%s is %v, want %v in %v", name, entry[name], value, entry)
		}
	}
}

func refused(reason, code string) map[string]any {
	return map[string]any{"verdict": "deny", "outcome": "refused", "reason": reason, "code": code}
}

func TestRolesDecide(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	g := newGuard(t, c.url(), policyOf(c), "")
	allowed := map[string]any{"verdict": "allow", "reason": "policy_allow", "source": "keystone"}
	denied := map[string]any{"verdict": "deny", "reason": "policy_deny", "source": "keystone"}

	alice := c.of(t, "alice", c.blue)
	for range 2 {
		g.want(t, g.get(t, metadata, alice), http.StatusOK, allowed)
		g.want(t, g.get(t, metadata, alice), http.StatusOK, map[string]any{"caller": "user:" + c.alice, "project_id": c.blue, "address": "127.0.0.1"})
	}
	if answer := g.get(t, metadata, alice); !strings.Contains(answer.Body, "from the server") {
		t.Error(answer.Body)
	}
	g.want(t, g.get(t, "/openstack/latest/user_data", alice), http.StatusForbidden, denied)
	g.want(t, g.get(t, metadata, c.of(t, "bob", c.green)), http.StatusForbidden, denied)

	unscoped := c.token(t, &tokens.AuthOptions{Username: "alice", Password: "password-of-alice", Scope: tokens.Scope{}})
	g.want(t, g.get(t, metadata, unscoped), http.StatusForbidden, denied)

	system := c.token(t, &tokens.AuthOptions{Username: "admin", Password: adminPassword, Scope: tokens.Scope{System: true}})
	g.want(t, g.get(t, metadata, system), http.StatusOK, map[string]any{"verdict": "allow", "project_id": nil})
	g.want(t, g.get(t, "/openstack/latest/network_data.json", system), http.StatusForbidden, denied)
	g.want(t, g.get(t, metadata, c.admin(t)), http.StatusOK, allowed)
}

// Rules can tell what stands behind a token beside its user and roles.
func TestDeputies(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	g := newGuard(t, c.url(), policyOf(c), "")
	denied := map[string]any{"reason": "policy_deny", "caller": "user:" + c.alice, "project_id": c.blue}
	g.want(t, g.get(t, metadata, c.credential(t, "plain")), http.StatusForbidden, denied)
	denied["caller"] = "user:" + c.bob
	g.want(t, g.get(t, metadata, c.trusted(t, false)), http.StatusForbidden, denied)
	for _, code := range []string{"no_credentials", "no_deputies"} {
		if !strings.Contains(g.Log(), `"`+code+`"`) {
			t.Errorf("nobody was refused with %s", code)
		}
	}
	// Keystone lets no trustee validate a token in the trustor's name.
	g.want(t, g.get(t, metadata, c.trusted(t, true)), http.StatusServiceUnavailable, refused("identity_unavailable", "keystone_not_permitted"))
	// Nobody here enforces access rules, so Keystone does not vouch for it.
	narrow := c.credential(t, "narrow", applicationcredentials.AccessRule{Path: "/v2.1/servers", Method: "GET", Service: "compute"})
	g.want(t, g.get(t, metadata, narrow), http.StatusUnauthorized, refused("identity_invalid", "keystone_token_invalid"))
}

func TestWrongTokens(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	g := newGuard(t, c.url(), policyOf(c), "")
	alice := c.of(t, "alice", c.blue)
	invalid := refused("identity_invalid", "keystone_token_invalid")
	g.want(t, g.get(t, metadata, alice[:len(alice)-2]+"xx"), http.StatusUnauthorized, invalid)
	g.want(t, g.get(t, metadata, "gAAAAABr"+strings.Repeat("x", 180)), http.StatusUnauthorized, invalid)
	g.want(t, g.get(t, metadata, strings.Repeat("0123456789abcdef", 4)), http.StatusUnauthorized, invalid)
	g.want(t, g.get(t, metadata, strings.Repeat("0123456789abcdef", 512)), http.StatusUnauthorized, invalid)
	g.want(t, g.get(t, metadata, strings.Repeat("0123456789abcdef", 513)), http.StatusUnauthorized, refused("identity_invalid", "keystone_malformed"))
	g.want(t, g.get(t, metadata, alice+" "+alice), http.StatusUnauthorized, refused("identity_invalid", "keystone_malformed"))
	g.want(t, g.get(t, metadata), http.StatusUnauthorized, refused("identity_missing", "identity_unclaimed"))
	if answer := g.get(t, metadata, alice, alice); answer.Status != http.StatusBadRequest {
		t.Errorf("%d for two tokens", answer.Status)
	}
	if sent := g.upstream.Requests(); len(sent) != 0 {
		t.Errorf("%q went upstream", sent)
	}
}

func TestRevocationIsNoticed(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	policy := policyOf(c)
	const cache = 2 * time.Second
	believing, asking := newGuard(t, c.url(), policy, "cache 2s"), newGuard(t, c.url(), policy, "cache off")
	alice := c.of(t, "alice", c.blue)
	for _, g := range []*guard{believing, asking} {
		g.want(t, g.get(t, metadata, alice), http.StatusOK, nil)
	}
	c.revoke(t, alice)
	revoked := time.Now()
	asking.want(t, asking.get(t, metadata, alice), http.StatusUnauthorized, refused("identity_invalid", "keystone_token_invalid"))
	believing.Eventually("the revocation is noticed", func() bool {
		begun := time.Now()
		answer := believing.get(t, metadata, alice)
		if answer.Status == http.StatusOK && begun.Sub(revoked) >= cache {
			t.Fatalf("believed %s after the revocation", begun.Sub(revoked))
		}
		return answer.Status == http.StatusUnauthorized
	})
	// Others of the same user go on: only that token was revoked.
	asking.want(t, asking.get(t, metadata, c.of(t, "alice", c.blue)), http.StatusOK, nil)
}

// A Keystone whose tokens live for seconds, and which then ends.
func TestExpiryAndOutage(t *testing.T) {
	t.Parallel()
	need(t)
	s := startServer(t, "EXPIRATION=8")
	g := newGuard(t, s.url(), fmt.Sprintf(rules, "nobody", "nothing", "nobody"), "cache 5m")
	token := s.admin(t)
	g.want(t, g.get(t, metadata, token), http.StatusOK, map[string]any{"verdict": "allow"})
	g.Eventually("the token expires", func() bool { return g.get(t, metadata, token).Status != http.StatusOK })
	g.want(t, g.get(t, metadata, token), http.StatusUnauthorized, refused("identity_invalid", "keystone_token_invalid"))

	known, fresh := s.admin(t), s.admin(t)
	g.want(t, g.get(t, metadata, known), http.StatusOK, nil)
	s.stop(t)
	g.want(t, g.get(t, metadata, fresh), http.StatusServiceUnavailable, refused("identity_unavailable", "keystone_unavailable"))
	g.Eventually("what was remembered is over", func() bool { return g.get(t, metadata, known).Status != http.StatusOK })
	answer := g.get(t, metadata, known)
	g.want(t, answer, http.StatusServiceUnavailable, refused("identity_unavailable", "keystone_unavailable"))
	if answer.Header.Get("Retry-After") == "" || strings.Contains(answer.Body, "127.0.0.1") {
		t.Errorf("%v %s", answer.Header, answer.Body)
	}
}
