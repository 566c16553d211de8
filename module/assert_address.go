// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
)

// addressAssertion tells the legacy server who the target is by where its
// connections come from: each is made from the target's own address. It is for
// servers that know callers by nothing else, such as CloudStack's password
// server (passwd_server_ip.py, do_GET: client_address).
//
// No connection serves two requests, and none is ever made from an address of
// Metaguard's own: a caller would get the data of whoever that is.
type addressAssertion struct {
	is6         bool // the servers' family
	dialer      net.Dialer
	read, write time.Duration
}

// provisionAddress lets the transport connect from targets' addresses, and
// refuses settings with which a connection could be another caller's, or go
// elsewhere.
func (h *Handler) provisionAddress(transport *reverseproxy.HTTPTransport) error {
	if !h.AssertAddress {
		return nil
	}
	assertion, err := newAddressAssertion(h.Upstream, transport)
	if err != nil {
		return fmt.Errorf("assert address: %w", err)
	}
	transport.Transport.DialContext = assertion.dial
	h.source = assertion
	return nil
}

func newAddressAssertion(proxy *reverseproxy.Handler, transport *reverseproxy.HTTPTransport) (*addressAssertion, error) {
	switch {
	case !transparentSupported:
		return nil, errors.New("only Linux can connect from a caller's address")
	case !transport.Transport.DisableKeepAlives:
		return nil, errors.New("upstream: keepalive is not possible: a connection that is used again would belong to another caller")
	case !slices.Equal(transport.Versions, []string{"1.1"}):
		return nil, errors.New("upstream: versions: only 1.1 is possible: others put the requests of several callers on one connection")
	case transport.LocalAddress != "":
		return nil, errors.New("upstream: local_address is not possible: a connection has one address")
	case transport.Transport.DialTLSContext != nil:
		// Caddy dials past DialContext then (httptransport.go, NewTransport).
		return nil, errors.New("upstream: tls_server_name: a placeholder is not possible; write the name")
	}
	is6, err := upstreamFamily(proxy)
	if err != nil {
		return nil, err
	}
	return &addressAssertion{
		is6: is6,
		// As Caddy sets its own (httptransport.go, NewTransport).
		dialer: net.Dialer{
			Timeout:       time.Duration(transport.DialTimeout),
			Control:       transparent,
			KeepAlive:     time.Duration(transport.KeepAlive.ProbeInterval),
			FallbackDelay: -1, // there is one address
			KeepAliveConfig: net.KeepAliveConfig{
				Enable:   transport.KeepAlive.ProbeInterval > 0,
				Interval: time.Duration(transport.KeepAlive.ProbeInterval),
			},
		},
		read:  time.Duration(transport.ReadTimeout),
		write: time.Duration(transport.WriteTimeout),
	}, nil
}

// checkDirect refuses a proxy between Metaguard and the server. It is looked for
// before it is loaded.
func checkDirect(transport json.RawMessage) error {
	proxied, err := behindProxy(transport)
	if err != nil {
		return err
	}
	if proxied {
		return errors.New("assert address: upstream: network_proxy is not possible: the server would see the proxy's address")
	}
	return nil
}

// upstreamFamily tells whether the servers are at IPv6 addresses. All are of one
// family, since one without a server would be refused or not as chance has it,
// and none is a name, whose family is known only when it is too late.
func upstreamFamily(proxy *reverseproxy.Handler) (is6 bool, err error) {
	if proxy.DynamicUpstreams != nil {
		return false, errors.New("upstream: dynamic is not possible: give the server's IP address")
	}
	for i, upstream := range proxy.Upstreams {
		dial, err := caddy.NewReplacer().ReplaceOrErr(upstream.Dial, true, true)
		if err != nil {
			return false, fmt.Errorf("upstream %s: %w", upstream.Dial, err)
		}
		parsed, err := caddy.ParseNetworkAddress(dial)
		if err != nil {
			return false, fmt.Errorf("upstream %s: %w", upstream.Dial, err)
		}
		if parsed.IsUnixNetwork() {
			return false, fmt.Errorf("upstream %s: a Unix socket has no address to connect from", upstream.Dial)
		}
		address, err := netip.ParseAddr(parsed.Host)
		if err != nil || parsed.Network != "tcp" {
			return false, fmt.Errorf("upstream %s: give the server's IP address, since callers of one family cannot reach the other", upstream.Dial)
		}
		now6 := address.Unmap().Is6()
		if i > 0 && now6 != is6 {
			return false, errors.New("upstream: addresses of one family only; give the other one a site of its own")
		}
		is6 = now6
	}
	return is6, nil
}

// Start fails where the process may not connect from other addresses than its
// own, so that this is known before the first request.
func (a *addressAssertion) Start() error {
	if err := checkTransparent(a.is6); err != nil {
		return fmt.Errorf("assert address: this process may not connect from callers' addresses, CAP_NET_ADMIN is missing: %w", err)
	}
	return nil
}

// of gives the address to connect from. An IPv6 link-local one is another
// machine's on every link, so that the server could not tell two apart.
func (a *addressAssertion) of(target decision.Target) (netip.Addr, *decision.Refusal) {
	address := target.Address.Unmap()
	switch {
	case !address.IsValid(), address.IsUnspecified(), address.IsMulticast(),
		address.Is6() && (address.IsLinkLocalUnicast() || address.Zone() != ""):
		return netip.Addr{}, decision.Refuse(decision.TargetUnknown, "no_address")
	case address.Is6() != a.is6:
		return netip.Addr{}, decision.Refuse(decision.TargetUnknown, "address_family")
	}
	return address, nil
}

// dial connects from the address in the context. What fails is an error of
// dialing to reverse_proxy: the server saw nothing of the request.
func (a *addressAssertion) dial(ctx context.Context, network, address string) (net.Conn, error) {
	hop, ok := ctx.Value(hopKey{}).(*hopContext)
	if !ok || !hop.source.IsValid() {
		return nil, reverseproxy.NewDialError(errors.New("no address to connect from"))
	}
	if info, ok := reverseproxy.GetDialInfo(ctx); ok {
		network, address = info.Network, info.Address
	}
	dialer := a.dialer
	dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(hop.source, 0))
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, reverseproxy.NewDialError(explainDial(err))
	}
	return &timedConn{conn, a.read, a.write}, nil
}

// explainDial says what the kernel's words mean for a connection from a foreign
// address.
func explainDial(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("connecting from the caller's address: CAP_NET_ADMIN is missing, or a firewall forbids it: %w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("connecting from the caller's address: all its ports are in use, or CAP_NET_ADMIN is missing: %w", err)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("connecting from the caller's address: no reply came back to this host, see `assert address` for the routes: %w", err)
	}
	return err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// timedConn bounds how long one read and one write may take, as Caddy's own
// connections do (httptransport.go, tcpRWTimeoutConn).
type timedConn struct {
	net.Conn
	read, write time.Duration
}

// Read reads in time.
func (c *timedConn) Read(b []byte) (int, error) {
	if c.read > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.read)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// Write writes in time.
func (c *timedConn) Write(b []byte) (int, error) {
	if c.write > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// checkAssertAddress refuses identities whose address is nobody's, or stands in
// a header that nothing vouches for.
func (h *Handler) checkAssertAddress() error {
	if !h.AssertAddress {
		return nil
	}
	if len(h.identities) == 1 && h.identities[0].Name() == "anonymous" {
		return errors.New("assert address needs a target, and `identify anonymous` gives none")
	}
	for _, source := range h.identities {
		if _, agent := source.(identity.Agent); agent {
			return fmt.Errorf("assert address is not possible with `identify %s`: its signature does not cover the address, and networks of tenants have the same addresses; use `assert neutron`", source.Name())
		}
	}
	return nil
}
