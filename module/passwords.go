// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
)

// fingerprintKeyPath is where the fingerprint key lies in Caddy's storage.
const fingerprintKeyPath = "metaguard/fingerprint.key"

// passwords makes the site's password keeper when it is first needed, since
// the fingerprint key may have to be made and stored then, which validating a
// configuration must not do.
type passwords struct {
	config  password.Config
	storage certmagic.Storage // nil: the keys are given
	made    atomic.Pointer[password.Keeper]
	mu      sync.Mutex
	making  *attempt // under way, or the last one
}

// attempt is one try to get the fingerprint key. Requests wait for it together:
// storage that hangs holds one goroutine, not one for each of them.
type attempt struct {
	done  chan struct{}
	ended time.Time // with err, once done is closed
	err   error
}

const (
	storageTimeout = 5 * time.Second // how long a request waits for the key
	retryAttempt   = time.Second     // how soon a failed attempt is made again
)

// provisionPassword sets up the rules for passwords and the latch.
func (h *Handler) provisionPassword(ctx caddy.Context) error {
	settings := &h.Password
	setDefault(&settings.Require, "any")
	setDefault(&settings.Unverified, password.UnverifiedEncrypted)
	if settings.MaxSize == 0 {
		settings.MaxSize = h.dialect.Traits().MaxPassword
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
	if err := p.checkKeyPlace(settings.FingerprintKeys); err != nil {
		return fmt.Errorf("password: %w", err)
	}
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
	if keeper := p.made.Load(); keeper != nil {
		return keeper, nil
	}
	attempt := p.attempt()
	timer := time.NewTimer(storageTimeout)
	defer timer.Stop()
	select {
	case <-attempt.done:
	case <-ctx.Done():
		return nil, decision.Refuse(decision.LatchUnavailable, "client_gone")
	case <-timer.C:
		return nil, decision.Refuse(decision.LatchUnavailable, "fingerprint_key_timeout")
	}
	if attempt.err != nil {
		return nil, decision.RefuseWith(decision.LatchUnavailable, "fingerprint_key", attempt.err)
	}
	return p.made.Load(), nil
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

// attempt joins the attempt that is under way, or begins one.
func (p *passwords) attempt() *attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.making != nil {
		select {
		case <-p.making.done:
			if p.making.err == nil || time.Since(p.making.ended) < retryAttempt {
				return p.making
			}
		default:
			return p.making
		}
	}
	p.making = &attempt{done: make(chan struct{})}
	go p.make(p.making)
	return p.making
}

// make gets the key and makes the keeper.
func (p *passwords) make(a *attempt) {
	defer close(a.done)
	defer func() { a.ended = time.Now() }()
	config := p.config
	if p.storage != nil {
		ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
		defer cancel()
		key, err := fingerprintKey(ctx, p.storage)
		if err != nil {
			a.err = err
			return
		}
		config.FingerprintKeys = []decision.Secret{key}
	}
	keeper, err := password.NewKeeper(config)
	if err != nil {
		a.err = err
		return
	}
	p.made.Store(keeper)
}

// fingerprintKey reads the key from Caddy's storage, or makes it there. The
// lock keeps two replicas on one storage from making two.
func fingerprintKey(ctx context.Context, storage certmagic.Storage) (_ decision.Secret, err error) {
	stored, err := storage.Load(ctx, fingerprintKeyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if err := storage.Lock(ctx, fingerprintKeyPath); err != nil {
			return decision.Secret{}, fmt.Errorf("locking the fingerprint key: %w", err)
		}
		defer func() {
			if unlock := storage.Unlock(context.WithoutCancel(ctx), fingerprintKeyPath); err == nil && unlock != nil {
				err = fmt.Errorf("unlocking the fingerprint key: %w", unlock)
			}
		}()
		stored, err = storage.Load(ctx, fingerprintKeyPath)
		if errors.Is(err, fs.ErrNotExist) {
			stored = password.NewFingerprintKey()
			err = storage.Store(ctx, fingerprintKeyPath, stored)
		}
	}
	if err != nil {
		return decision.Secret{}, fmt.Errorf("keeping the fingerprint key in Caddy's storage: %w", err)
	}
	return password.ParseFingerprintKey(stored)
}
