// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/metaguard/metaguard/module/decision"
)

// UnmarshalCaddyfile sets up the dialect:
//
//	dialect generic {
//		resource <kind> <pattern> {
//			action read
//			action write [<method>...]
//			sensitive
//			text|json|listing|tree
//		}
//		passwords {
//			max_size <bytes>
//			cache    <duration>
//			issued
//		}
//		query          <name> [<value>...]
//		headers        <name>...
//		answer_headers <name>...
//		path_bytes     <bytes>
//	}
//
// resource and query may be repeated, each with other patterns and names; the
// block of a resource may be left out. A resource without an action is read;
// with both it is read and written. Without a form, a listing is one and anything
// else is text. The method that writes is POST unless others
// are named. passwords is required if a resource is of kind password; cache 0s
// says that the server knows of a write at once.
func (g *Generic) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the dialect's name
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		setting := d.Val()
		if seen[setting] && setting != "resource" && setting != "query" {
			return d.Errf("dialect generic: %s is given twice; it may stand once", setting)
		}
		seen[setting] = true
		var err error
		switch setting {
		case "resource":
			err = g.unmarshalResource(d)
		case "passwords":
			err = g.unmarshalPasswords(d)
		case "query":
			err = g.unmarshalQuery(d)
		case "headers":
			err = names(d, &g.Headers)
		case "answer_headers":
			err = names(d, &g.AnswerHeaders)
		case "path_bytes":
			err = g.unmarshalPathBytes(d)
		default:
			return d.Errf("unrecognized setting %q of dialect generic", setting)
		}
		if err != nil {
			return err
		}
	}
	if err := g.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// unmarshalResource reads one resource.
func (g *Generic) unmarshalResource(d *caddyfile.Dispenser) error {
	arguments := d.RemainingArgs()
	if len(arguments) != 2 {
		return d.Errf("it is `resource <kind> <pattern>`, and the kind is one of %s", joinKinds(genericKinds))
	}
	resource := GenericResource{Kind: decision.Kind(arguments[0]), Pattern: arguments[1]}
	if err := resource.check(g.PathBytes); err != nil {
		return d.WrapErr(err)
	}
	for _, other := range g.Resources {
		if other.Pattern == resource.Pattern {
			return d.Errf("resource %s %s: the path is described twice", resource.Kind, resource.Pattern)
		}
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		setting, key := d.Val(), d.Val()
		arguments := d.RemainingArgs()
		switch setting {
		case "action":
			if len(arguments) == 0 || (arguments[0] != "read" && arguments[0] != "write") {
				return d.Errf("it is `action read` or `action write [<method>...]`")
			}
			key += " " + arguments[0]
			if arguments[0] == "write" {
				if resource.Write = arguments[1:]; len(resource.Write) == 0 {
					resource.Write = []string{"POST"}
				}
			} else if len(arguments) > 1 {
				return d.Errf("action read takes no method, since it is GET; a second line `action write` makes it writable")
			}
		case "sensitive":
			resource.Sensitive = true
		case genericText, genericJSON, genericListing, genericTree:
			if resource.Format != "" {
				return d.Errf("resource %s %s: it has one form: text, json, listing or tree", resource.Kind, resource.Pattern)
			}
			resource.Format = setting
		default:
			return d.Errf("unrecognized setting %q of resource %s %s", setting, resource.Kind, resource.Pattern)
		}
		if setting != "action" && len(arguments) > 0 {
			return d.ArgErr()
		}
		if seen[key] {
			return d.Errf("resource %s %s: %s is given twice; it may stand once", resource.Kind, resource.Pattern, key)
		}
		seen[key] = true
		if err := resource.check(g.PathBytes); err != nil {
			return d.WrapErr(err)
		}
	}
	resource.WriteOnly = seen["action write"] && !seen["action read"]
	g.Resources = append(g.Resources, resource)
	return nil
}

// unmarshalPasswords reads how the server keeps passwords.
func (g *Generic) unmarshalPasswords(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	g.Passwords = new(GenericPasswords)
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		setting := d.Val()
		if seen[setting] {
			return d.Errf("passwords: %s is given twice; it may stand once", setting)
		}
		seen[setting] = true
		var text string
		switch setting {
		case "max_size":
			if err := one(d, &text); err != nil {
				return err
			}
			bytes, err := humanize.ParseBytes(text)
			if err != nil || bytes == 0 || bytes > maxGenericPassword {
				return d.Errf("max_size %q: it is a size above zero and up to %d bytes, such as 1020", text, maxGenericPassword)
			}
			g.Passwords.MaxSize = int(bytes)
		case "cache":
			if err := one(d, &text); err != nil {
				return err
			}
			duration, err := caddy.ParseDuration(text)
			if err != nil || duration < 0 {
				return d.Errf("cache %q: it is a duration, such as 15s, or 0s", text)
			}
			g.Passwords.Cache = caddy.Duration(duration)
		case "issued":
			if d.NextArg() {
				return d.ArgErr()
			}
			g.Passwords.Issued = true
		default:
			return d.Errf("unrecognized setting %q of passwords", setting)
		}
	}
	if !seen["max_size"] || (!seen["cache"] && !seen["issued"]) {
		return d.Errf("passwords needs max_size, what the server keeps whole, and cache, for how long it may not know of a write")
	}
	return nil
}

// maxGenericPassword is the longest password that a server can be said to keep,
// in bytes.
const maxGenericPassword = 64 << 10

// unmarshalQuery reads one name of a query.
func (g *Generic) unmarshalQuery(d *caddyfile.Dispenser) error {
	arguments := d.RemainingArgs()
	if len(arguments) == 0 {
		return d.ArgErr()
	}
	name := arguments[0]
	if _, again := g.Query[name]; again {
		return d.Errf("query %s is given twice; it may stand once", name)
	}
	if g.Query == nil {
		g.Query = make(map[string][]string)
	}
	g.Query[name] = arguments[1:]
	return nil
}

// unmarshalPathBytes reads which bytes paths may have, which the patterns after
// it may have too.
func (g *Generic) unmarshalPathBytes(d *caddyfile.Dispenser) error {
	if len(g.Resources) > 0 {
		return d.Errf("path_bytes stands before the resources that may have them")
	}
	if err := one(d, &g.PathBytes); err != nil {
		return err
	}
	if strings.Trim(g.PathBytes, pathExtras) != "" || g.PathBytes == "" {
		return d.Errf("path_bytes %q: only bytes of %s can be added", g.PathBytes, pathExtras)
	}
	return nil
}

// names reads a list of names, each once.
func names(d *caddyfile.Dispenser, field *[]string) error {
	list := d.RemainingArgs()
	if len(list) == 0 {
		return d.ArgErr()
	}
	for i, name := range list {
		if slices.Contains(list[:i], name) {
			return d.WrapErr(fmt.Errorf("%s is given twice", name))
		}
	}
	*field = list
	return nil
}

// one reads the one argument of a setting.
func one(d *caddyfile.Dispenser, field *string) error {
	if !d.Args(field) || d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Generic)(nil)
