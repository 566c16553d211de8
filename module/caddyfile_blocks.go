// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/identity"
)

// unmarshalPolicy reads `policy [<path>...] { … }`.
func (h *Handler) unmarshalPolicy(d *caddyfile.Dispenser) (err error) {
	if h.Policy.Paths, err = paths(d, "policy"); err != nil {
		return err
	}
	return blockOnly(d, "policy", map[string]func() error{
		"entrypoint": func() (err error) { h.Policy.Entrypoint, err = argument(d); return err },
		"opa": func() error {
			file, err := argument(d)
			if err != nil {
				return err
			}
			h.Policy.OPA, err = besideCaddyfile(d, file)
			return err
		},
		"timeout":        func() error { return duration(d, &h.Policy.Timeout) },
		"ready_timeout":  func() error { return duration(d, &h.Policy.ReadyTimeout) },
		"cache":          func() error { return verdicts(d, &h.Policy.Cache) },
		"allow_builtins": func() error { return list(d, &h.Policy.AllowBuiltins) },
		"log_full":       func() error { return oneOf(d, &h.Policy.LogFull, logFullDrop, logFullRefuse) },
		"candidate": func() (err error) {
			if h.Policy.Candidate, err = paths(d, "candidate"); err == nil && len(h.Policy.Candidate) == 0 {
				err = d.ArgErr()
			}
			return err
		},
	})
}

// verdicts reads how many verdicts are remembered.
func verdicts(d *caddyfile.Dispenser, field *int) error {
	text, err := argument(d)
	if err != nil {
		return err
	}
	if text == "off" {
		*field = -1
		return nil
	}
	if *field, err = strconv.Atoi(text); err != nil || *field < 1 || *field > maxVerdicts {
		return d.Errf("cache %q: it is how many verdicts are remembered, from 1 to %d, or off", text, maxVerdicts)
	}
	return nil
}

// paths reads the rest of the line as files or directories, each once.
func paths(d *caddyfile.Dispenser, setting string) ([]string, error) {
	var absolutes []string
	for _, path := range d.RemainingArgs() {
		absolute, err := besideCaddyfile(d, path)
		if err != nil {
			return nil, err
		}
		if slices.Contains(absolutes, absolute) {
			return nil, d.Errf("%s: %s is given twice", setting, path)
		}
		absolutes = append(absolutes, absolute)
	}
	return absolutes, nil
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
