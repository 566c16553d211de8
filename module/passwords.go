// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
)

// fingerprintKeyPath is where the fingerprint key lies in Caddy's storage.
const fingerprintKeyPath = "metaguard/fingerprint.key"

var fingerprintKey = storedKey{
	what:  "fingerprint key",
	path:  fingerprintKeyPath,
	fresh: password.NewFingerprintKey,
	parse: password.ParseFingerprintKey,
}

// passwords makes the site's password keeper when it is first needed.
type passwords struct {
	config  password.Config
	storage certmagic.Storage // nil: the keys are given
	kept    kept[password.Keeper]
}

// provisionPassword sets up the rules for passwords and the latch.
func (h *Handler) provisionPassword(ctx caddy.Context) error {
	settings := &h.Password
	setDefault(&settings.Require, "any")
	setDefault(&settings.Unverified, password.UnverifiedEncrypted)
	if settings.MaxSize == 0 {
		settings.MaxSize = h.traits.MaxPassword
	}
	switch settings.Require {
	case "any", "encrypted":
	default:
		return fmt.Errorf("password: require %q: it is any or encrypted", settings.Require)
	}
	if settings.LatchRaw == nil {
		settings.LatchRaw = []byte(`{"latch":"file"}`)
	}
	loaded, err := ctx.LoadModule(settings, "LatchRaw")
	if err != nil {
		return fmt.Errorf("password: loading latch: %w", err)
	}
	latch, ok := loaded.(password.Latch)
	if !ok {
		return fmt.Errorf("password: %T is no latch", loaded)
	}
	p := &passwords{config: password.Config{
		Latch:        latch,
		Limits:       password.Limits{MaxSize: settings.MaxSize, RequireEncrypted: settings.Require == "encrypted"},
		WriteOnce:    max(0, time.Duration(settings.WriteOnce)),
		WriteTimeout: time.Duration(settings.WriteTimeout),
		Unverified:   settings.Unverified,
	}}
	for _, placeholder := range settings.FingerprintKeys {
		given, err := identity.ResolveSecret(placeholder)
		if err != nil {
			return fmt.Errorf("password: fingerprint_key: %w", err)
		}
		key, err := password.ParseFingerprintKey(given.Reveal())
		if err != nil {
			return fmt.Errorf("password: fingerprint_key %s: %w", placeholder, err)
		}
		p.config.FingerprintKeys = append(p.config.FingerprintKeys, key)
	}
	if len(settings.FingerprintKeys) == 0 {
		p.storage = ctx.Storage()
	}
	p.kept.build = p.build
	if err := p.checkKeyPlace(settings.FingerprintKeys); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	p.config.Latch = h.metrics.measured(latch)
	if _, err := password.NewKeeper(p.config); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	h.passwords, h.latch = p, latch
	return nil
}

// checkKeyPlace refuses a fingerprint key that would lie beside the fingerprints:
// whoever got hold of that one directory, which replicas may share over a
// network, could try passwords out.
func (p *passwords) checkKeyPlace(placeholders []string) error {
	latch, ok := p.config.Latch.(*password.FileLatch)
	if !ok {
		return nil
	}
	var places []string
	if files, ok := p.storage.(*certmagic.FileStorage); ok {
		places = append(places, filepath.Join(files.Path, filepath.FromSlash(fingerprintKeyPath)))
	}
	for _, placeholder := range placeholders {
		if path, found := strings.CutPrefix(placeholder, "{file."); found {
			places = append(places, strings.TrimSuffix(path, "}"))
		}
	}
	for _, place := range places {
		if latch.Contains(place) {
			return fmt.Errorf("the fingerprint key %s would lie in the directory of the latch; keep the two apart", place)
		}
	}
	return nil
}

// keeper gives the keeper, or the refusal for a key that cannot be had: without
// it nothing could tell one password from another.
func (p *passwords) keeper(ctx context.Context) (*password.Keeper, *decision.Refusal) {
	keeper, err := p.kept.get(ctx)
	switch {
	case err == nil:
		return keeper, nil
	case errors.Is(err, errClientGone):
		return nil, decision.Refuse(decision.LatchUnavailable, "client_gone")
	case errors.Is(err, errKeyTimeout):
		return nil, decision.Refuse(decision.LatchUnavailable, "fingerprint_key_timeout")
	default:
		return nil, decision.RefuseWith(decision.LatchUnavailable, "fingerprint_key", err)
	}
}

// reset forgets an instance's password, and tells whether anything was known.
// It needs no fingerprint key.
func (p *passwords) reset(ctx context.Context, instanceID string) (known bool, _ error) {
	keeper, err := password.NewKeeper(p.config)
	if err != nil {
		return false, err
	}
	return keeper.Reset(ctx, instanceID)
}

// build gets the key and makes the keeper.
func (p *passwords) build(ctx context.Context) (*password.Keeper, error) {
	config := p.config
	if p.storage != nil {
		key, err := fingerprintKey.get(ctx, p.storage)
		if err != nil {
			return nil, err
		}
		config.FingerprintKeys = []decision.Secret{key}
	}
	return password.NewKeeper(config)
}
