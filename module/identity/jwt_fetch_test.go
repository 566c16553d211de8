// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestJWTFetchRefuses(t *testing.T) {
	t.Setenv("METAGUARD_TEST_SECRET", planted)
	// Neither proxies of the environment nor redirects may lead elsewhere.
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("HTTPS_PROXY", "http://192.0.2.1:1")
	host := newKeyHost(t, httptest.NewTLSServer)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate().Raw})))
	server := func() *keyServer {
		return &keyServer{address: host.URL + "/keys", ca: ca, token: "{env.METAGUARD_TEST_SECRET}"}
	}
	say := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	other := newKeyHost(t, httptest.NewServer)
	other.publishes(allKeys())
	discovery := func(s *keyServer) { s.issuer, s.address = host.URL, host.URL+"/.well-known/openid-configuration" }
	for name, test := range map[string]struct {
		change func(*keyServer)
		answer func(http.ResponseWriter, *http.Request)
		want   string // empty: it works
	}{
		"good": {nil, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+planted {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}, ""},
		"redirect": {nil, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusFound)
		}, "answers with status 302"},
		"created":  {nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }, "status 201"},
		"too long": {nil, say(strings.Repeat(" ", maxKeySet+1)), "answers with more than"},
		"cut": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		}, "unexpected EOF"},
		"unknown authority": {func(s *keyServer) { s.ca = "" }, say("x"), "certificate"},
		"ca vanished":       {func(s *keyServer) { s.ca = "/no/such.pem" }, say("x"), "/no/such.pem"},
		"token vanished":    {func(s *keyServer) { s.token = "{file./no/such}" }, say("x"), "token of jwks"},
		"another issuer":    {discovery, say(`{"issuer":"https://evil.example","jwks_uri":"https://evil.example/k"}`), `it is of issuer "https://evil.example"`},
		"slash in issuer":   {discovery, say(`{"issuer":"` + host.URL + `/","jwks_uri":"` + host.URL + `/k"}`), "it is of issuer"},
		"no keys":           {discovery, say(`{"issuer":"` + host.URL + `"}`), "jwks_uri"},
		"doubled issuer":    {discovery, say(`{"issuer":"` + host.URL + `","issuer":"x"}`), "doubled names"},
		"down to http":      {discovery, say(`{"issuer":"` + host.URL + `","jwks_uri":"` + other.URL + `"}`), "is not https, as discovery is"},
		"to the metadata":   {discovery, say(`{"issuer":"` + host.URL + `","jwks_uri":"http://169.254.169.254/latest"}`), "it is not https"},
		"with a password":   {discovery, say(`{"issuer":"` + host.URL + `","jwks_uri":"https://u:p4ss@k/k"}`), "has a user or a password"},
	} {
		t.Run(name, func(t *testing.T) {
			s := server()
			if test.change != nil {
				test.change(s)
			}
			host.does(test.answer)
			_, err := s.load(context.Background())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			noSecret(t, err)
			if strings.Contains(fmt.Sprint(err), "p4ss") {
				t.Errorf("%v shows a password", err)
			}
		})
	}
	if other.fetches.Load() != 0 {
		t.Error("another server was asked")
	}
}

// Discovery may name another host, but the token does not go there.
func TestJWTTokenStaysWithItsServer(t *testing.T) {
	t.Setenv("METAGUARD_TEST_SECRET", planted)
	var leaked atomic.Bool
	other := newKeyHost(t, httptest.NewServer)
	other.does(func(w http.ResponseWriter, r *http.Request) {
		leaked.Store(leaked.Load() || r.Header.Get("Authorization") != "")
		w.WriteHeader(http.StatusUnauthorized)
	})
	host := newKeyHost(t, httptest.NewServer)
	host.does(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"` + host.URL + `","jwks_uri":"` + other.URL + `/keys"}`))
	})
	j := &JWT{Issuer: host.URL, Audience: []string{"a"}, JWKS: &JWKS{Token: "{env.METAGUARD_TEST_SECRET}", Refresh: caddy.Duration(time.Minute)}}
	provisionJWT(t, j)
	started(t, j)
	eventually(t, func() bool { return j.Status().Failures > 0 })
	status := j.Status()
	if want := "the token was not sent there"; !strings.Contains(status.LastError, want) || !strings.Contains(status.LastError, "jwks "+other.URL+"/keys") {
		t.Errorf("%q, want %q", status.LastError, want)
	}
	if leaked.Load() {
		t.Error("the token was sent to another host")
	}
	j.Stop()
	noSecret(t, status, j, *j.JWKS)
}

func TestJWTFetchRefusesOldTLS(t *testing.T) {
	host := newKeyHost(t, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		s.StartTLS()
		return s
	})
	host.publishes(allKeys())
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate().Raw})))
	if _, err := (&keyServer{address: host.URL, ca: ca}).load(context.Background()); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("error %v", err)
	}
}
