// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// setting is one that a block may have, and what reads it, with the dispenser
// on its name.
type setting struct {
	name string
	read func() error
}

// unmarshalBlock reads a block in which each setting may stand once, and tells
// which there were. Of is what the block belongs to, for errors.
func unmarshalBlock(d *caddyfile.Dispenser, of string, settings ...setting) (given []string, err error) {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
		switch {
		case i < 0:
			return nil, d.Errf("unknown setting %q of %s: it has %s", name, of, listed(settings))
		case slices.Contains(given, name):
			return nil, d.Errf("%s of %s is given twice; it may stand once", name, of)
		}
		given = append(given, name)
		if err := settings[i].read(); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// listed is the names of settings as a sentence has them.
func listed(settings []setting) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.name
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// unmarshalTargetOnly reads a source that has no setting but its target.
func unmarshalTargetOnly(d *caddyfile.Dispenser, of string, target **TargetRule) error {
	d.Next() // the name of the source
	if d.NextArg() {
		return d.Errf("%s takes a block, not an argument", of)
	}
	_, err := unmarshalBlock(d, of, setting{"target", func() (err error) { *target, err = unmarshalTarget(d); return err }})
	return err
}

// unmarshalOne reads a setting with one argument, with the dispenser on its name.
func unmarshalOne(d *caddyfile.Dispenser) (string, error) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return "", d.Errf("%s needs one argument; a {$NAME} that is not set leaves none", name)
	}
	return args[0], noBlock(d, name)
}

// noBlock refuses a block after a setting that has none.
func noBlock(d *caddyfile.Dispenser, name string) error {
	if d.NextBlock(d.Nesting()) {
		return d.Errf("%s takes no block", name)
	}
	return nil
}

// unmarshalFile reads a setting that is a path.
func unmarshalFile(d *caddyfile.Dispenser) (string, error) {
	path, err := unmarshalOne(d)
	if err != nil {
		return "", err
	}
	return besideCaddyfile(d, path)
}

func unmarshalDuration(d *caddyfile.Dispenser) (time.Duration, error) {
	name := d.Val()
	text, err := unmarshalOne(d)
	if err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration < 0 {
		return 0, d.Errf("%s %q: it is a time like 30s or 5m", name, text)
	}
	return duration, nil
}

// unmarshalList reads a setting that is given once, with one argument or more,
// none of them twice, each of which check accepts.
func unmarshalList(d *caddyfile.Dispenser, name string, list *[]string, check func(string) error) error {
	if len(*list) > 0 {
		return d.Errf("%s is given twice: write all on one line", name)
	}
	for d.NextArg() {
		if err := check(d.Val()); err != nil {
			return d.Errf("%s: %w", name, err)
		}
		if slices.Contains(*list, d.Val()) {
			return d.Errf("%s: %s is given twice", name, d.Val())
		}
		*list = append(*list, d.Val())
	}
	if len(*list) == 0 {
		return d.Errf("%s needs an argument; a {$NAME} that is not set leaves none", name)
	}
	return noBlock(d, name)
}

func notEmpty(text string) error {
	if text == "" {
		return errors.New("an argument is empty: remove it")
	}
	return nil
}

// wrap gives an error the place in the Caddyfile, if it is one.
func wrap(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// besideCaddyfile makes a path absolute, relative to the Caddyfile: a running
// server has another working directory than the command that reloads it.
func besideCaddyfile(d *caddyfile.Dispenser, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	absolute, err := caddy.FastAbs(filepath.Join(filepath.Dir(d.File()), path))
	if err != nil {
		return "", d.Errf("finding %s: %w", path, err)
	}
	return absolute, nil
}
