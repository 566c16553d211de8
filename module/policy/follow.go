// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"time"
)

// WithBundlesOf makes a candidate: an engine of its own files and of another's
// bundles, which are compiled anew when that one has taken new ones. It never
// holds the other up.
func WithBundlesOf(live *Engine) Option {
	return func(e *Engine) { e.shared = live }
}

// lead takes a follower in and gives it the bundles that there are. It works on
// a nil engine, which leads nobody.
func (e *Engine) lead(follower *Engine) {
	if e == nil {
		return
	}
	e.following.Lock()
	if e.following.engines == nil {
		e.following.engines = map[*Engine]bool{}
	}
	e.following.engines[follower] = true
	e.following.Unlock()
	follower.load(context.Background(), time.Now(), follower.local.with(nil))
}

func (e *Engine) leave(follower *Engine) {
	if e == nil {
		return
	}
	e.following.Lock()
	defer e.following.Unlock()
	delete(e.following.engines, follower)
}

// callFollowers makes the followers take the bundles that are there now.
func (e *Engine) callFollowers() {
	e.following.Lock()
	defer e.following.Unlock()
	for follower := range e.following.engines {
		follower.loadAgain()
	}
}

// loadAgain makes the watcher load files and bundles once more.
func (e *Engine) loadAgain() {
	select {
	case e.again <- struct{}{}:
	default: // it is about to
	}
}
