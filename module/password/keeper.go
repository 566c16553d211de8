// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// The defaults of a Config.
const (
	DefaultWriteOnce    = 60 * time.Second
	DefaultWriteTimeout = 10 * time.Second
	// latchTimeout is how long a latch may take for one call.
	latchTimeout = 5 * time.Second
)

// What may be read that was not written through Metaguard.
const (
	// UnverifiedRefuse lets nothing pass but an empty answer.
	UnverifiedRefuse = "refuse"
	// UnverifiedEncrypted lets exactly one RSA result pass, see Inspect. It
	// is the default.
	UnverifiedEncrypted = "encrypted"
)

// maxAttempts bounds how often a call starts again because another replica was
// faster. Each time somebody got further, so a few are enough.
const maxAttempts = 16

// Config says how a Keeper judges. It holds values as they are used: defaults
// that are not zero are the caller's to fill in.
type Config struct {
	// Latch is required.
	Latch Latch
	// Limits says what may be written, and how long an answer may be.
	Limits Limits
	// WriteOnce is how long a password that was accepted keeps other writers
	// away; at least the legacy server's cache time (Nova: 15 s). 0 is off:
	// the latch then only keeps concurrent writes apart. The Caddyfile's
	// default is DefaultWriteOnce.
	WriteOnce time.Duration
	// WriteTimeout is how long an upstream write may take before its outcome
	// counts as unknown. 0 means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// Unverified is UnverifiedRefuse or UnverifiedEncrypted; empty means the
	// latter.
	Unverified string
	// FingerprintKeys: the first signs, all verify. None: no fingerprints are
	// made, and a read passes only by Unverified.
	FingerprintKeys []decision.Secret
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Keeper guards the passwords of all instances. It is safe for concurrent use
// and holds no state of its own.
type Keeper struct {
	latch     Latch
	limits    Limits
	terms     terms
	encrypted bool
	prints    printer
	now       func() time.Time
	patience  time.Duration
}

// NewKeeper checks the configuration. It does not ask the latch.
func NewKeeper(config Config) (*Keeper, error) {
	k := &Keeper{
		latch:  config.Latch,
		limits: config.Limits,
		terms:  terms{once: config.WriteOnce, timeout: config.WriteTimeout},
		now:    config.Now,

		patience: patience,
	}
	if k.latch == nil {
		return nil, errors.New("a latch is required")
	}
	if k.limits.MaxSize < 0 {
		return nil, errors.New("max_size must not be negative")
	}
	if k.terms.timeout == 0 {
		k.terms.timeout = DefaultWriteTimeout
	}
	if k.terms.once < 0 || k.terms.timeout < 0 || k.terms.pending() > maxTerm {
		return nil, fmt.Errorf("write_once and write_timeout must not be negative or over %s", maxTerm)
	}
	switch config.Unverified {
	case "", UnverifiedEncrypted:
		k.encrypted = true
	case UnverifiedRefuse:
	default:
		return nil, fmt.Errorf("unverified must be %s or %s, not %q", UnverifiedRefuse, UnverifiedEncrypted, config.Unverified)
	}
	var err error
	if k.prints, err = newPrinter(config.FingerprintKeys); err != nil {
		return nil, err
	}
	if k.now == nil {
		k.now = time.Now
	}
	return k, nil
}

// MaxSize is the largest password in bytes, written or read.
func (k *Keeper) MaxSize() int { return k.limits.Max() }

// CheckBody tells what is wrong with a password that is to be written, if
// anything is. It does not ask the latch.
func (k *Keeper) CheckBody(body []byte) *decision.Refusal { return k.limits.Check(body) }

// Reserve takes the right to write an instance's password, or says why not:
// what CheckBody says, target_unknown, password_already_set,
// password_write_pending or latch_unavailable. It must come after an allow, so
// that it tells nobody else whether a password is set. Whoever gets a
// reservation must settle it.
//
// It goes on when ctx is cancelled: a client that hangs up must not leave its
// instance reserved by nobody.
func (k *Keeper) Reserve(ctx context.Context, instanceID string, body []byte) (*Reservation, *decision.Refusal) {
	if refusal := k.limits.Check(body); refusal != nil {
		return nil, refusal
	}
	key, err := NewKey(instanceID)
	if err != nil {
		return nil, decision.RefuseWith(decision.TargetUnknown, "instance_id", err)
	}
	parent := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(parent, latchTimeout)
	defer cancel()
	candidate := k.prints.sign(key, body)
	for range maxAttempts {
		record, version, err := k.latch.Load(ctx, key)
		if err != nil {
			return nil, unavailable(err)
		}
		now := k.now()
		if record.misdated(now) {
			_, err = k.latch.Swap(ctx, key, version, record.redated(now))
			if err != nil && !errors.Is(err, ErrConflict) {
				return nil, unavailable(err)
			}
			return nil, record.refusal()
		}
		if record.held(now) {
			return nil, record.refusal()
		}
		next := record.reserved(now, k.terms, newToken(), candidate)
		version, err = k.latch.Swap(ctx, key, version, next)
		switch {
		case errors.Is(err, ErrConflict):
			continue
		case err != nil:
			return nil, unavailable(err)
		}
		return &Reservation{
			keeper: k, ctx: parent, key: key, deadline: now.Add(k.terms.timeout),
			record: next, version: version,
		}, nil
	}
	// Somebody else writes all the time.
	return nil, decision.Refuse(decision.PasswordWritePending, "latch_contended")
}

// Reset forgets an instance's password: its state and all fingerprints, and
// tells whether anything was known. The next write is forwarded, and what the
// server holds is unverified.
func (k *Keeper) Reset(ctx context.Context, instanceID string) (known bool, _ error) {
	key, err := NewKey(instanceID)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, latchTimeout)
	defer cancel()
	record, _, err := k.latch.Load(ctx, key)
	known = errors.Is(err, ErrCorrupt) || record.held(k.now()) || len(record.prints()) > 0 || record.handover.known()
	if err := k.latch.Reset(ctx, key); err != nil {
		return false, err
	}
	return known, nil
}

// unavailable is the refusal for a latch that gave no usable answer.
func unavailable(err error) *decision.Refusal {
	code := "latch_failed"
	switch {
	case errors.Is(err, ErrCorrupt):
		code = "latch_corrupt"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = "latch_timeout"
	}
	return decision.RefuseWith(decision.LatchUnavailable, code, err)
}
