// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/metaguard/metaguard/module/canonical"
)

func init() {
	httpcaddyfile.RegisterDirective("metaguard", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("metaguard", httpcaddyfile.After, "templates")
}

// parseDirective reads the directive `metaguard`. It takes no matcher: one that
// reads a path otherwise than the legacy server does would be a way around.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if err := checkProcessAdmin(h, handler); err != nil {
		return nil, err
	}
	files, err := handler.files()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	handler.Digest += "-" + stamp(append(files, tlsFiles(h)...))
	return h.NewRoute(nil, handler), nil
}

// settings maps each sub-directive to what reads it. Only `identify` may be
// given more than once, and `assert` once of each kind.
var settings = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"upstream":        (*Handler).unmarshalUpstream,
	"dialect":         (*Handler).unmarshalDialect,
	"identify":        (*Handler).unmarshalIdentify,
	"policy":          (*Handler).unmarshalPolicy,
	"mode":            (*Handler).unmarshalMode,
	"session":         (*Handler).unmarshalSession,
	"password":        (*Handler).unmarshalPassword,
	"body_timeout":    (*Handler).unmarshalBodyTimeout,
	"response":        (*Handler).unmarshalResponse,
	"assert":          (*Handler).unmarshalAssert,
	"forward_headers": (*Handler).unmarshalForwardHeaders,
	"require_host":    (*Handler).unmarshalRequireHost,
	"require_header":  (*Handler).unmarshalRequireHeader,
	"deny_status":     (*Handler).unmarshalDenyStatus,
	"limit":           (*Handler).unmarshalLimit,
}

// UnmarshalCaddyfile sets up the handler. Paths are relative to the Caddyfile;
// sizes are like 1MiB, durations like 10s.
//
//	metaguard {
//		upstream <address>... {
//			<sub-directives of reverse_proxy>
//		}
//		dialect openstack|ec2|cloudstack|gce|azure
//		dialect generic {
//			<settings of dialect.Generic>
//		}
//
//		identify neutron {
//			secret <placeholder>...
//			trust  <cidr>...
//		}
//		identify remote_ip <inventory-file> {
//			address connection|client_ip|proxy_protocol
//		}
//		identify mtls|process {
//			target remote_ip <inventory-file> [<address>] | claim <name> [<project-claim>] | request <inventory-file>
//		}
//		identify jwt|keystone {
//			<settings of identity.JWT and identity.Keystone, target among them>
//		}
//		identify anonymous
//
//		policy [<path>...] {
//			entrypoint     <rule>
//			opa            <file>
//			timeout        <duration>
//			ready_timeout  <duration>
//			cache          <verdicts>|off
//			allow_builtins <name>...
//			log_full       drop|refuse
//			candidate      <path>...
//		}
//		mode enforce|audit
//
//		session off|optional|required {
//			max_ttl   <duration>
//			key       <placeholder>...
//			hop_limit <hops>
//		}
//		password {
//			max_size        <bytes>
//			write_once      <duration>|off
//			require         any|encrypted
//			unverified      refuse|encrypted
//			latch           file [<directory>] | redis <placeholder>
//			write_timeout   <duration>
//			fingerprint_key <placeholder>...
//		}
//		body_timeout <duration>
//		response {
//			max_buffer <size>
//			max_total  <size>
//			overflow   refuse|stream
//		}
//		assert          neutron <placeholder>
//		assert          address
//		forward_headers <name>...
//		require_host    <name|address>...
//		require_header  <name> <value>
//		limit {
//			requests <number>/s|m|h [burst <number>]
//			refusals <number>/s|m|h [burst <number>]
//			address  connection|client_ip|proxy_protocol
//		}
//		deny_status     403|404
//	}
//
// `upstream`, `dialect` and one `identify` are required.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive
	directive := d.Token()
	if d.NextArg() {
		return d.Errf("metaguard takes no matcher, found %q: a matcher that reads a path otherwise than the legacy server does would be a way around the guard; give the guard a site of its own", d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		unmarshal, known := settings[name]
		if !known {
			return d.Errf("unrecognized setting %q of metaguard%s", name, didYouMean(name))
		}
		if seen[name] && name != "identify" && name != "assert" {
			return d.Errf("%s is given twice; it may stand once", name)
		}
		seen[name] = true
		if err := unmarshal(h, d); err != nil {
			return err
		}
	}
	for _, required := range []struct{ name, example string }{
		{"upstream", "upstream 127.0.0.1:8775"},
		{"dialect", "dialect openstack"},
		{"identify", "identify remote_ip inventory.json"},
	} {
		if !seen[required.name] {
			return fmt.Errorf("metaguard needs %s, add a line such as `%s`, at %s:%d",
				required.name, required.example, directive.File, directive.Line)
		}
	}
	h.Digest = h.digest()
	return nil
}

func (h *Handler) unmarshalUpstream(d *caddyfile.Dispenser) (err error) {
	h.Upstream, err = unmarshalUpstream(d)
	return err
}

func (h *Handler) unmarshalDialect(d *caddyfile.Dispenser) (err error) {
	h.DialectRaw, err = unmarshalGuest(d, "metaguard.dialects", "name")
	return err
}

func (h *Handler) unmarshalIdentify(d *caddyfile.Dispenser) error {
	raw, err := unmarshalGuest(d, "metaguard.identities", "source")
	h.IdentitiesRaw = append(h.IdentitiesRaw, raw)
	return err
}

// unmarshalGuest reads `<keyword> <module> …` with the module's own parser.
func unmarshalGuest(d *caddyfile.Dispenser, namespace, inlineKey string) (json.RawMessage, error) {
	keyword := d.Val()
	if !d.NextArg() {
		return nil, d.Errf("%s needs a name, one of %s", keyword, guestNames(namespace))
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		return nil, d.Errf("unknown %s %q; there is %s", keyword, name, guestNames(namespace))
	}
	guest, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(guest, inlineKey, name, nil), nil
}

func (h *Handler) unmarshalMode(d *caddyfile.Dispenser) error {
	return oneOf(d, &h.Mode, modeEnforce, modeAudit)
}

func (h *Handler) unmarshalBodyTimeout(d *caddyfile.Dispenser) error {
	return duration(d, &h.BodyTimeout)
}

func (h *Handler) unmarshalResponse(d *caddyfile.Dispenser) error {
	return block(d, map[string]func() error{
		"max_buffer": func() error { return size(d, &h.Response.MaxBuffer) },
		"max_total":  func() error { return size(d, &h.Response.MaxTotal) },
		"overflow":   func() error { return oneOf(d, &h.Response.Overflow, overflowRefuse, overflowStream) },
	})
}

func (h *Handler) unmarshalAssert(d *caddyfile.Dispenser) error {
	const grammar, twice = "it is `assert neutron <placeholder>` or `assert address`", "assert %s is given twice; it may stand once"
	kind := ""
	if d.NextArg() {
		kind = d.Val()
	}
	switch {
	case kind == "neutron" && h.AssertNeutron != "", kind == "address" && h.AssertAddress:
		return d.Errf(twice, kind)
	case kind == "neutron":
		return secret(d, &h.AssertNeutron)
	case kind == "address" && !d.NextArg():
		h.AssertAddress = true
		return nil
	}
	return d.Err(grammar)
}

func (h *Handler) unmarshalForwardHeaders(d *caddyfile.Dispenser) error {
	if err := list(d, &h.ForwardHeaders); err != nil {
		return err
	}
	for _, name := range h.ForwardHeaders {
		if err := canonical.CheckForwardHeader(name); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

func (h *Handler) unmarshalRequireHost(d *caddyfile.Dispenser) error {
	return list(d, &h.RequireHost)
}

func (h *Handler) unmarshalDenyStatus(d *caddyfile.Dispenser) error {
	var text string
	if err := oneOf(d, &text, "403", "404"); err != nil {
		return err
	}
	h.DenyStatus, _ = strconv.Atoi(text) // one of the two
	return nil
}

// Interface guards.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
