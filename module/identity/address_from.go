// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// AddressFrom says which address is a caller's. Everything but the connection's
// is the word of a proxy.
type AddressFrom string

// The choices of AddressFrom.
const (
	// FromConnection is the other end of the TCP connection, whatever stands in
	// headers and in the PROXY protocol. It is the default.
	FromConnection AddressFrom = "connection"
	// FromClientIP is Caddy's client IP: the address in a header that
	// `trusted_proxies` of the server lets count.
	FromClientIP AddressFrom = "client_ip"
	// FromProxyProtocol is the source address of the PROXY protocol, which the
	// listener wrapper `proxy_protocol` reads.
	FromProxyProtocol AddressFrom = "proxy_protocol"
)

// Check refuses a word that means nothing.
func (f AddressFrom) Check() error {
	switch f {
	case "", FromConnection, FromClientIP, FromProxyProtocol:
		return nil
	}
	return fmt.Errorf("address %q: it is %s, %s or %s", string(f), FromConnection, FromClientIP, FromProxyProtocol)
}

// CheckSite refuses `client_ip` at a server that would take a client's own word for
// it. Most proxies append to the header that a client sent, and unless
// `trusted_proxies_strict` is set Caddy takes the first address there. Whether there are trusted
// proxies at all a server does not tell any more; without them the setting does no harm.
func (f AddressFrom) CheckSite(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if f != FromClientIP || !ok || server.TrustedProxiesStrict > 0 {
		return nil
	}
	return fmt.Errorf("address %s needs trusted_proxies_strict beside trusted_proxies: without it Caddy takes the first address in the header, "+
		"which clients of a proxy that appends to it choose themselves", FromClientIP)
}

// Of gives the address of the request's caller; peer is the connection's own.
// It is the zero Addr where there is none.
func (f AddressFrom) Of(r *http.Request, peer netip.Addr) netip.Addr {
	switch f {
	case FromClientIP:
		text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
		address, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Addr{}
		}
		return plain(address)
	case FromProxyProtocol:
		address, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return netip.Addr{}
		}
		return plain(address.Addr())
	default:
		return peer
	}
}

// connectionAddress is the address of the socket's other end, or what the
// server says of it where there is no socket of the request's own.
func connectionAddress(r *http.Request) string {
	if socket := Connection(r); socket != nil {
		return socket.RemoteAddr().String()
	}
	return r.RemoteAddr
}
