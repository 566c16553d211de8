// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile reads the directive:
//
//	metaguard_legacy [<matcher>] {
//		server   uwsgi | eventlet
//		cache    <duration>
//		secret   {env.NAME} | {file.PATH}
//		instance <uuid> {
//			project   <id>
//			name      <name>
//			address   <address>...
//			user_data <text>
//			meta      <key> <value>
//			password  <key> <value>
//		}
//	}
//
// instance may stand there several times, and so may address, meta and
// password within one; none is needed. The keys of password are those of
// Nova's system_metadata, such as password_0.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := map[string]bool{}
	for d.NextBlock(0) {
		name := d.Val()
		if name != "instance" && seen[name] {
			return d.Errf("%s is given twice", name)
		}
		seen[name] = true
		switch name {
		case "server":
			if !d.AllArgs(&h.Server) {
				return d.ArgErr()
			}
		case "cache":
			var text string
			if !d.AllArgs(&text) {
				return d.ArgErr()
			}
			value, err := caddy.ParseDuration(text)
			if err != nil {
				return d.Errf("reading cache: %v", err)
			}
			expiry := caddy.Duration(value)
			h.Cache = &expiry
		case "secret":
			if !d.AllArgs(&h.Secret) {
				return d.ArgErr()
			}
		case "instance":
			if err := h.unmarshalInstance(d); err != nil {
				return err
			}
		default:
			return d.Errf("unrecognized subdirective %q", name)
		}
		// Here, where it is known which line is at fault.
		if err := h.check(); err != nil {
			return d.Errf("%v", err)
		}
	}
	return nil
}

// unmarshalInstance reads one instance.
func (h *Handler) unmarshalInstance(d *caddyfile.Dispenser) error {
	var instance Instance
	if !d.AllArgs(&instance.ID) {
		return d.ArgErr()
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		var single *string
		switch name {
		case "project":
			single = &instance.Project
		case "name":
			single = &instance.Name
		case "user_data":
			single = &instance.UserData
		case "address":
			addresses := d.RemainingArgs()
			if len(addresses) == 0 {
				return d.ArgErr()
			}
			instance.Addresses = append(instance.Addresses, addresses...)
		case "meta":
			if err := addPair(d, &instance.Meta); err != nil {
				return err
			}
		case "password":
			if err := addPair(d, &instance.SystemMetadata); err != nil {
				return err
			}
		default:
			return d.Errf("unrecognized subdirective %q", name)
		}
		if single == nil {
			continue
		}
		if seen[name] {
			return d.Errf("%s is given twice", name)
		}
		seen[name] = true
		if !d.AllArgs(single) {
			return d.ArgErr()
		}
	}
	h.Instances = append(h.Instances, instance)
	return nil
}

// addPair reads a key and a value into a table that it makes when needed.
func addPair(d *caddyfile.Dispenser, table *map[string]string) error {
	var key, value string
	if !d.AllArgs(&key, &value) {
		return d.ArgErr()
	}
	if _, ok := (*table)[key]; ok {
		return d.Errf("%s is given twice", key)
	}
	if *table == nil {
		*table = map[string]string{}
	}
	(*table)[key] = value
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
