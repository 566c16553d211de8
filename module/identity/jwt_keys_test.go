// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/metaguard/metaguard/module/decision"
)

// keyHost is a server of keys that can be told what to answer.
type keyHost struct {
	*httptest.Server
	answer  atomic.Pointer[func(http.ResponseWriter, *http.Request)]
	fetches atomic.Int64
}

func newKeyHost(tb testing.TB, start func(http.Handler) *httptest.Server) *keyHost {
	h := new(keyHost)
	h.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.fetches.Add(1)
		(*h.answer.Load())(w, r)
	}))
	h.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	tb.Cleanup(h.Close)
	return h
}

func (h *keyHost) does(what func(http.ResponseWriter, *http.Request)) { h.answer.Store(&what) }

func (h *keyHost) publishes(set string) {
	h.does(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(set)) })
}

func (h *keyHost) breaks() {
	h.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
}

// watched provisions a source with keys from a URL and gives its log.
func watched(tb testing.TB, jwks *JWKS, change func(*JWT)) (*JWT, *observer.ObservedLogs) {
	tb.Helper()
	j := &JWT{Issuer: testIssuer, Audience: []string{testAudience}, JWKS: jwks}
	if change != nil {
		change(j)
	}
	provisionJWT(tb, j)
	core, logs := observer.New(zap.DebugLevel)
	j.keys.logger = zap.New(core)
	return j, logs
}

func started(tb testing.TB, j *JWT) {
	tb.Helper()
	for range 2 { // the second does nothing
		if err := j.Start(); err != nil {
			tb.Fatal(err)
		}
	}
}

func codeOf(j *JWT, token string) string {
	caller, refusal := j.Identify(withBearer(token), stranger)
	switch {
	case refusal != nil && refusal.Code == jwtKeysUnavailable && refusal.Reason == decision.IdentityUnavailable:
		return jwtKeysUnavailable
	case refusal != nil && refusal.Reason == decision.IdentityInvalid:
		return refusal.Code
	case refusal != nil:
		return refusal.Error()
	case caller == nil:
		return "not claimed"
	}
	return ""
}

func TestJWTIsASource(t *testing.T) {
	if j := new(JWT); j.Name() != "jwt" || j.Headers()[0] != "Authorization" {
		t.Errorf("%s reads %q", j.Name(), j.Headers())
	}
	j := &JWT{Header: "x-token", Target: &TargetRule{By: targetByRequest}}
	if headers := j.Headers(); len(headers) != 2 || headers[0] != "X-Token" || headers[1] != HeaderTarget {
		t.Errorf("%q", headers)
	}
}

func TestJWTProvisionFetchesNothing(t *testing.T) {
	host := newKeyHost(t, httptest.NewServer)
	host.publishes(allKeys())
	j, _ := watched(t, &JWKS{URL: host.URL}, nil)
	j.keys.wait = time.Millisecond
	good := signedBy(testKeys().rsa, goodHeader(), goodPayload())
	if code := codeOf(j, good); code != jwtKeysUnavailable {
		t.Errorf("before Start: %q", code)
	}
	if host.fetches.Load() != 0 {
		t.Error("keys were fetched before Start")
	}
	j.Stop()
	j.Stop()
	if err := j.Start(); err == nil {
		t.Error("it starts again after its end")
	}
	j.keys.wait = time.Hour
	if code := codeOf(j, good); code != jwtKeysUnavailable {
		t.Errorf("after Stop: %q", code)
	}
	if err := new(JWT).Start(); err == nil {
		t.Error("it starts before it is provisioned")
	}
	new(JWT).Stop()
}

// Requests before the first keys wait for them; a client that leaves does not.
func TestJWTWaitsForFirstKeys(t *testing.T) {
	host := newKeyHost(t, httptest.NewServer)
	release := make(chan struct{})
	host.does(func(w http.ResponseWriter, r *http.Request) {
		<-release
		_, _ = w.Write([]byte(allKeys()))
	})
	j, _ := watched(t, &JWKS{URL: host.URL}, nil)
	j.keys.wait = time.Minute
	started(t, j)
	good := signedBy(testKeys().rsa, goodHeader(), goodPayload())

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, refusal := j.Identify(withBearer(good).WithContext(ctx), stranger); refusal == nil || refusal.Code != jwtKeysUnavailable {
		t.Errorf("a client that left: %v", refusal)
	}
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if code := codeOf(j, good); code != "" {
				t.Errorf("refused: %s", code)
			}
		})
	}
	close(release)
	waiting.Wait()
	if host.fetches.Load() != 1 {
		t.Errorf("%d fetches", host.fetches.Load())
	}
}

// The keys survive an outage up to max_stale; a withdrawn key goes at once.
func TestJWTOutageAndWithdrawal(t *testing.T) {
	k := testKeys()
	host := newKeyHost(t, httptest.NewServer)
	host.publishes(keySetOf(jwkOf(k.rsa, "rsa"), jwkOf(k.p256, "p256")))
	j, logs := watched(t, &JWKS{URL: host.URL}, nil)
	j.keys.interval = 5 * time.Millisecond
	started(t, j)
	good := signedBy(k.rsa, goodHeader(), goodPayload())
	ec := signedBy(k.p256, doc{"alg": "ES256", "kid": "p256"}, goodPayload())
	if code := codeOf(j, good) + codeOf(j, ec); code != "" {
		t.Fatal(code)
	}
	host.breaks()
	eventually(t, func() bool { return j.Status().Failures >= 3 })
	if code := codeOf(j, good); code != "" {
		t.Errorf("in the outage: %s", code)
	}
	status := j.Status()
	if status.Keys != 2 || !strings.Contains(status.LastError, "status 502") || status.FetchedAt.IsZero() {
		t.Errorf("%+v", status)
	}
	if code := codeOf(j, signedBy(k.rsa, goodHeader().but(doc{"kid": "new"}), goodPayload())); code != jwtKeysUnavailable {
		t.Errorf("a key that may be new: %q", code)
	}
	host.publishes(keySetOf(jwkOf(k.rsa, "rsa")))
	eventually(t, func() bool { return j.Status().Keys == 1 })
	if code := codeOf(j, ec); code != "jwt_key_unknown" {
		t.Errorf("the withdrawn key: %q", code)
	}
	if code := codeOf(j, good); code != "" {
		t.Errorf("after the outage: %s", code)
	}
	j.Stop()
	if code := codeOf(j, good); code != "" {
		t.Errorf("a request that still runs after the end: %s", code)
	}
	if warnings := logs.FilterLevelExact(zap.WarnLevel).Len(); warnings != 1 {
		t.Errorf("%d warnings of one outage", warnings)
	}
	if loaded := logs.FilterMessage("keys of tokens loaded").Len(); loaded != 2 {
		t.Errorf("keys loaded %d times, want once at first and once after the outage", loaded)
	}
	j.keys.maxStale = time.Nanosecond
	if code := codeOf(j, good); code != jwtKeysUnavailable {
		t.Errorf("too old: %q", code)
	}
}

// A flood of made-up keys is one fetch; the caller with a new key gets in.
func TestJWTUnknownKeys(t *testing.T) {
	k := testKeys()
	host := newKeyHost(t, httptest.NewServer)
	host.publishes(keySetOf(jwkOf(k.rsa, "rsa")))
	j, _ := watched(t, &JWKS{URL: host.URL}, nil)
	started(t, j)
	if code := codeOf(j, signedBy(k.rsa, goodHeader(), goodPayload())); code != "" {
		t.Fatal(code)
	}
	fresh := signedBy(k.other, goodHeader().but(doc{"kid": "next"}), goodPayload())
	if code := codeOf(j, fresh); code != "jwt_key_unknown" || host.fetches.Load() != 1 {
		t.Errorf("%q after %d fetches; the keys are seconds old", code, host.fetches.Load())
	}
	host.publishes(keySetOf(jwkOf(k.rsa, "rsa"), jwkOf(k.other, "next")))
	j.keys.guard.Lock()
	j.keys.tried = time.Now().Add(-minRenewal)
	j.keys.guard.Unlock()
	var flood sync.WaitGroup
	for i := range 200 {
		flood.Go(func() {
			forged := signedBy(k.ed, goodHeader().but(doc{"kid": fmt.Sprint("forged-", i)}), goodPayload())
			if code := codeOf(j, forged); code != "jwt_key_unknown" {
				t.Errorf("forged: %q", code)
			}
			if code := codeOf(j, fresh); code != "" {
				t.Errorf("the new key: %q", code)
			}
		})
	}
	flood.Wait()
	if fetches := host.fetches.Load(); fetches != 2 {
		t.Errorf("%d fetches, want the first and one for all", fetches)
	}
	// Another issuer's token costs no fetch at all.
	j.keys.guard.Lock()
	j.keys.tried = time.Now().Add(-minRenewal)
	j.keys.guard.Unlock()
	if code := codeOf(j, signedBy(k.ed, goodHeader().but(doc{"kid": "x"}), goodPayload().but(doc{"iss": "https://other"}))); code != "jwt_issuer" {
		t.Error(code)
	}
	if fetches := host.fetches.Load(); fetches != 2 {
		t.Errorf("another issuer's token made it %d fetches", fetches)
	}
	// A server that hangs holds no request longer than its time.
	hang := make(chan struct{})
	defer close(hang)
	host.does(func(http.ResponseWriter, *http.Request) { <-hang })
	j.keys.wait = 5 * time.Millisecond
	if code := codeOf(j, signedBy(k.ed, goodHeader().but(doc{"kid": "y"}), goodPayload())); code != jwtKeysUnavailable {
		t.Errorf("while the server hangs: %q", code)
	}
	if code := codeOf(j, fresh); code != "" {
		t.Errorf("a known key while the server hangs: %q", code)
	}
	j.Stop() // ends the fetch that hangs
}

// The file is followed; a bad one keeps the last good keys.
func TestJWTKeyFile(t *testing.T) {
	k := testKeys()
	path := filepath.Join(t.TempDir(), "jwks.json")
	writeFile(t, path, keySetOf(jwkOf(k.rsa, "rsa")))
	j, logs := watched(t, &JWKS{File: path}, nil)
	j.keys.interval = time.Millisecond
	good := signedBy(k.rsa, goodHeader(), goodPayload())
	if code := codeOf(j, good); code != "" {
		t.Errorf("before Start: %s", code)
	}
	started(t, j)
	writeFile(t, path, `{"keys":[`)
	eventually(t, func() bool { return j.Status().LastError != "" })
	if code := codeOf(j, good); code != "" {
		t.Errorf("with a bad file: %s", code)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return strings.Contains(j.Status().LastError, "opening jwks") })
	writeFile(t, path, keySetOf(jwkOf(k.other, "other")))
	eventually(t, func() bool { return codeOf(j, good) == "jwt_key_unknown" })
	if logs.FilterLevelExact(zap.WarnLevel).Len() != 1 || j.Status().LastError != "" {
		t.Errorf("%v, %+v", logs.All(), j.Status())
	}
}
