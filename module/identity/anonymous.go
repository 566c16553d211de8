// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

const anonymousName = "anonymous"

func init() { caddy.RegisterModule(new(Anonymous)) }

// Anonymous claims every request, so that policies may judge callers whom
// nobody knows. It must be the last source. Its caller is no instance: source
// and id are `anonymous`, and the address is the connection's.
type Anonymous struct{}

// CaddyModule says what this is to Caddy.
func (*Anonymous) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.anonymous",
		New: func() caddy.Module { return new(Anonymous) },
	}
}

// Identify claims the request.
func (*Anonymous) Identify(_ *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	return &decision.Caller{Source: anonymousName, ID: anonymousName, Address: peer}, nil
}

// Name is "anonymous".
func (*Anonymous) Name() string { return anonymousName }

// Headers is empty: it reads none.
func (*Anonymous) Headers() []string { return nil }

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify anonymous
func (*Anonymous) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the source
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("identify anonymous takes neither an argument nor a block")
	}
	return nil
}

var (
	_ caddy.Module          = (*Anonymous)(nil)
	_ caddyfile.Unmarshaler = (*Anonymous)(nil)
	_ Source                = (*Anonymous)(nil)
)
