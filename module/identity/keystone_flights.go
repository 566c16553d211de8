// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"sync"

	"github.com/metaguard/metaguard/module/decision"
)

// flights lets requests with the same token share one question. A client that
// hangs up does not take the answer from the others; when the last one has, the
// question is called off, so there are never more questions than requests.
// (singleflight calls none off.) The zero value is ready.
type flights struct {
	mu      sync.Mutex
	running map[tokenHash]*flight
}

type flight struct {
	cancel  context.CancelFunc
	waiting int // requests; guarded by flights.mu

	done    chan struct{} // closed when the answer is there
	user    *keystoneUser
	refusal *decision.Refusal
}

// join waits for the answer to the question that is on its way for key, or
// asks it. It ends when ctx does.
func (f *flights) join(ctx context.Context, key tokenHash, ask func(context.Context) (*keystoneUser, *decision.Refusal)) (*keystoneUser, *decision.Refusal) {
	f.mu.Lock()
	shared, ok := f.running[key]
	if !ok {
		shared = f.begin(ctx, key, ask)
	}
	shared.waiting++
	f.mu.Unlock()
	select {
	case <-shared.done:
		return shared.user, shared.refusal
	case <-ctx.Done():
		f.leave(key, shared)
		return nil, unavailable(codeAbandoned)
	}
}

// begin asks in a goroutine. The caller holds the lock.
func (f *flights) begin(ctx context.Context, key tokenHash, ask func(context.Context) (*keystoneUser, *decision.Refusal)) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	begun := &flight{cancel: cancel, done: make(chan struct{})}
	if f.running == nil {
		f.running = make(map[tokenHash]*flight)
	}
	f.running[key] = begun
	go func() {
		defer close(begun.done)
		defer f.end(key, begun)
		defer func() {
			// In a goroutine a panic would end the process. Its value is not shown:
			// nobody knows what stands in it.
			if value := recover(); value != nil {
				begun.refusal = unavailableBecause("keystone_unavailable", fmt.Errorf("asking Keystone panicked with a %T", value))
			}
		}()
		begun.user, begun.refusal = ask(ctx)
	}()
	return begun
}

// leave calls a question off when nobody waits for it any more.
func (f *flights) leave(key tokenHash, left *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if left.waiting--; left.waiting == 0 {
		f.forget(key, left)
	}
}

// end makes the next request ask anew.
func (f *flights) end(key tokenHash, over *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(key, over)
}

// forget calls a question off, if it still goes on. The caller holds the lock.
func (f *flights) forget(key tokenHash, over *flight) {
	over.cancel()
	if f.running[key] == over {
		delete(f.running, key)
	}
}

func unavailable(code string) *decision.Refusal {
	return decision.Refuse(decision.IdentityUnavailable, code)
}

func unavailableBecause(code string, cause error) *decision.Refusal {
	return decision.RefuseWith(decision.IdentityUnavailable, code, cause)
}
