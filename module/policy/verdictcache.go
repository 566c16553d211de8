// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// DefaultCache is how many verdicts an [Engine] remembers.
const DefaultCache = 131_072

// verdictCache remembers the verdicts of one policy with its data, and is gone
// with it. Whatever a verdict can depend on is in its key: the whole input, but
// for members that no rule can reach. A policy that can ask the world has none.
type verdictCache struct {
	key     keyer
	entries *otter.Cache[inputKey, *verdict]
}

// newVerdictCache makes a cache of at most size verdicts; nil where there must
// be none.
func newVerdictCache(size int, depends dependence) (*verdictCache, error) {
	if size <= 0 || depends.world {
		return nil, nil //nolint:nilnil // no cache is an answer
	}
	entries, err := otter.New(&otter.Options[inputKey, *verdict]{
		MaximumSize: size,
		Executor:    func(task func()) { task() }, // no goroutine outlives the policy
	})
	if err != nil {
		return nil, fmt.Errorf("making a cache of verdicts: %w", err)
	}
	return &verdictCache{key: keyer{requestID: depends.requestID, sessionAge: depends.sessionAge}, entries: entries}, nil
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
	if live := e.live.Load(); live != nil && live.cache != nil {
		status.Entries, status.Size = live.cache.entries.EstimatedSize(), e.settings.Cache
	}
	return status
}

// decideCached is [Policy.Decide], or what that said to the same input.
func (e *Engine) decideCached(ctx context.Context, live *Policy, in *decision.Input) Result {
	c := live.cache
	if c == nil || in == nil || live.depends.prints && live.print.on() {
		return live.Decide(ctx, in)
	}
	start := time.Now()
	key, ok := c.key.of(in)
	if !ok {
		return live.Decide(ctx, in)
	}
	v, ok := c.entries.GetIfPresent(key)
	if !ok {
		e.cacheMisses.Add(1)
		result := live.Decide(ctx, in)
		if result.verdict != nil { // errors, timeouts and what was not explained are asked for anew
			c.entries.Set(key, result.verdict)
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
