// SPDX-License-Identifier: Apache-2.0

package identity

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify neutron {
//		secret <placeholder>...   # required: {env.NAME} or {file.PATH}; the first also signs
//		trust  <cidr>...          # addresses and prefixes; default: 127.0.0.0/8 ::1
//	}
//
// A literal secret, or one written {$NAME}, is an error that does not show it.
func (n *Neutron) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the source
	if d.NextArg() {
		return d.Err("identify neutron takes a block, not an argument") // which may be a secret
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		switch name := d.Val(); name {
		case "secret":
			err = unmarshalList(d, name, &n.Secrets, CheckSecretPlaceholder)
		case "trust":
			err = unmarshalList(d, name, &n.Trust, func(text string) error {
				_, err := parsePrefix(text)
				return err
			})
		default:
			err = d.Errf("unknown setting %q of identify neutron: it has secret and trust", name)
		}
		if err != nil {
			return err
		}
	}
	if len(n.Secrets) == 0 {
		return d.Err("identify neutron needs a secret: secret {env.NAME} or secret {file.PATH}")
	}
	return nil
}
