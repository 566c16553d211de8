// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"time"
)

// WithBundlesOf makes a candidate: an engine of its own files and of another's
// bundles, which are compiled anew whenever that one takes new ones. What the
// candidate cannot be compiled with changes nothing for the other.
func WithBundlesOf(live *Engine) Option {
	return func(e *Engine) { e.shared = live }
}

// lead takes a follower in and gives it the bundles that there are. It works on
// a nil engine, which leads nobody.
func (e *Engine) lead(follower *Engine) {
	if e == nil {
		return
	}
	e.loading.Lock()
	if e.followers == nil {
		e.followers = map[*Engine]bool{}
	}
	e.followers[follower] = true
	e.loading.Unlock()
	follower.load(context.Background(), time.Now(), follower.local)
}

func (e *Engine) leave(follower *Engine) {
	if e == nil {
		return
	}
	e.loading.Lock()
	defer e.loading.Unlock()
	delete(e.followers, follower)
}

// follow compiles a candidate with new bundles.
func (e *Engine) follow(ctx context.Context, bundles []loadedBundle) {
	start := time.Now()
	e.loading.Lock()
	defer e.loading.Unlock()
	src := e.local.with(bundles)
	compiled, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		if ctx.Err() == nil && e.note(ofBundles, err) {
			e.report(LoadEvent{Revision: e.Status().Revision, Err: err, Duration: time.Since(start)})
		}
		return
	}
	e.swap(compiled)
	e.note(ofBundles, nil)
	e.report(LoadEvent{Revision: compiled.revision, Duration: time.Since(start)})
}
