// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

func TestKeystoneFaults(t *testing.T) {
	const unavailable, invalid = decision.IdentityUnavailable, decision.IdentityInvalid
	raw := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}
	}
	roles := func(n int) string {
		return `"roles": [` + strings.TrimPrefix(strings.Repeat(`, {"name": "r%d"}`, n), ", ") + "]"
	}
	many := func(n int) string {
		numbers := make([]any, n)
		for i := range numbers {
			numbers[i] = i
		}
		return fmt.Sprintf(roles(n), numbers...)
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		reason decision.Reason
		code   string
		cause  string
	}{
		"unknown":            {says(http.StatusUnauthorized), invalid, "keystone_token_invalid", ""},
		"not found":          {says(http.StatusNotFound), invalid, "keystone_token_invalid", ""},
		"not permitted":      {says(http.StatusForbidden), unavailable, "keystone_not_permitted", "identity:validate_token"},
		"bad request":        {says(http.StatusBadRequest), unavailable, "keystone_unavailable", "status 400"},
		"too many":           {says(http.StatusTooManyRequests), unavailable, "keystone_unavailable", "status 429"},
		"500":                {says(http.StatusInternalServerError), unavailable, "keystone_unavailable", "status 500"},
		"503":                {says(http.StatusServiceUnavailable), unavailable, "keystone_unavailable", "status 503"},
		"no content":         {says(http.StatusNoContent), unavailable, "keystone_unavailable", "status 204"},
		"second-hand":        {says(http.StatusNonAuthoritativeInfo), unavailable, "keystone_unavailable", "status 203"},
		"multiple choices":   {says(http.StatusMultipleChoices), unavailable, "keystone_unavailable", "status 300"},
		"hangs up":           {raw(""), unavailable, "keystone_unavailable", "cut or no HTTP"},
		"no HTTP":            {raw("SSH-2.0-" + planted + "\r\n"), unavailable, "keystone_unavailable", "cut or no HTTP"},
		"cut":                {raw("HTTP/1.1 200 OK\r\nX-Subject-Token: " + planted + "\r\nContent-Length: 100\r\n\r\n{\"token\": {"), unavailable, "keystone_unavailable", "cut or no HTTP"},
		"cut JSON":           {tells(alice("")[:100]), unavailable, "keystone_unavailable", "no token"},
		"more than JSON":     {tells(alice("") + "}"), unavailable, "keystone_unavailable", "no token"},
		"another type":       {tells(alice(`"user": "` + planted + `"`)), unavailable, "keystone_unavailable", "no token"},
		"empty":              {tells(""), unavailable, "keystone_unavailable", "no token"},
		"null":               {tells("null"), unavailable, "keystone_unavailable", "no token"},
		"no token":           {tells("{}"), unavailable, "keystone_unavailable", "no token"},
		"version 2":          {tells(`{"access": {"token": {"id": "x"}}}`), unavailable, "keystone_unavailable", "no token"},
		"no user":            {tells(alice(`"user": {"id": ""}`)), unavailable, "keystone_unavailable", "no token"},
		"line in user":       {tells(alice(`"user": {"id": "a\nb"}`)), unavailable, "keystone_unavailable", "no token"},
		"no expiry":          {tells(alice(`"expires_at": null`)), unavailable, "keystone_unavailable", "no token"},
		"no issue":           {tells(alice(`"issued_at": null`)), unavailable, "keystone_unavailable", "no token"},
		"bad expiry":         {tells(alice(`"expires_at": "soon"`)), unavailable, "keystone_unavailable", "no token"},
		"issued later":       {tells(alice(`"issued_at": "2200-01-01T00:00:00Z"`)), unavailable, "keystone_unavailable", "no token"},
		"bad project":        {tells(alice(`"project": {"id": "a,b"}`)), unavailable, "keystone_unavailable", "no token"},
		"no project":         {tells(alice(`"project": {"name": "blue"}`)), unavailable, "keystone_unavailable", "no token"},
		"no domain":          {tells(alice(`"domain": {}`)), unavailable, "keystone_unavailable", "no token"},
		"part of the system": {tells(alice(`"system": {"all": false}`)), unavailable, "keystone_unavailable", "no token"},
		"two scopes":         {tells(alice(`"system": {"all": true}, "domain": {"id": "d"}`)), unavailable, "keystone_unavailable", "more than one scope"},
		"nameless role":      {tells(alice(`"roles": [{"id": "1"}]`)), unavailable, "keystone_unavailable", "no token"},
		"many roles":         {tells(alice(many(maxKeystoneRoles + 1))), unavailable, "keystone_unavailable", "more roles"},
		"long role":          {tells(alice(`"roles": [{"name": "` + strings.Repeat("r", maxKeystoneName+1) + `"}]`)), unavailable, "keystone_unavailable", "longer names"},
		"long name":          {tells(alice(`"user": {"id": "u", "name": "` + strings.Repeat("n", maxKeystoneName+1) + `"}`)), unavailable, "keystone_unavailable", "longer names"},
		"too long":           {tells(alice("") + strings.Repeat(" ", maxKeystoneAnswer)), unavailable, "keystone_unavailable", "longer than 1048576 bytes"},
		"another's": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Subject-Token", older)
			_, _ = w.Write([]byte(alice("")))
		}, unavailable, "keystone_unavailable", "another token"},
		"nobody's": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(alice(""))) }, unavailable, "keystone_unavailable", "another token"},
		"expired":  {tells(alice(`"issued_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-01T01:00:00Z"`)), invalid, "keystone_token_expired", ""},
		"bound":    {tells(alice(`"bind": {"kerberos": "alice"}`)), invalid, "keystone_token_bound", ""},
		"mTLS":     {tells(alice(`"oauth2_credential": {"x5t#S256": "abc"}`)), invalid, "keystone_token_bound", ""},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeKeystone(t, test.answer)
			k := newKeystone(t, fake.URL, nil)
			refuses(t, k, test.reason, test.code, planted)
			if _, refusal := k.identify(planted); refusal == nil || !strings.Contains(refusal.Error(), test.cause) {
				t.Errorf("%v, want %s", refusal, test.cause)
			}
		})
	}
}

func TestKeystoneFollowsNoRedirect(t *testing.T) {
	other := newFakeKeystone(t, tells(alice("")))
	fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	refuses(t, newKeystone(t, fake.URL, nil), decision.IdentityUnavailable, "keystone_unavailable", planted)
	if other.asked.Load() != 0 {
		t.Error("the token went elsewhere")
	}
}

func TestKeystoneNotThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	k := newKeystone(t, "http://"+listener.Addr().String(), nil)
	refuses(t, k, decision.IdentityUnavailable, "keystone_unavailable", planted)
	if _, refusal := k.identify(planted); !strings.Contains(refusal.Error(), "connecting to Keystone: dial tcp 127.0.0.1:") {
		t.Error(refusal)
	}
	if k.client.transport.Proxy != nil {
		t.Error("a proxy from the environment would see every token")
	}
}

func TestKeystoneSlow(t *testing.T) {
	waits := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drips := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", r.Header.Get("X-Subject-Token"))
		_, _ = w.Write([]byte(`{"token": `))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, answer := range map[string]http.HandlerFunc{"silent": waits, "within the answer": drips} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeKeystone(t, answer)
			k := newKeystone(t, fake.URL, func(k *Keystone) { k.Timeout = caddy.Duration(50 * time.Millisecond) })
			refuses(t, k, decision.IdentityUnavailable, "keystone_unavailable", planted)
			if _, refusal := k.identify(planted); !strings.Contains(refusal.Error(), "in time") {
				t.Error(refusal)
			}
		})
	}
}

func TestKeystoneBusy(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	fake := newFakeKeystone(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		tells(alice(""))(w, r)
	})
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.Timeout = caddy.Duration(time.Minute) })
	k.client.slots = make(chan struct{}, 1)
	var first sync.WaitGroup
	first.Go(func() {
		if caller, refusal := k.identify(planted); caller == nil {
			t.Error(refusal)
		}
	})
	<-begun
	k.client.timeout = 20 * time.Millisecond
	refuses(t, k, decision.IdentityUnavailable, "keystone_busy", older)
	close(release)
	first.Wait()
	if asked := fake.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestKeystoneTLS(t *testing.T) {
	fake := &fakeKeystone{answer: tells(alice(""))}
	fake.Server = httptest.NewUnstartedServer(fake)
	fake.Config.ErrorLog = log.New(io.Discard, "", 0) // it says that it is not trusted
	fake.StartTLS()
	t.Cleanup(fake.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: fake.Certificate().Raw})))
	k := newKeystone(t, fake.URL, func(k *Keystone) { k.CA = ca })
	if caller, refusal := k.identify(planted); caller == nil {
		t.Error(refusal)
	}
	k = newKeystone(t, fake.URL, nil)
	refuses(t, k, decision.IdentityUnavailable, "keystone_unavailable", planted)
	if _, refusal := k.identify(planted); !strings.Contains(refusal.Error(), "x509") {
		t.Error(refusal)
	}
	if fake.asked.Load() != 1 {
		t.Error("the token went to a server that nobody vouches for")
	}
}
