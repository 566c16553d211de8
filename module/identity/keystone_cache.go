// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// maxKeystoneToken is the longest token in bytes. Fernet tokens have about 250, those
// of a federation with many groups some thousands.
const maxKeystoneToken = 8192

// maxRefusedFor is how long a token is refused without asking again.
const maxRefusedFor = 5 * time.Second

// askKeystone asks who has a token. It ends when the context does.
type askKeystone func(ctx context.Context, token string) (*keystoneUser, *decision.Refusal)

// tokenCache remembers what Keystone said. Tokens that it refused are kept
// apart from those that it took, so that a flood of made-up tokens drives out
// none that is good. Entries hold when they end, and are not swept: both caches
// are bounded, and one that sweeps would need a goroutine.
type tokenCache struct {
	ask      askKeystone
	lifetime time.Duration // not positive: every request asks, for itself
	now      func() time.Time
	hasher   *tokenHasher
	taken    *otter.Cache[tokenHash, takenToken]
	refused  *otter.Cache[tokenHash, refusedToken]
	flights  flights
	lookups  counter
}

type takenToken struct {
	user  *keystoneUser
	until time.Time
}

type refusedToken struct {
	code  string
	until time.Time
}

func newTokenCache(ask askKeystone, lifetime time.Duration, size int) (*tokenCache, error) {
	c := &tokenCache{ask: ask, lifetime: lifetime, now: time.Now, hasher: newTokenHasher()}
	var err error
	// The caller runs what the cache has to do, so no goroutine outlives it.
	here := func(task func()) { task() }
	if c.taken, err = otter.New(&otter.Options[tokenHash, takenToken]{MaximumSize: size, Executor: here}); err != nil {
		return nil, fmt.Errorf("making a cache of tokens: %w", err)
	}
	if c.refused, err = otter.New(&otter.Options[tokenHash, refusedToken]{MaximumSize: size, Executor: here}); err != nil {
		return nil, fmt.Errorf("making a cache of tokens: %w", err)
	}
	return c, nil
}

// check says who has the token. Requests with the same token share a question
// that is on its way.
func (c *tokenCache) check(ctx context.Context, token string) (*keystoneUser, *decision.Refusal) {
	if c.lifetime <= 0 {
		user, refusal := c.ask(ctx, token)
		c.lookups.ended(refusal)
		return user, refusal
	}
	key, now := c.hasher.hash(token), c.now()
	if entry, ok := c.taken.GetIfPresent(key); ok && now.Before(entry.until) && now.Before(entry.user.expires) {
		c.lookups.add(LookupCached)
		return entry.user, nil
	}
	if entry, ok := c.refused.GetIfPresent(key); ok && now.Before(entry.until) {
		c.lookups.add(LookupCached)
		return nil, invalid(entry.code)
	}
	return c.flights.join(ctx, key, func(ctx context.Context) (*keystoneUser, *decision.Refusal) {
		return c.learn(ctx, key, token)
	})
}

// sizes are how many tokens of each kind are remembered, expired ones among them.
func (c *tokenCache) sizes() (taken, refused int) {
	return c.taken.EstimatedSize(), c.refused.EstimatedSize()
}

// learn asks and remembers. Its time counts from before the question: whatever
// is revoked after Keystone answered is noticed within the lifetime.
func (c *tokenCache) learn(ctx context.Context, key tokenHash, token string) (*keystoneUser, *decision.Refusal) {
	asked := c.now()
	user, refusal := c.ask(ctx, token)
	c.lookups.ended(refusal)
	switch {
	case refusal == nil:
		c.refused.Invalidate(key)
		c.taken.Set(key, takenToken{user: user, until: asked.Add(c.lifetime)})
	case refusal.Reason == decision.IdentityInvalid:
		c.taken.Invalidate(key)
		c.refused.Set(key, refusedToken{code: refusal.Code, until: asked.Add(min(c.lifetime, maxRefusedFor))})
	}
	return user, refusal
}

// tokenHash stands for a token: HMAC-SHA256 under a key that no other process
// has, so that it tells nothing to whoever reads it.
type tokenHash [sha256.Size]byte

// tokenHasher is safe for concurrent use.
type tokenHasher struct{ states sync.Pool }

type hashState struct {
	mac hash.Hash
	in  [maxKeystoneToken]byte
	sum tokenHash
}

func newTokenHasher() *tokenHasher {
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // it never fails
	h := new(tokenHasher)
	h.states.New = func() any { return &hashState{mac: hmac.New(sha256.New, key[:])} }
	return h
}

// hash is for tokens of at most maxKeystoneToken bytes.
func (h *tokenHasher) hash(token string) tokenHash {
	state := h.states.Get().(*hashState)
	state.mac.Reset()
	in := state.in[:copy(state.in[:], token)]
	state.mac.Write(in)
	state.mac.Sum(state.sum[:0])
	sum := state.sum
	clear(in) // the pool keeps no token
	h.states.Put(state)
	return sum
}
