// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// fakeKeystone answers as a test says, and counts the questions.
type fakeKeystone struct {
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	answer http.HandlerFunc
}

func newFakeKeystone(tb testing.TB, answer http.HandlerFunc) *fakeKeystone {
	tb.Helper()
	f := &fakeKeystone{answer: answer}
	f.Server = httptest.NewServer(f)
	tb.Cleanup(f.Close)
	return f
}

func (f *fakeKeystone) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	answer(w, r)
}

func (f *fakeKeystone) answers(answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// alice is a project-scoped token as Keystone 22 shows it, less what each test
// adds or replaces.
func alice(members string) string {
	document := map[string]any{
		"methods":    []string{"password"},
		"user":       map[string]any{"id": "u1", "name": "alice", "domain": map[string]any{"id": "default", "name": "Default"}, "password_expires_at": nil},
		"audit_ids":  []string{"EwPR35vxRL-R1lHY0kY-3w"},
		"issued_at":  time.Now().UTC().Add(-time.Minute).Format("2006-01-02T15:04:05.000000Z"),
		"expires_at": time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05.000000Z"),
	}
	if members == "" {
		members = `"project": {"id": "` + tenantA + `", "name": "blue", "domain": {"id": "d1", "name": "Corp"}}, "is_domain": false,
			"roles": [{"id": "2", "name": "reader"}, {"id": "1", "name": "metadata_reader"}, {"id": "2", "name": "reader"}]`
	}
	var more map[string]any
	if err := json.Unmarshal([]byte("{"+members+"}"), &more); err != nil {
		panic(err)
	}
	for name, value := range more {
		document[name] = value
	}
	text, err := json.Marshal(map[string]any{"token": document})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// tells answers as Keystone does about a valid token.
func tells(document string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", r.Header.Get("X-Subject-Token"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(document))
	}
}

// says answers with a status, and repeats the token.
func says(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", r.Header.Get("X-Subject-Token"))
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error": {"code": %d, "message": "token %s"}}`, status, r.Header.Get("X-Auth-Token"))
	}
}

func newKeystone(tb testing.TB, url string, edit func(*Keystone)) *Keystone {
	tb.Helper()
	k := &Keystone{URL: url}
	if edit != nil {
		edit(k)
	}
	provision(tb, k.Provision)
	tb.Cleanup(func() { _ = k.Cleanup() })
	return k
}

func withToken(tokens ...string) *http.Request { return request(http.Header{"X-Auth-Token": tokens}) }

func (k *Keystone) identify(tokens ...string) (*decision.Caller, *decision.Refusal) {
	return k.Identify(withToken(tokens...), loopback)
}

// refuses checks a refusal, and that it shows nothing of the token.
func refuses(tb testing.TB, k *Keystone, reason decision.Reason, code string, tokens ...string) {
	tb.Helper()
	caller, refusal := k.identify(tokens...)
	if caller != nil || refusal == nil || refusal.Reason != reason || refusal.Code != code {
		tb.Errorf("%v, %v, want %s (%s)", caller, refusal, reason, code)
		return
	}
	noSecret(tb, refusal, refusal.Error(), refusal.Err)
}

func TestKeystoneIdentifies(t *testing.T) {
	user := map[string]any{
		"user_id": "u1", "user_name": "alice", "user_domain_id": "default", "user_domain_name": "Default",
		"expires_at": "2099-01-02T03:04:05Z",
	}
	with := func(more map[string]any) map[string]any {
		all := make(map[string]any)
		for _, claims := range []map[string]any{user, more} {
			for name, value := range claims {
				all[name] = value
			}
		}
		return all
	}
	const expires = `"expires_at": "2099-01-02T03:04:05.678901Z"`
	blue := map[string]any{"project_name": "blue", "project_domain_id": "d1", "project_domain_name": "Corp"}
	const project = `"project": {"id": "` + tenantA + `", "name": "blue", "domain": {"id": "d1", "name": "Corp"}}`
	for name, test := range map[string]struct {
		members string
		project string
		roles   []string
		claims  map[string]any
	}{
		"project":  {project + `, "roles": [{"name": "reader"}, {"name": "member"}, {"name": "reader"}]`, tenantA, []string{"member", "reader"}, with(blue)},
		"domain":   {`"domain": {"id": "d1", "name": "Corp"}, "roles": [{"name": "admin"}]`, "", []string{"admin"}, with(map[string]any{"domain_id": "d1"})},
		"system":   {`"system": {"all": true}, "roles": [{"name": "reader"}]`, "", []string{"reader"}, with(map[string]any{"system": true})},
		"unscoped": {`"project": null`, "", nil, user},
		"application credential": {
			project + `, "application_credential": {"id": "ac1", "name": "ci", "restricted": true}`, tenantA, nil,
			with(map[string]any{"project_name": "blue", "project_domain_id": "d1", "project_domain_name": "Corp", "application_credential_id": "ac1"}),
		},
		"trust": {
			`"OS-TRUST:trust": {"id": "t1", "impersonation": true, "trustor_user": {"id": "u1"}, "trustee_user": {"id": "u2"}}`, "", nil,
			with(map[string]any{"trust_id": "t1", "trustor_user_id": "u1", "trustee_user_id": "u2"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.RequestURI() != "/v3/auth/tokens?nocatalog" ||
					r.Header.Get("X-Auth-Token") != planted || r.Header.Get("X-Subject-Token") != planted {
					t.Errorf("asked %s %s %v", r.Method, r.URL, r.Header)
				}
				tells(alice(expires+","+test.members))(w, r)
			})
			k := newKeystone(t, fake.URL, nil)
			want := &decision.Caller{
				Source: "keystone", ID: "user:u1", ProjectID: test.project, Address: loopback, Roles: test.roles, Claims: test.claims,
			}
			for range 2 { // asked and remembered
				caller, refusal := k.identify(planted)
				if !reflect.DeepEqual(caller, want) {
					t.Fatalf("%+v, %v\nwant %+v", caller, refusal, want)
				}
				caller.Claims["user_id"] = "changed" // it is the request's own
				noSecret(t, caller, k)
			}
		})
	}
}

func TestKeystoneAsksOnlyForTokens(t *testing.T) {
	fake := newFakeKeystone(t, tells(alice("")))
	k := newKeystone(t, fake.URL, nil)
	if caller, refusal := k.Identify(request(http.Header{"X-Subject-Token": {planted}, "X-Service-Token": {planted}}), loopback); caller != nil || refusal != nil {
		t.Errorf("claimed: %v, %v", caller, refusal)
	}
	refuses(t, k, decision.IdentityInvalid, "keystone_doubled", planted, planted)
	refuses(t, k, decision.IdentityInvalid, "keystone_doubled", "", "")
	for _, token := range []string{
		"", " ", planted + " ", planted + "\t", planted + "\x00", "\x7f", planted + "é", planted + "\r\nX-Is-Admin: 1", strings.Repeat("a", maxKeystoneToken+1),
	} {
		refuses(t, k, decision.IdentityInvalid, "keystone_malformed", token)
	}
	if asked := fake.asked.Load(); asked != 0 {
		t.Errorf("asked %d times", asked)
	}
	if caller, refusal := k.identify(strings.Repeat("a", maxKeystoneToken)); caller == nil {
		t.Error(refusal)
	}
}

func TestKeystoneHeaders(t *testing.T) {
	k := new(Keystone)
	if got := k.Headers(); !reflect.DeepEqual(got, []string{"X-Auth-Token", "X-Subject-Token", "X-Service-Token"}) {
		t.Error(got)
	}
	k.Target = &TargetRule{By: targetByRequest}
	if got := k.Headers(); got[len(got)-1] != HeaderTarget || k.TargetRule() != k.Target {
		t.Error(got)
	}
}

// What works without a socket, works before Provision or after its failure.
func TestKeystoneLife(t *testing.T) {
	fresh := new(Keystone)
	if err := fresh.Start(); err == nil {
		t.Error("started unprovisioned")
	}
	if err := fresh.Cleanup(); err != nil {
		t.Error(err)
	}
	for want, k := range map[string]*Keystone{
		"it must be https":     {URL: "http://keystone.example:5000/v3"},
		"at most 5m0s":         {URL: "https://k/v3", Cache: caddy.Duration(6 * time.Minute)},
		"cache_size -1":        {URL: "https://k/v3", CacheSize: -1},
		"timeout 2m0s":         {URL: "https://k/v3", Timeout: caddy.Duration(2 * time.Minute)},
		"reading ca":           {URL: "https://k/v3", CA: "/no/such.pem"},
		"has no certificate":   {URL: "https://k/v3", CA: "keystone_test.go"},
		"needs an inventory":   {URL: "https://k/v3", Target: &TargetRule{By: targetByAddress}},
		"v3 endpoint, such as": {},
	} {
		if err := provisionError(t, k.Provision); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		if err := k.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// A request that outlives its configuration is answered as before.
func TestKeystoneAnswersAfterCleanup(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		tells(alice(""))(w, r)
	})
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.Timeout = caddy.Duration(time.Minute) })
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if caller, refusal := k.identify(planted); caller == nil {
			t.Error(refusal)
		}
	})
	<-begun
	for range 2 {
		if err := k.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	done.Wait()
	fake.answers(tells(alice("")))
	if caller, refusal := k.identify(older); caller == nil {
		t.Error(refusal)
	}
	// TestMain looks for connections that are left.
}
