// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/binary"
	"math"
	"runtime"
	"time"

	"github.com/elastic/go-freelru"

	"github.com/metaguard/metaguard/module/decision"
)

// DefaultCache is how many verdicts an [Engine] remembers.
const DefaultCache = 131_072

// verdictCache remembers which verdicts inputs had, of one policy with its data, and is
// gone with it. Whatever a verdict can depend on is in its key. A policy that can ask the
// world has none.
type verdictCache struct {
	key     keyer
	size    uint32
	entries *freelru.ShardedLRU[inputKey, uint32]
}

// newVerdictCache makes a cache of about size verdicts; nil where there must be
// none: it is off, or the policy can ask the world.
func newVerdictCache(size int, world bool, key keyer) *verdictCache {
	if size <= 0 || world {
		return nil
	}
	c := &verdictCache{key: key, size: uint32(min(size, math.MaxInt32))} //nolint:gosec // bounded
	return c.anew()
}

// anew is an empty one of the same kind.
func (c *verdictCache) anew() *verdictCache {
	if c == nil {
		return nil
	}
	next := *c
	shards := uint32(runtime.GOMAXPROCS(0) * 16) //nolint:gosec // few
	// Memory is taken for all of it, and used as it fills.
	entries, err := freelru.NewShardedWithSize[inputKey, uint32](shards, c.size, c.size, func(key inputKey) uint32 {
		return binary.LittleEndian.Uint32(key[:]) // of a SHA-256
	})
	if err != nil {
		panic(err) // only for a size of 0
	}
	next.entries = entries
	return &next
}

// CacheStatus counts what became of questions to the cache of verdicts.
type CacheStatus struct {
	// Entries is about how many verdicts of the policy in force are remembered,
	// of Size. Size is 0 where none are: the cache is off, or the policy in force
	// uses builtins such as time.now_ns.
	Entries int `json:"entries"`
	Size    int `json:"size"`
	// Hits were answered from it and Misses by evaluation, since the engine was
	// made. What the cache was not asked about is in neither.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`
}

func (e *Engine) cacheStatus() CacheStatus {
	status := CacheStatus{Hits: e.cacheHits.Load(), Misses: e.cacheMisses.Load()}
	if live := e.live.Load(); live != nil {
		if c := live.verdicts.Load().cache; c != nil {
			status.Entries, status.Size = c.entries.Len(), e.settings.Cache
		}
	}
	return status
}

// decideCached is [Policy.Decide], or what that said to the same input.
func (e *Engine) decideCached(ctx context.Context, live *Policy, in *decision.Input) Result {
	known := live.verdicts.Load()
	c := known.cache
	if c == nil || in == nil || live.depends.prints && live.print.on() {
		return live.Decide(ctx, in)
	}
	start := time.Now()
	key, ok := c.key.of(in)
	if !ok {
		return live.Decide(ctx, in)
	}
	v := known.recall(key)
	if v == nil {
		e.cacheMisses.Add(1)
		result := live.Decide(ctx, in)
		if result.verdict != nil { // errors, timeouts and what was not explained are asked for anew
			result.verdict.remember(key)
		}
		return result
	}
	e.cacheHits.Add(1)
	result := Result{Revision: live.revision, Time: start, bundles: live.bundles, asked: in}
	if err := ctx.Err(); err != nil {
		result.Reason, result.Err = decision.PolicyCancelled, err
	} else {
		result.take(v)
		result.Cached = true
	}
	result.Duration = time.Since(start)
	return result
}
