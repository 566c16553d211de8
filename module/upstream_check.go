// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

const (
	// checkTimeout bounds one look at all of a site's servers.
	checkTimeout = 2 * time.Second
	// checkFresh is for how long what was found counts, so that a flood of
	// questions is no flood of connections.
	checkFresh = time.Second
	// checkUsable is how old an answer may be that must not wait: a newer one is
	// sought meanwhile.
	checkUsable = 10 * time.Second
	// maxChecked bounds how many servers are looked at that a name stands for.
	maxChecked = 16
)

// upstreamCheck finds out whether a legacy server answers. It connects, over
// TLS where the site does, and closes: the server is sent nothing that no decision
// allowed. Nothing runs but while somebody asks, and then one look at a time.
type upstreamCheck struct {
	proxy     *reverseproxy.Handler
	transport *reverseproxy.HTTPTransport
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	fresh     time.Duration // checkFresh, but in tests
	proxied   bool          // behind another proxy, so that a connection would tell nothing

	found atomic.Pointer[upstreamsFound]
	mu    sync.Mutex
	done  chan struct{} // closed at the end of the look that is under way; nil: none is
}

// upstreamsFound is what one look found.
type upstreamsFound struct {
	at      time.Time
	servers []upstreamFound
	err     string // why there are none
}

// upstreamFound is one server as it was found.
type upstreamFound struct {
	// Address is the server's as configured: placeholders stay what they are.
	Address string `json:"address"`
	// Answers tells that it accepts connections, and is not taken for broken.
	Answers bool `json:"answers"`
	// Error says why it does not answer.
	Error string `json:"error,omitempty"`
}

// newUpstreamCheck takes the dialer before `assert address` replaces it:
// a check comes from this host's own address, since it is about no caller.
func newUpstreamCheck(proxy *reverseproxy.Handler, transport *reverseproxy.HTTPTransport, settings json.RawMessage) (*upstreamCheck, error) {
	proxied, err := behindProxy(settings)
	return &upstreamCheck{proxy: proxy, transport: transport, dial: transport.Transport.DialContext, fresh: checkFresh, proxied: proxied}, err
}

// behindProxy tells whether the transport may connect to another proxy. Caddy
// forgets which one was configured.
func behindProxy(transport json.RawMessage) (bool, error) {
	var settings struct {
		Forward string `json:"forward_proxy_url"`
		Network struct {
			From string `json:"from"`
		} `json:"network_proxy"`
	}
	if err := json.Unmarshal(transport, &settings); err != nil {
		return false, fmt.Errorf("upstream: reading transport: %w", err)
	}
	return settings.Forward != "" || settings.Network.From != "none", nil
}

// answers tells whether at least one server accepts connections. What another
// proxy hides counts as answering.
func (f *upstreamsFound) answers() bool {
	return f != nil && slices.ContainsFunc(f.servers, func(server upstreamFound) bool { return server.Answers })
}

func (f *upstreamsFound) younger(than time.Duration) bool {
	return f != nil && time.Since(f.at) < than
}

// over is the end of a look that need not be begun.
var over = func() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// look gives what was found lately, or looks and waits for it. Something that
// is no older than usable is not waited for. It is nil if the context ends first.
func (c *upstreamCheck) look(ctx context.Context, usable time.Duration) *upstreamsFound {
	found := c.found.Load()
	if found.younger(c.fresh) {
		return found
	}
	done := c.begin()
	if found.younger(usable) {
		return found
	}
	select {
	case <-done:
		return c.found.Load()
	case <-ctx.Done():
		return nil
	}
}

// begin begins a look, unless one is under way, and tells when it ends.
func (c *upstreamCheck) begin() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.found.Load().younger(c.fresh) {
			return over // it ended a moment ago
		}
		c.done = make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			c.found.Store(c.connectAll())
			c.mu.Lock()
			defer c.mu.Unlock()
			c.done = nil
		}(c.done)
	}
	return c.done
}

// connectAll connects to all servers at once.
func (c *upstreamCheck) connectAll() *upstreamsFound {
	ctx, cancel := context.WithTimeout(isolated(context.Background()), checkTimeout)
	defer cancel()
	upstreams, err := c.upstreams(ctx)
	if err != nil {
		return &upstreamsFound{at: time.Now(), err: plainCause(err)}
	}
	servers := make([]upstreamFound, len(upstreams))
	var all sync.WaitGroup
	for i, upstream := range upstreams {
		all.Go(func() {
			servers[i].Address = upstream.Dial
			if err := c.connect(ctx, upstream); err != nil {
				servers[i].Error = plainCause(err)
				return
			}
			servers[i].Answers = true
		})
	}
	all.Wait()
	return &upstreamsFound{at: time.Now(), servers: servers}
}

// upstreams are the servers that a request could go to now. Those that are found
// anew for each request are found as for a request about which nothing is known.
func (c *upstreamCheck) upstreams(ctx context.Context) (_ []*reverseproxy.Upstream, err error) {
	if c.proxy.DynamicUpstreams == nil {
		return c.proxy.Upstreams, nil
	}
	defer func() {
		if cause := recover(); cause != nil { // a plugin's, which would end the process here
			err = errors.New("the source of dynamic upstreams failed")
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	if err != nil {
		return nil, err
	}
	found, err := c.proxy.DynamicUpstreams.GetUpstreams(r)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no server was found")
	}
	return found[:min(len(found), maxChecked)], nil
}

// connect makes a connection and closes it.
func (c *upstreamCheck) connect(ctx context.Context, upstream *reverseproxy.Upstream) error {
	if upstream.Host != nil && !upstream.Healthy() {
		return errors.New("taken for broken after requests that failed, see fail_duration")
	}
	if c.proxied {
		return nil
	}
	dial, err := caddy.NewReplacer().ReplaceOrErr(upstream.Dial, true, true)
	if err != nil {
		return errors.New("a placeholder of its address has no value")
	}
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil || address.PortRangeSize() != 1 {
		return errors.New("its address is none")
	}
	conn, err := c.open(ctx, address)
	if err != nil {
		return err
	}
	_ = conn.Close() // nothing was sent over it
	return nil
}

func (c *upstreamCheck) open(ctx context.Context, address caddy.NetworkAddress) (net.Conn, error) {
	where, port := address.JoinHostPort(0), fmt.Sprint(address.StartPort)
	secure := c.transport.TLS != nil && !slices.Contains(c.transport.TLS.ExceptPorts, port)
	if secure && c.transport.Transport.DialTLSContext != nil {
		return c.transport.Transport.DialTLSContext(ctx, address.Network, where)
	}
	conn, err := c.dial(ctx, address.Network, where)
	if err != nil || !secure {
		return conn, err
	}
	config := c.transport.Transport.TLSClientConfig.Clone()
	if config.ServerName == "" {
		config.ServerName = address.Host
	}
	wrapped := tls.Client(conn, config)
	if err := wrapped.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error tells more
		return nil, err
	}
	return wrapped, nil
}

// plainCause is the last part of an error: what went wrong, without the
// addresses, which may be a placeholder's value.
func plainCause(err error) string {
	if errors.As(err, new(x509.HostnameError)) {
		return "the certificate is for another name"
	}
	text := err.Error()
	return strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:])
}
