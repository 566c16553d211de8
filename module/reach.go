// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

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
