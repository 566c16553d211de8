// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// counts are lookups as a metric would have them.
type counts struct {
	mu   sync.Mutex
	seen map[Lookup]int
}

func (c *counts) of(source Asker) *counts {
	c.seen = make(map[Lookup]int)
	source.CountLookups(func(lookup Lookup) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[lookup]++
	})
	return c
}

func (c *counts) want(tb testing.TB, what string, want map[Lookup]int) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(c.seen, want) {
		tb.Errorf("%s: %v, want %v", what, c.seen, want)
	}
}

func TestKeystoneLookups(t *testing.T) {
	fake := newFakeKeystone(t, tells(alice("")))
	k := newKeystone(t, fake.URL, nil)
	identifiedUser(t, k, older) // counted nowhere
	c := new(counts).of(k)
	identifiedUser(t, k, planted)
	identifiedUser(t, k, planted)
	c.want(t, "taken", map[Lookup]int{LookupAnswered: 1, LookupCached: 1})
	fake.answers(says(http.StatusNotFound))
	for range 2 {
		refuses(t, k, "identity_invalid", "keystone_token_invalid", "no-such-token")
	}
	c.want(t, "refused", map[Lookup]int{LookupAnswered: 2, LookupCached: 2})
	fake.answers(says(http.StatusInternalServerError))
	refuses(t, k, "identity_unavailable", "keystone_unavailable", "another-token")
	c.want(t, "failed", map[Lookup]int{LookupAnswered: 2, LookupCached: 2, LookupFailed: 1})

	// Who hung up is no failure of Keystone's, and one that is not asked no lookup.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, refusal := k.client.ask(ctx, planted); refusal == nil || refusal.Code != codeAbandoned {
		t.Fatal(refusal)
	} else {
		k.tokens.lookups.ended(refusal)
	}
	refuses(t, k, "identity_invalid", "keystone_doubled", "one", "two")
	c.want(t, "abandoned", map[Lookup]int{LookupAnswered: 2, LookupCached: 2, LookupFailed: 1})

	always := newKeystone(t, fake.URL, func(k *Keystone) { k.Cache = caddy.Duration(-1) })
	c = new(counts).of(always)
	refuses(t, always, "identity_unavailable", "keystone_unavailable", planted)
	c.want(t, "without a cache", map[Lookup]int{LookupFailed: 1})
}

func TestJWTLookups(t *testing.T) {
	host := newKeyHost(t, httptest.NewServer)
	host.publishes(allKeys())
	j, _ := watched(t, &JWKS{URL: host.URL}, nil)
	c := new(counts).of(j)
	j.keys.once(t.Context())
	c.want(t, "loaded", map[Lookup]int{LookupAnswered: 1})
	host.publishes("no keys")
	j.keys.once(t.Context())
	c.want(t, "not loaded", map[Lookup]int{LookupAnswered: 1, LookupFailed: 1})
}
