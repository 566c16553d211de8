// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// noSettings reads a dialect that its name says all about.
func noSettings(d *caddyfile.Dispenser) error {
	d.Next()
	name := d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("dialect %s has no settings, found %q", name, d.Val())
	}
	return nil
}
