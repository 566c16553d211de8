// SPDX-License-Identifier: Apache-2.0

package module

import (
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/metaguard/metaguard/module/identity"
)

// block reads a block of settings, each of which may stand once.
func block(d *caddyfile.Dispenser, settings map[string]func() error) error {
	name := d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	return blockOnly(d, name, settings)
}

// blockOnly reads what stands between the braces after the arguments of name.
func blockOnly(d *caddyfile.Dispenser, name string, settings map[string]func() error) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		setting := d.Val()
		unmarshal, known := settings[setting]
		if !known {
			return d.Errf("unrecognized setting %q of %s", setting, name)
		}
		if seen[setting] {
			return d.Errf("%s: %s is given twice; it may stand once", name, setting)
		}
		seen[setting] = true
		if err := unmarshal(); err != nil {
			return err
		}
	}
	return nil
}

// argument reads the one argument of a setting.
func argument(d *caddyfile.Dispenser) (string, error) {
	if !d.NextArg() {
		return "", d.ArgErr()
	}
	value := d.Val()
	if d.NextArg() {
		return "", d.ArgErr()
	}
	return value, nil
}

func list(d *caddyfile.Dispenser, field *[]string) error {
	*field = d.RemainingArgs()
	if len(*field) == 0 {
		return d.ArgErr()
	}
	return nil
}

func oneOf(d *caddyfile.Dispenser, field *string, allowed ...string) error {
	name := d.Val()
	value, err := argument(d)
	if err != nil {
		return err
	}
	for _, candidate := range allowed {
		if value == candidate {
			*field = value
			return nil
		}
	}
	return d.Errf("%s %q: it is one of %v", name, value, allowed)
}

func duration(d *caddyfile.Dispenser, field *caddy.Duration) error {
	name := d.Val()
	value, err := argument(d)
	if err != nil {
		return err
	}
	parsed, err := caddy.ParseDuration(value)
	if err != nil || parsed <= 0 {
		return d.Errf("%s %q: it is a duration above zero, such as 10s", name, value)
	}
	*field = caddy.Duration(parsed)
	return nil
}

func size(d *caddyfile.Dispenser, field *int64) error {
	name := d.Val()
	value, err := argument(d)
	if err != nil {
		return err
	}
	parsed, err := humanize.ParseBytes(value)
	if err != nil || parsed == 0 || parsed > 1<<40 {
		return d.Errf("%s %q: it is a size above zero, such as 1MiB", name, value)
	}
	*field = int64(parsed)
	return nil
}

// secret reads one placeholder of a secret. What it is not is not shown: it may
// be the secret.
func secret(d *caddyfile.Dispenser, field *string) error {
	value, err := argument(d)
	if err != nil {
		return err
	}
	if err := identity.CheckSecretPlaceholder(value); err != nil {
		return d.WrapErr(err)
	}
	*field = value
	return nil
}

// besideCaddyfile makes a path absolute, since whoever loads the adapted
// configuration may run elsewhere.
func besideCaddyfile(d *caddyfile.Dispenser, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.File()), path)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", d.WrapErr(err)
	}
	return absolute, nil
}
