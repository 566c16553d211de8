// SPDX-License-Identifier: Apache-2.0

// Package identity finds out who calls: step 2 of a request's way.
//
// An ordered list of sources is asked, one after the other. A source claims a
// request when its credential is there, or does not. The first that claims it
// answers for it; a claim that cannot be verified ends the request and never
// falls through to a weaker source. A request that nobody claims ends too,
// unless the operator wrote `identify anonymous` last.
//
// # Whom to believe
//
// The address of a caller comes from the connection, never from a header or the
// PROXY protocol, with two exceptions: a Neutron metadata agent whose own address
// is trusted and whose signature is right says for which address it asks, and a
// source may be told that a proxy stands in front (AddressFrom).
//
// Neutron's signature covers the instance id and nothing else: not the tenant,
// the address, the method, the path, the body, nor the time. So whoever holds
// one signed request of an instance can send others in its name for ever,
// with any tenant; this is why a signature counts only from trusted addresses.
// The tenant is as true as the trusted agent is honest.
//
// # Order
//
// With `identify remote_ip` before `identify neutron`, an address that the
// inventory names is that entry's caller, and headers of Neutron that it sends
// are neither judged nor forwarded. Behind an agent, write neutron first.
package identity

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// Source finds out who calls. Guest modules in the namespace
// metaguard.identities implement it. All methods may be called concurrently.
type Source interface {
	// Identify does not claim the request (nil, nil), identifies its caller
	// (caller, nil) or ends it (nil, refusal). The peer is the other end of the
	// connection as Peer gives it; the zero Addr is a Unix socket. What
	// it returns is the request's own, except for Caller.Roles, which is
	// shared and must not be changed.
	Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal)
	// Name is the word after `identify`, and Caller.Source.
	Name() string
	// Headers lists the request headers that the source reads, in Go's
	// canonical form. They are never forwarded, and canonicalising refuses a
	// request that has one of them twice.
	Headers() []string
}

// Agent is a source behind which an agent stands that speaks for its callers,
// as Neutron's does. Such an agent survives only a few statuses.
type Agent interface {
	// Trusts tells whether peer is such an agent.
	Trusts(peer netip.Addr) bool
}

// Asserter is a source that can also tell the legacy server who the target is:
// `identify neutron` implies `assert neutron` with its first secret.
type Asserter interface {
	// Assertion signs what goes upstream. It is there once the source is
	// provisioned.
	Assertion() *Assertion
}

// Targeter is a source whose callers may act on the data of an instance that
// they are not.
type Targeter interface {
	// TargetRule says on whose; nil: nobody said.
	TargetRule() *TargetRule
}

// Starter is a source that does something in the background. Provision starts
// nothing, so that validating a configuration does not either.
type Starter interface {
	// Start begins it; starting twice is the same as once.
	Start() error
	// Stop ends it and waits for the end; it does no harm where nothing runs.
	Stop()
}

// Peer is the address of the other end of the connection, whatever the PROXY
// protocol says: an IPv4-mapped IPv6 address as IPv4, without a zone. It is the
// zero Addr for a Unix socket, which no source trusts. What cannot be read as an
// address is an error.
func Peer(r *http.Request) (netip.Addr, error) {
	if socket := Connection(r); socket != nil {
		if tcp, ok := socket.RemoteAddr().(*net.TCPAddr); ok {
			return plain(tcp.AddrPort().Addr()), nil
		}
	}
	text := connectionAddress(r)
	addr, err := netip.ParseAddrPort(text)
	if err == nil {
		return plain(addr.Addr()), nil
	}
	if text == "" || strings.HasPrefix(text, "@") || strings.HasPrefix(text, "/") {
		return netip.Addr{}, nil
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); ok && local != nil {
		return netip.Addr{}, nil
	}
	return netip.Addr{}, fmt.Errorf("reading the connection's address %q: %w", text, err)
}

// plain is an address as Metaguard compares it.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
