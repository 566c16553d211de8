// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/identity"
)

// onlyAgents tells whether nobody but Neutron's agents can be in front of the
// site: no other source is there, or every connection that its server's
// listeners can get is from an address that `identify neutron` trusts.
func onlyAgents(ctx caddy.Context, identities identity.Chain) bool {
	var neutron *identity.Neutron
	for _, source := range identities {
		if found, ok := source.(*identity.Neutron); ok {
			neutron = found
		}
	}
	if neutron == nil {
		return false
	}
	if len(identities) == 1 {
		return true
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || len(server.Listen) == 0 {
		return false
	}
	for _, listen := range server.Listen {
		address, err := caddy.ParseNetworkAddress(listen)
		if err != nil || address.IsUnixNetwork() {
			return false
		}
		host, err := netip.ParseAddr(address.Host)
		switch {
		case err != nil || !host.Unmap().IsLoopback():
			return false
		case host.Unmap().Is4() && !neutron.TrustsAll(netip.MustParsePrefix("127.0.0.0/8")),
			host.Is6() && !host.Is4In6() && !neutron.TrustsAll(netip.MustParsePrefix("::1/128")):
			return false
		}
	}
	return true
}

// checkReach refuses what waits for a header of the client's where only
// Neutron's agent can be in front, since it passes none on
// (neutron/agent/metadata/agent.py, _proxy_request).
func (h *Handler) checkReach(ctx caddy.Context) error {
	if err := h.checkForwarded(ctx); err != nil {
		return err
	}
	if err := h.checkWaits(ctx); err != nil {
		return err
	}
	if !onlyAgents(ctx, h.identities) {
		return nil
	}
	const advice = "every address that can reach this site is trusted as a Neutron agent, which drops all headers of clients; " +
		"let the site listen on another address and add a source for clients that come without the agent, or give the agents' own addresses with `trust`"
	if mode := h.Session.Mode; mode != "" && mode != sessionOff {
		return fmt.Errorf("session %s cannot work: %s", mode, advice)
	}
	if h.RequireHeader != nil {
		return fmt.Errorf("require_header %s cannot work: %s", h.RequireHeader.Name, advice)
	}
	for _, source := range h.identities {
		if _, agent := source.(identity.Agent); !agent && len(source.Headers()) > 0 {
			return fmt.Errorf("identify %s waits for a header that would never arrive: %s", source.Name(), advice)
		}
	}
	return nil
}

// checkForwarded refuses what waits for a header that the dialect's server, and so
// Metaguard, refuses: X-Forwarded-For from a trusted proxy or from Neutron's agent.
func (h *Handler) checkForwarded(ctx caddy.Context) error {
	if !h.traits.RefusesForwarded {
		return nil
	}
	const why = "a server of dialect %s refuses requests with X-Forwarded-For, and so does Metaguard"
	byHeader := clientIPIsForwarded(ctx)
	for _, source := range h.identities {
		if _, agent := source.(identity.Agent); agent {
			return fmt.Errorf("identify %s cannot work: "+why+", and its agent adds one to each", source.Name(), h.dialect.Name())
		}
		if inventory, ok := source.(*identity.RemoteIP); ok && byHeader && inventory.Address == identity.FromClientIP {
			return fmt.Errorf("identify %s: address %s cannot work: "+why, source.Name(), identity.FromClientIP, h.dialect.Name())
		}
		targeter, ok := source.(identity.Targeter)
		if !ok || targeter.TargetRule() == nil {
			continue
		}
		if byHeader && targeter.TargetRule().Address == identity.FromClientIP {
			return fmt.Errorf("identify %s: target by %s cannot work: "+why, source.Name(), identity.FromClientIP, h.dialect.Name())
		}
	}
	if h.Limit != nil && byHeader && h.Limit.Address == identity.FromClientIP {
		return fmt.Errorf("limit: address %s cannot work: "+why, identity.FromClientIP, h.dialect.Name())
	}
	return nil
}

// clientIPIsForwarded tells whether every header that Caddy takes a client's
// address from is one that tells of a proxy; X-Forwarded-For is its default.
func clientIPIsForwarded(ctx caddy.Context) bool {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return false
	}
	for _, name := range server.ClientIPHeaders {
		if !canonical.IsForwarded(name) {
			return false
		}
	}
	return true
}
