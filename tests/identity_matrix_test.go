// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/metaguard/metaguard/tests/harness"
)

// attempt is what one client sends.
type attempt struct {
	trusted     bool // its address is a Neutron agent's
	entry       int  // its address is that of an instance, or 9: of none
	headers     string
	certificate *tls.Certificate
}

// from is the client's address: 127.0.1.x are agents, and the last number says
// which instance has it.
func (a *attempt) from() string {
	network := 2
	if a.trusted {
		network = 1
	}
	return fmt.Sprintf("127.0.%d.%d", network, a.entry)
}

// credential is one state in which a source's credential can be.
type credential struct {
	name  string
	apply func(*attempt)
	// What the source says: a caller's id, a refusal's reason, or nothing, where
	// the credential claims nothing.
	caller string
	reason string
	// unheard: the TLS handshake fails; doubled: there is no one reading of it.
	unheard, doubled bool
}

// identitySource is a row of the matrix.
type identitySource struct {
	name        string
	settings    string
	credentials []credential
	instance    bool // its callers are instances
	target      bool // its callers act on instance 2
}

func header(lines string) func(*attempt) {
	return func(a *attempt) { a.headers += lines }
}

// matrix lists the sources, each with good, missing, malformed, doubled and
// somebody else's credentials, as far as it has them.
func matrix(t *testing.T, authority *harness.Authority, tokens *issuer) []identitySource {
	t.Helper()
	present := func(certificate tls.Certificate) func(*attempt) {
		return func(a *attempt) { a.certificate = &certificate }
	}
	asked := agentHeaders(instance1, sign(instance1))
	signed := func(trusted bool, lines string) func(*attempt) {
		return func(a *attempt) { a.trusted, a.headers = trusted, a.headers+lines }
	}
	at := func(entry int) func(*attempt) { return func(a *attempt) { a.entry = entry } }
	missing := credential{name: "missing", apply: func(*attempt) {}}
	bearer := func(token string) func(*attempt) { return header("Authorization: Bearer " + token + "\r\n") }
	auth := func(token string) func(*attempt) { return header("X-Auth-Token: " + token + "\r\n") }
	return []identitySource{
		{"neutron", "identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n\ttrust 127.0.1.0/24\n}", []credential{
			missing,
			{name: "good", apply: signed(true, asked), caller: "instance:" + instance1},
			{name: "malformed", apply: signed(true, agentHeaders("vm-1", sign("vm-1"))), reason: "identity_invalid"},
			{name: "doubled", apply: signed(true, asked+"X-Instance-ID: "+instance1+"\r\n"), doubled: true},
			{name: "another's", apply: signed(true, agentHeaders(instance1, sign(instance2))), reason: "identity_invalid"},
			{name: "a stranger's", apply: signed(false, asked), reason: "identity_invalid"},
		}, true, false},
		{"remote_ip", "identify remote_ip inventory.json", []credential{
			{name: "missing", apply: at(9)},
			{name: "good", apply: at(1), caller: "instance:" + instance1},
			{name: "another's", apply: at(2), caller: "instance:" + instance2},
		}, true, false},
		{"mtls", "identify mtls {\n\ttarget request inventory.json\n}", []credential{
			missing,
			{name: "good", apply: present(authority.Issue(named("", "spiffe://example.org/matrix"))), caller: "spiffe://example.org/matrix"},
			{name: "malformed", apply: present(authority.Issue(named("", "spiffe://example.org/a", "spiffe://example.org/b"))), reason: "identity_invalid"},
			{name: "another's", apply: present(harness.NewAuthority(t).Issue(named("", "spiffe://example.org/matrix"))), unheard: true},
		}, false, true},
		{"jwt", "identify jwt {\n\tissuer https://issuer.example\n\taudience metaguard\n\tjwks keys.json\n\tclaims vm project\n\ttarget claim vm project\n}", []credential{
			missing,
			{name: "good", apply: bearer(tokens.token), caller: "jwt:https://issuer.example#worker"},
			{name: "malformed", apply: bearer(tokens.token[:len(tokens.token)/2]), reason: "identity_invalid"},
			{name: "doubled", apply: func(a *attempt) { bearer(tokens.token)(a); bearer(tokens.token)(a) }, doubled: true},
			{name: "another's", apply: bearer(tokens.foreign), reason: "identity_invalid"},
		}, false, true},
		{"keystone", "identify keystone {\n\turl " + tokens.keystone + "/v3\n\ttarget request inventory.json\n}", []credential{
			missing,
			{name: "good", apply: auth(keystoneToken), caller: "user:0123456789abcdef0123456789abcdef"},
			{name: "malformed", apply: auth("two words"), reason: "identity_invalid"},
			{name: "doubled", apply: func(a *attempt) { auth(keystoneToken)(a); auth(keystoneToken)(a) }, doubled: true},
			{name: "another's", apply: auth("pl4nted-of-n0body"), reason: "identity_invalid"},
		}, false, true},
		{"process", "identify process {\n\ttarget request inventory.json\n}", []credential{
			{name: "good", apply: func(*attempt) {}, caller: fmt.Sprintf("uid:%d", os.Getuid())},
		}, false, true},
		{"anonymous", "identify anonymous", []credential{
			{name: "good", apply: func(*attempt) {}, caller: "anonymous"},
		}, false, false},
	}
}

const keystoneToken = "pl4nted-keystone-t0ken"

// issuer makes tokens, and is a Keystone that knows one of them.
type issuer struct{ keys, token, foreign, keystone string }

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key := func() jwk.Key {
		raw := harness.NewAuthority(t).Issue(named("key")).PrivateKey
		made, err := jwk.Import(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := made.Set(jwk.KeyIDKey, "one"); err != nil {
			t.Fatal(err)
		}
		return made
	}
	made, other := key(), key()
	public, err := made.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewBuilder().Issuer("https://issuer.example").Subject("worker").Audience([]string{"metaguard"}).
		IssuedAt(time.Now()).Expiration(time.Now().Add(time.Hour)).Claim("vm", instance2).Claim("project", "p").Build()
	if err != nil {
		t.Fatal(err)
	}
	signed := func(key jwk.Key) string {
		text, err := jwt.Sign(token, jwt.WithKey(jwa.ES256(), key))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Subject-Token") != keystoneToken {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Subject-Token", keystoneToken)
		fmt.Fprintf(w, `{"token": {"methods": ["password"], "issued_at": %q, "expires_at": %q, "user": {"id": "0123456789abcdef0123456789abcdef", "name": "worker", "domain": {"id": "default", "name": "Default"}},
			"project": {"id": %q, "name": "p", "domain": {"id": "default", "name": "Default"}}, "roles": [{"id": "r", "name": "reader"}]}}`,
			time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05.000000Z"), projectA)
	}))
	t.Cleanup(server.Close)
	return &issuer{string(keys), signed(made), signed(other), server.URL}
}

// Every source alone and in every order of two, with every credential of each:
// who is identified or why not, and what reached the server.
func TestIdentityMatrix(t *testing.T) {
	t.Parallel()
	authority, tokens := harness.NewAuthority(t), newIssuer(t)
	sources := matrix(t, authority, tokens)
	var chains [][]identitySource
	for i, first := range sources {
		chains = append(chains, []identitySource{first})
		for j, second := range sources {
			if i != j && first.name != "anonymous" {
				chains = append(chains, []identitySource{first, second})
			}
		}
	}
	m := newMatrixSite(t, authority, tokens, chains)
	for i, chain := range chains {
		combine(chain, nil, func(given []credential) { m.try(t, m.addresses[i], chain, given) })
	}
	m.check(t)
	for _, planted := range []string{tokens.token, tokens.foreign, keystoneToken, "pl4nted", sign(instance1), sign(instance2), secret} {
		if strings.Contains(m.Log(), planted) {
			t.Errorf("the log holds %s", planted)
		}
	}
}

// combine gives every choice of one credential for each source.
func combine(chain []identitySource, given []credential, use func([]credential)) {
	if len(given) == len(chain) {
		use(given)
		return
	}
	for _, next := range chain[len(given)].credentials {
		combine(chain, append(slices.Clone(given), next), use)
	}
}

// matrixSite is one process with a site for every chain.
type matrixSite struct {
	*site
	authority *harness.Authority
	addresses []string
	expected  map[string]string // caller by decision id
}

func newMatrixSite(t *testing.T, authority *harness.Authority, tokens *issuer, chains [][]identitySource) *matrixSite {
	t.Helper()
	certificate, key := authority.Server()
	s := prepareSite(t, byAddress, map[string]string{
		"server.pem": certificate, "server.key": key, "ca.pem": authority.PEM(), "keys.json": tokens.keys,
		"inventory.json": fmt.Sprintf(`[{"address": "127.0.1.1", "instance_id": %[1]q, "project_id": "p"}, {"address": "127.0.2.1", "instance_id": %[1]q, "project_id": "p"},
			{"address": "127.0.1.2", "instance_id": %[2]q, "project_id": "p"}, {"address": "127.0.2.2", "instance_id": %[2]q, "project_id": "p"}]`, instance1, instance2),
		"policy/team.rego": "package metaguard.team\n\nallow contains \"matrix\" if {\n\tsome prefix in [\"127.0.\", \"10.0.0.\"]\n\tstartswith(input.caller.address, prefix)\n}\n",
	})
	m := &matrixSite{site: s, authority: authority, expected: make(map[string]string)}
	var text strings.Builder
	text.WriteString("{\n\tadmin off\n\tpersist_config off\n\tlog {\n\t\tlevel DEBUG\n\t\tformat json\n\t}\n}\n")
	for _, chain := range chains {
		address := ""
		for address == "" || slices.Contains(m.addresses, address) { // a free port may be given twice
			address = fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
		}
		m.addresses = append(m.addresses, address)
		var settings strings.Builder
		for _, source := range chain {
			settings.WriteString(source.settings + "\n")
		}
		_, port, _ := net.SplitHostPort(address)
		fmt.Fprintf(&text, "https://:%s {\n\tbind 127.0.0.1\n\ttls %[2]s/server.pem %[2]s/server.key {\n\t\tclient_auth {\n\t\t\tmode verify_if_given\n\t\t\ttrust_pool file %[2]s/ca.pem\n\t\t}\n\t}\n"+
			"\tmetaguard {\n\t\tupstream %[3]s\n\t\tdialect openstack\n\t\tpolicy policy\n\t\t%[4]s\n\t}\n}\n", port, s.Dir, s.upstream.Address, settings.String())
	}
	s.Write("Caddyfile", text.String())
	s.Run(m.addresses[0])
	for _, address := range m.addresses {
		s.Eventually("every site listens", func() bool {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return false
			}
			return conn.Close() == nil
		})
	}
	return m
}

// try sends one attempt and compares what came of it with what should have.
func (m *matrixSite) try(t *testing.T, address string, chain []identitySource, given []credential) {
	t.Helper()
	a := &attempt{trusted: true, entry: 9, headers: "X-Metaguard-Target: " + instance2 + "\r\n"}
	names := make([]string, len(chain))
	caller, reasonWanted, asserts := "", "identity_missing", false
	unheard, doubled, decided := false, false, false
	var by identitySource
	for i, source := range chain {
		given[i].apply(a)
		names[i] = source.name + " " + given[i].name
		asserts = asserts || source.name == "neutron"
		unheard, doubled = unheard || given[i].unheard, doubled || given[i].doubled
		if !decided && (given[i].caller != "" || given[i].reason != "") {
			decided, by, caller, reasonWanted = true, source, given[i].caller, given[i].reason
		}
	}
	what := strings.Join(names, ", ")
	told := ""
	switch {
	case by.instance:
		told = strings.TrimPrefix(caller, "instance:")
	case by.target:
		told = instance2
	}
	if doubled {
		caller, reasonWanted = "", "header_refused"
	}
	if caller != "" && asserts && told == "" {
		reasonWanted = "target_unknown"
	}
	m.upstream.Forget()
	config := &tls.Config{RootCAs: m.authority.Pool(), ServerName: "localhost"}
	if a.certificate != nil {
		config.Certificates = []tls.Certificate{*a.certificate}
	}
	answer, err := send(a.from(), address, config, "GET "+userData+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+a.headers+"\r\n")
	if unheard {
		if err == nil {
			t.Errorf("%s: answered with %d", what, answer.Status)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	requests := m.upstream.Requests()
	if reasonWanted != "" {
		if answer.Status < 400 || reason(answer) != reasonWanted || len(requests) != 0 {
			t.Errorf("%s: %d %q, want %s; the server saw %q", what, answer.Status, answer.Body, reasonWanted, requests)
		}
	} else {
		m.reached(t, what, a, answer, requests, asserts, told)
	}
	m.expected[answer.Header.Get("X-Metaguard-Decision")] = what + "\x00" + caller
}

// reached checks what the server saw of an allowed request.
func (m *matrixSite) reached(t *testing.T, what string, a *attempt, answer harness.Answer, requests []string, asserts bool, told string) {
	t.Helper()
	if answer.Status != 200 || len(requests) != 1 {
		t.Errorf("%s: %d %q, the server saw %q", what, answer.Status, answer.Body, requests)
		return
	}
	for _, name := range []string{"Authorization:", "X-Auth-Token:", "X-Metaguard-Target:"} {
		if strings.Contains(requests[0], name) {
			t.Errorf("%s: the server saw %s in %q", what, name, requests[0])
		}
	}
	wanted := 0
	if asserts {
		wanted = 1
	}
	if strings.Count(requests[0], "X-Instance-Id:") != wanted || asserts && !strings.Contains(requests[0], "X-Instance-Id: "+told+"\r\n") {
		t.Errorf("%s: the server saw %q, want instance %s", what, requests[0], told)
	}
	if strings.Count(requests[0], "X-Forwarded-For: ") != 1 || !strings.Contains(requests[0], "X-Forwarded-For: "+a.from()+"\r\n") && !strings.Contains(requests[0], "X-Forwarded-For: 10.0.0.11\r\n") {
		t.Errorf("%s: the server saw %q from %s", what, requests[0], a.from())
	}
}

// check compares the callers in the decision log.
func (m *matrixSite) check(t *testing.T) {
	t.Helper()
	logged := 0
	for _, line := range m.decisions(t, len(m.expected)) {
		what, known := m.expected[line["decision_id"].(string)]
		if !known {
			continue
		}
		logged++
		what, want, _ := strings.Cut(what, "\x00")
		if got, _ := line["caller"].(string); got != want {
			t.Errorf("%s: logged as %q, want %q", what, got, want)
		}
	}
	if logged != len(m.expected) {
		t.Errorf("%d of %d attempts were logged", logged, len(m.expected))
	}
}

// send is one request over TLS; a handshake that fails is an error.
func send(from, address string, config *tls.Config, request string) (harness.Answer, error) {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, Config: config}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return harness.Answer{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		return harness.Answer{}, err
	}
	answer := harness.ReadAnswer(bufio.NewReader(conn), request)
	return answer, answer.Err
}
