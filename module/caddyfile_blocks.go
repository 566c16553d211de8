// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/identity"
)

// unmarshalPolicy reads `policy [<path>...] { … }`.
func (h *Handler) unmarshalPolicy(d *caddyfile.Dispenser) error {
	for _, path := range d.RemainingArgs() {
		absolute, err := besideCaddyfile(d, path)
		if err != nil {
			return err
		}
		if slices.Contains(h.Policy.Paths, absolute) {
			return d.Errf("policy: %s is given twice", path)
		}
		h.Policy.Paths = append(h.Policy.Paths, absolute)
	}
	return blockOnly(d, "policy", map[string]func() error{
		"entrypoint":     func() (err error) { h.Policy.Entrypoint, err = argument(d); return err },
		"timeout":        func() error { return duration(d, &h.Policy.Timeout) },
		"allow_builtins": func() error { return list(d, &h.Policy.AllowBuiltins) },
	})
}

// unmarshalPassword reads the block `password`.
func (h *Handler) unmarshalPassword(d *caddyfile.Dispenser) error {
	return block(d, map[string]func() error{
		"max_size": func() error {
			var bytes int64
			err := size(d, &bytes)
			h.Password.MaxSize = int(bytes)
			return err
		},
		"write_once": func() error {
			if d.CountRemainingArgs() == 1 && d.NextArg() {
				if d.Val() == "off" {
					h.Password.WriteOnce = -1
					return nil
				}
				d.Prev()
			}
			return duration(d, &h.Password.WriteOnce)
		},
		"require":       func() error { return oneOf(d, &h.Password.Require, "any", "encrypted") },
		"unverified":    func() error { return oneOf(d, &h.Password.Unverified, "refuse", "encrypted") },
		"write_timeout": func() error { return duration(d, &h.Password.WriteTimeout) },
		"latch": func() (err error) {
			h.Password.LatchRaw, err = unmarshalGuest(d, "metaguard.latches", "latch")
			return err
		},
		"fingerprint_key": func() error {
			if err := list(d, &h.Password.FingerprintKeys); err != nil {
				return err
			}
			for _, key := range h.Password.FingerprintKeys {
				if err := identity.CheckSecretPlaceholder(key); err != nil {
					return d.WrapErr(err)
				}
			}
			return nil
		},
	})
}

// guestNames lists the modules of a namespace, for errors.
func guestNames(namespace string) string {
	var names []string
	for _, info := range caddy.GetModules(namespace) {
		names = append(names, info.ID.Name())
	}
	return strings.Join(names, ", ")
}

// didYouMean suggests the setting that a misspelt one stands for.
func didYouMean(name string) string {
	best, distance := "", 3
	for candidate := range settings {
		if d := levenshtein.ComputeDistance(name, candidate); d < distance || (d == distance && candidate < best) {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
