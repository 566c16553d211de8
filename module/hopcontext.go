// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/metaguard/metaguard/module/identity"
)

// hopContext is the context of a request to the legacy server. It gives it
// variables and placeholders of its own: nothing of the client's can choose where
// it goes, and a dial that outlives the request shares no memory with it. It is one
// context instead of a chain of them, since each costs every look-up behind it.
type hopContext struct {
	context.Context //nolint:containedctx // it is one

	vars     map[string]any
	replacer *caddy.Replacer

	asserted identity.Asserted // what the server is told of the target; nil: nothing
	source   netip.Addr        // the address to connect from; zero: any
	waits    bool              // the server keeps the answer back until something changes
	shares   bool              // the connection may be one that others use, too
}

// hopKey is under which a request's context holds the hopContext itself.
type hopKey struct{}

// isolated makes the context of a request for nobody in particular.
func isolated(ctx context.Context) *hopContext {
	return &hopContext{
		Context: ctx,
		vars: map[string]any{
			caddyhttp.ClientIPVarKey:     unspecified,
			caddyhttp.TrustedProxyVarKey: false,
		},
		replacer: caddy.NewReplacer(),
	}
}

var unspecified = netip.IPv4Unspecified().String()

// Value gives what Caddy looks for, and otherwise what the surrounding context has.
func (c *hopContext) Value(key any) any {
	switch key {
	case hopKey{}:
		return c
	case caddyhttp.VarsCtxKey:
		return c.vars
	case caddy.ReplacerCtxKey:
		return c.replacer
	}
	return c.Context.Value(key)
}
