// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// checkOf is a check of these servers through a plain dialer.
func checkOf(addresses ...string) *upstreamCheck {
	proxy := new(reverseproxy.Handler)
	for _, address := range addresses {
		proxy.Upstreams = append(proxy.Upstreams, &reverseproxy.Upstream{Dial: address})
	}
	return &upstreamCheck{
		proxy: proxy, transport: &reverseproxy.HTTPTransport{Transport: new(http.Transport)}, dial: new(net.Dialer).DialContext, fresh: time.Hour,
	}
}

// listening is a server that counts the connections which have ended, and notes
// what it is sent.
func listening(t *testing.T, network, address string) (_ net.Listener, connections *atomic.Int64, sent *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	connections, sent = new(atomic.Int64), new(atomic.Int64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n, _ := conn.Read(make([]byte, 1))
			sent.Add(int64(n))
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	return listener, connections, sent
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	return listener.Addr().String()
}

// A server answers if one of them does; each is named as configured, and what is
// wrong with it without its address.
func TestUpstreamCheck(t *testing.T) {
	good, connections, sent := listening(t, "tcp", "127.0.0.1:0")
	socket, _, _ := listening(t, "unix", filepath.Join(t.TempDir(), "s"))
	bad := closed(t)
	t.Setenv("METAGUARD_TEST_UPSTREAM", bad)
	for name, test := range map[string]struct {
		addresses []string
		answers   bool
		errors    string
	}{
		"one":                 {[]string{good.Addr().String()}, true, ""},
		"a Unix socket":       {[]string{"unix/" + socket.Addr().String()}, true, ""},
		"one of two":          {[]string{bad, good.Addr().String()}, true, "connection refused,"},
		"none":                {[]string{bad}, false, "connection refused"},
		"none in a variable":  {[]string{"{env.METAGUARD_TEST_UPSTREAM}"}, false, "connection refused"},
		"no such variable":    {[]string{"{env.METAGUARD_TEST_NOTHING}"}, false, "a placeholder of its address has no value"},
		"no such socket":      {[]string{"unix//nowhere/s"}, false, "no such file or directory"},
		"a range":             {[]string{"127.0.0.1:1-2"}, false, "its address is none"},
		"nobody is listed":    {nil, false, ""},
		"no port":             {[]string{"127.0.0.1"}, false, "connection refused"},
		"two, and none there": {[]string{bad, bad}, false, "connection refused,connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			found := checkOf(test.addresses...).look(t.Context(), 0)
			var texts []string
			for i, server := range found.servers {
				texts = append(texts, server.Error)
				if server.Address != test.addresses[i] || server.Answers != (server.Error == "") {
					t.Errorf("%+v", server)
				}
			}
			if got := strings.Join(texts, ","); found.answers() != test.answers || got != test.errors {
				t.Errorf("answers %v, errors %q, want %v, %q", found.answers(), got, test.answers, test.errors)
			}
		})
	}
	// The kernel accepts a connection before the server does.
	eventually(t, "the connections of two checks", func() bool { return connections.Load() == 2 })
	if n := sent.Load(); n != 0 {
		t.Errorf("%d bytes were sent", n)
	}
}

// A flood of questions is one connection, whether the answer is waited for or not.
func TestUpstreamCheckIsShared(t *testing.T) {
	good, _, _ := listening(t, "tcp", "127.0.0.1:0")
	c := checkOf(good.Addr().String())
	var dials atomic.Int64
	hold := make(chan struct{})
	c.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		<-hold
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if !c.look(t.Context(), 0).answers() {
				t.Error("it does not answer")
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if found := c.look(gone, 0); found.answers() {
		t.Error("an answer before there was one")
	}
	close(hold)
	all.Wait()
	if n := dials.Load(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	// What was found a while ago is still given at once, and sought anew once.
	hold = make(chan struct{})
	found := *c.found.Load()
	found.at = time.Now().Add(-2 * time.Hour)
	c.found.Store(&found)
	for range 50 {
		if !c.look(gone, 24*time.Hour).answers() {
			t.Error("what was found is not given")
		}
	}
	close(hold)
	c.look(t.Context(), 0)
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
	// What is too old is no answer.
	found.at = time.Now().Add(-24 * time.Hour)
	c.found.Store(&found)
	hold = make(chan struct{})
	if c.look(gone, 24*time.Hour).answers() {
		t.Error("an answer that is too old")
	}
	close(hold)
	c.look(t.Context(), 0)
}

// Over TLS the certificate counts as it does for a request.
func TestUpstreamCheckTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for want, config := range map[string]*tls.Config{
		"": {RootCAs: roots},
		"certificate signed by unknown authority": {},
		"the certificate is for another name":     {RootCAs: roots, ServerName: "nova.internal"},
	} {
		c := checkOf(server.Listener.Addr().String())
		c.transport.TLS = new(reverseproxy.TLSConfig)
		c.transport.Transport.TLSClientConfig = config
		if found := c.look(t.Context(), 0); found.servers[0].Error != want || found.answers() != (want == "") {
			t.Errorf("%+v, want %q", found.servers, want)
		}
	}
}

// dynamic is a source of upstreams.
type dynamic func() ([]*reverseproxy.Upstream, error)

func (d dynamic) GetUpstreams(*http.Request) ([]*reverseproxy.Upstream, error) { return d() }

// Servers that are found anew for each request are found, and a source that fails
// harms nobody.
func TestUpstreamCheckDynamic(t *testing.T) {
	good, connections, _ := listening(t, "tcp", "127.0.0.1:0")
	many := func() (all []*reverseproxy.Upstream, _ error) {
		for range 100 {
			all = append(all, &reverseproxy.Upstream{Dial: good.Addr().String()})
		}
		return all, nil
	}
	for name, test := range map[string]struct {
		source  dynamic
		answers bool
		err     string
	}{
		"many": {many, true, ""},
		"none": {func() ([]*reverseproxy.Upstream, error) { return nil, nil }, false, "no server was found"},
		"error": {func() ([]*reverseproxy.Upstream, error) {
			return nil, errors.New("lookup planted.internal: no such host")
		}, false, "no such host"},
		"a panic": {func() ([]*reverseproxy.Upstream, error) { panic("planted") }, false, "the source of dynamic upstreams failed"},
	} {
		c := checkOf()
		c.proxy.DynamicUpstreams = test.source
		if found := c.look(t.Context(), 0); found.answers() != test.answers || found.err != test.err || len(found.servers) > maxChecked {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if n := connections.Load(); n > maxChecked {
		t.Errorf("%d connections", n)
	}
	// Behind another proxy nothing can be known, and nothing is connected to.
	c := checkOf(closed(t))
	c.proxied = true
	if !c.look(t.Context(), 0).answers() {
		t.Error("behind a proxy")
	}
}

// Whether there is another proxy is what the settings say.
func TestBehindProxy(t *testing.T) {
	for settings, want := range map[string]bool{
		`{"network_proxy":{"from":"none"}}`:                                         false,
		`{"network_proxy":{"from":"environment"}}`:                                  true,
		`{"network_proxy":{"from":"none"},"forward_proxy_url":"http://proxy:3128"}`: true,
	} {
		if got, err := behindProxy([]byte(settings)); got != want || err != nil {
			t.Errorf("%s: %v, %v", settings, got, err)
		}
	}
}
