// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/dialect"
)

// A timeout of the server is refused if a request that waits as long as it may, and
// whose client takes its time, would not come to its end.
func TestCheckWaits(t *testing.T) {
	const least = 10*time.Minute + waitMargin + writeTimeout
	for name, test := range map[string]struct {
		server *caddyhttp.Server
		wait   time.Duration
		fine   bool
	}{
		"none":               {&caddyhttp.Server{}, 10 * time.Minute, true},
		"just long enough":   {&caddyhttp.Server{ReadTimeout: caddy.Duration(least), WriteTimeout: caddy.Duration(least)}, 10 * time.Minute, true},
		"reads too briefly":  {&caddyhttp.Server{ReadTimeout: caddy.Duration(least - 1)}, 10 * time.Minute, false},
		"writes too briefly": {&caddyhttp.Server{WriteTimeout: caddy.Duration(least - 1)}, 10 * time.Minute, false},
		"nothing waits":      {&caddyhttp.Server{ReadTimeout: 1, WriteTimeout: 1}, 0, true},
	} {
		h := &Handler{dialect: new(dialect.GCE), traits: dialect.Traits{MaxWait: test.wait}}
		ctx := caddy.Context{Context: context.WithValue(t.Context(), caddyhttp.ServerCtxKey, test.server)}
		if err := h.checkWaits(ctx); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The transport for requests that wait has time for the longest one, and connects
// from nobody else's address than the other.
func TestWaitingTransport(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	h := &Handler{
		AssertAddress: true, traits: dialect.Traits{MaxWait: 10 * time.Minute},
		Upstream: &reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{{Dial: "127.0.0.1:1"}}},
	}
	raw, err := withTransportDefaults(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.hop = new(lastHop)
	if err := h.provisionWaiting(ctx, raw); err != nil {
		t.Fatal(err)
	}
	transport := h.waitingTransport
	defer func() { _ = transport.Cleanup() }()
	if limit := caddy.Duration(10*time.Minute + waitMargin); transport.ResponseHeaderTimeout != limit || transport.ReadTimeout != limit {
		t.Errorf("%v, %v", transport.ResponseHeaderTimeout, transport.ReadTimeout)
	}
	if conn, err := transport.Transport.DialContext(t.Context(), "tcp", "127.0.0.1:1"); conn != nil || err == nil || !strings.Contains(err.Error(), "no address to connect from") {
		t.Errorf("%v, %v", conn, err)
	}
}

// A request that waits has a connection of its own, also where others keep theirs,
// checked or not.
func TestWaitingKeepsNoConnection(t *testing.T) {
	for _, settings := range []string{`{"keep_alive": {"idle_timeout": "1m"}}`, `{"keep_alive": {"idle_timeout": "1m"}, "max_conns_per_host": 5}`} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		defer cancel()
		h := &Handler{
			traits:   dialect.Traits{MaxWait: time.Minute},
			Upstream: &reverseproxy.Handler{Upstreams: reverseproxy.UpstreamPool{{Dial: "127.0.0.1:1"}}},
			hop:      new(lastHop), // as where nothing is checked
		}
		raw, err := withTransportDefaults([]byte(settings))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.provisionWaiting(ctx, raw); err != nil {
			t.Fatal(err)
		}
		if !h.waitingTransport.Transport.DisableKeepAlives {
			t.Errorf("%s: connections are kept", settings)
		}
		if err := h.waitingTransport.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// named is a transport that fails with its name.
type named string

func (n named) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, reverseproxy.NewDialError(errors.New(string(n)))
}

// Only who waits has the time of those who wait.
func TestWhoWaitsHasTime(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	waiting := r.WithContext(&hopContext{Context: r.Context(), waits: true})
	for _, test := range []struct {
		hop  *lastHop
		r    *http.Request
		want string
	}{
		{&lastHop{RoundTripper: named("usual"), waiting: named("long")}, r, "usual"},
		{&lastHop{RoundTripper: named("usual"), waiting: named("long")}, waiting, "long"},
		{&lastHop{RoundTripper: named("usual")}, waiting, "usual"},
	} {
		if _, err := test.hop.RoundTrip(test.r); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}

// A proxy is refused however it was written.
func TestCheckDirect(t *testing.T) {
	for text, fine := range map[string]bool{
		`{"network_proxy": {"from": "none"}}`:                                          true,
		`{"network_proxy": {"from": "url"}}`:                                           false,
		`{"network_proxy": {"from": "none"}, "forward_proxy_url": "http://192.0.2.1"}`: false,
		`{}`: false, // from the environment
	} {
		if err := checkDirect(json.RawMessage(text)); (err == nil) != fine {
			t.Errorf("%s: %v", text, err)
		}
	}
}
