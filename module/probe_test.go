// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/policy"
)

// The probe has one spelling, and no body.
func TestIsProbe(t *testing.T) {
	for head, want := range map[string]bool{
		"GET /metaguard/probe HTTP/1.1":                                true,
		"HEAD /metaguard/probe HTTP/1.1":                               true,
		"GET /metaguard/probe HTTP/1.0":                                true,
		"GET /metaguard/probe HTTP/1.1\r\nContent-Length: 0":           true,
		"POST /metaguard/probe HTTP/1.1":                               false,
		"OPTIONS /metaguard/probe HTTP/1.1":                            false,
		"GET /metaguard/probe? HTTP/1.1":                               false,
		"GET /metaguard/probe?x=1 HTTP/1.1":                            false,
		"GET /metaguard/probe/ HTTP/1.1":                               false,
		"GET //metaguard/probe HTTP/1.1":                               false,
		"GET /metaguard//probe HTTP/1.1":                               false,
		"GET /metaguard/./probe HTTP/1.1":                              false,
		"GET /x/../metaguard/probe HTTP/1.1":                           false,
		"GET /metaguard/%70robe HTTP/1.1":                              false,
		"GET /Metaguard/probe HTTP/1.1":                                false,
		"GET /metaguard/probe/../probe HTTP/1.1":                       false,
		"GET http://host/metaguard/probe HTTP/1.1":                     false,
		"GET /metaguard/probe HTTP/1.1\r\nContent-Length: 1":           false,
		"GET /metaguard/probe HTTP/1.1\r\nTransfer-Encoding: chunked":  false,
		"HEAD /metaguard/probe HTTP/1.1\r\nTransfer-Encoding: chunked": false,
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\nHost: m\r\n\r\n")))
		if err != nil {
			t.Fatal(head, err)
		}
		if got := isProbe(r); got != want {
			t.Errorf("%q: %v", head, got)
		}
	}
}

// It says whether the site decides and its server answers, in a status that a
// Neutron agent passes on where one is in front.
func TestProbe(t *testing.T) {
	good, connections, sent := listening(t, "tcp", "127.0.0.1:0")
	builtIn, err := policy.New(t.Context(), policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ready, waiting := &pooledEngine{Engine: builtIn}, &pooledEngine{Engine: new(policy.Engine)}
	t.Setenv("METAGUARD_TEST_SECRET", "some-secret-of-the-agent")
	agent := &identity.Neutron{Secrets: []string{"{env.METAGUARD_TEST_SECRET}"}, Trust: []string{"192.0.2.9"}}
	if err := agent.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		engine   *pooledEngine
		servers  *upstreamCheck
		from     string
		shutting bool
		want     int
	}{
		"ready":                          {ready, checkOf(good.Addr().String()), "192.0.2.1:1", false, 200},
		"no policy":                      {waiting, checkOf(good.Addr().String()), "192.0.2.1:1", false, 503},
		"no server":                      {ready, checkOf(closed(t)), "192.0.2.1:1", false, 503},
		"shutting down":                  {ready, checkOf(good.Addr().String()), "192.0.2.1:1", true, 503},
		"ready, behind an agent":         {ready, checkOf(good.Addr().String()), "192.0.2.9:1", false, 200},
		"no server, behind an agent":     {ready, checkOf(closed(t)), "192.0.2.9:1", false, 500},
		"shutting down, behind an agent": {ready, checkOf(good.Addr().String()), "192.0.2.9:1", true, 500},
	} {
		h := &Handler{engine: test.engine, servers: test.servers, identities: identity.Chain{agent}}
		replacer := caddy.NewReplacer()
		replacer.Map(func(key string) (any, bool) { return test.shutting, key == "http.shutting_down" })
		r := httptest.NewRequest(http.MethodGet, probePath, nil)
		r.RemoteAddr = test.from
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, replacer))
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Error(err)
		}
		if w.Code != test.want || w.Body.Len() > 0 || w.Header().Get("Content-Length") != "0" {
			t.Errorf("%s: %d %v %q", name, w.Code, w.Header(), w.Body)
		}
		if id := w.Header().Get(decisionHeader); id != "" {
			t.Errorf("%s: it has a decision id", name)
		}
	}
	if connections.Load() == 0 || sent.Load() != 0 {
		t.Errorf("%d connections, over which %d bytes were sent", connections.Load(), sent.Load())
	}
}

// A load balancer asks again and again: what was found lately costs nothing.
func BenchmarkProbe(b *testing.B) {
	builtIn, err := policy.New(b.Context(), policy.Config{})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	h := &Handler{engine: &pooledEngine{Engine: builtIn}, servers: checkOf(server.Listener.Addr().String())}
	r, w := httptest.NewRequest(http.MethodGet, probePath, nil), httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.ServeHTTP(w, r, nil)
	}
}
