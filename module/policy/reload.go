// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"time"
)

// reload loads the files as they are now, beside the bundles that are active.
// What cannot be loaded changes nothing but the status and is reported once for
// each distinct content.
func (e *Engine) reload(ctx context.Context) {
	start := time.Now()
	src, err := read(e.settings.Paths)
	if err != nil {
		e.loading.Lock()
		defer e.loading.Unlock()
		e.fail(ctx, start, err.Error(), err)
		return
	}
	e.load(ctx, start, src)
	if r := e.remote.Load(); r != nil {
		if err := r.syncSystem(ctx, src); err != nil {
			e.loading.Lock()
			defer e.loading.Unlock()
			e.fail(ctx, start, err.Error(), err)
		}
	}
}

func (e *Engine) load(ctx context.Context, start time.Time, src *source) {
	e.loading.Lock()
	defer e.loading.Unlock()
	src.opa = e.local.opa
	r := e.remote.Load()
	if e.shared != nil {
		r = e.shared.remote.Load()
	}
	if r == nil {
		e.take(ctx, start, src, !e.AwaitsBundles())
		return
	}
	err := r.read(ctx, func(bundles []loadedBundle, complete bool) error {
		e.take(ctx, start, src.with(bundles), complete)
		return nil
	})
	if err != nil {
		e.fail(ctx, start, err.Error(), err)
	}
}

// take compiles what was read and makes it live; loading is held. Before all
// bundles are there it is only compiled.
func (e *Engine) take(ctx context.Context, start time.Time, src *source, complete bool) {
	live, revision := e.live.Load(), src.revision()
	if live != nil && revision == live.revision {
		if e.failed != "" {
			e.failed = ""
			e.clearError()
			e.report(LoadEvent{Revision: revision, Duration: time.Since(start)})
		}
		return
	}
	if revision == e.failed {
		return
	}
	compiled, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		e.fail(ctx, start, revision, err)
		return
	}
	e.failed = ""
	e.local = src.with(nil)
	if !complete {
		return
	}
	e.swap(compiled, true)
	e.report(LoadEvent{Revision: compiled.revision, Duration: time.Since(start)})
}

// adopt compiles what OPA is about to commit, commits it, and makes it live at
// once. Where it refuses, OPA keeps what it has. That a bundle was removed
// cannot be refused, since OPA panics then: what was in force stays in force.
func (e *Engine) adopt(ctx context.Context, bundles []loadedBundle, removed bool, commit func() error) error {
	start := time.Now()
	e.loading.Lock()
	defer e.loading.Unlock()
	src := e.local.with(bundles)
	// Also where the revision is the same: what a team calls its bundle is not
	// what is in it.
	compiled, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		if removed {
			e.fail(ctx, start, src.revision(), err)
			return commit()
		}
		return err
	}
	for follower := range e.followers {
		follower.follow(ctx, bundles) // now: the data is the store's
	}
	if err := commit(); err != nil {
		return err
	}
	e.swap(compiled, e.failed == "") // files that are broken still are
	e.report(LoadEvent{Revision: compiled.revision, Duration: time.Since(start)})
	return nil
}

// settle makes the files the whole policy, where discovery says that there are
// no bundles.
func (e *Engine) settle() {
	start := time.Now()
	e.loading.Lock()
	defer e.loading.Unlock()
	if e.live.Load() == nil {
		e.take(context.Background(), start, e.local, true)
	}
}

// noteBundles notes why the newest bundles are not active, or that they are.
func (e *Engine) noteBundles(err error) {
	e.status.Lock()
	before := e.status.LastError
	switch {
	case err == nil && e.bundlesFailed:
		e.bundlesFailed = false
		e.status.LastError, e.status.LastErrorAt = "", time.Time{}
	case err != nil && before != err.Error():
		e.bundlesFailed = true
		e.status.LastError, e.status.LastErrorAt = err.Error(), time.Now()
		e.status.Failures++
	}
	revision := e.status.Revision
	e.status.Unlock()
	if err != nil && before != err.Error() {
		e.report(LoadEvent{Revision: revision, Err: err})
	}
}

// fail notes that content did not load. A load that was interrupted by Stop
// says nothing about the content.
func (e *Engine) fail(ctx context.Context, start time.Time, content string, err error) {
	if ctx.Err() != nil || content == e.failed {
		return
	}
	e.failed = content
	e.status.Lock()
	e.status.LastError, e.status.LastErrorAt = err.Error(), time.Now()
	e.status.Failures++
	revision := e.status.Revision
	e.status.Unlock()
	e.report(LoadEvent{Revision: revision, Err: err, Duration: time.Since(start)})
}

func (e *Engine) clearError() {
	e.status.Lock()
	defer e.status.Unlock()
	e.status.LastError, e.status.LastErrorAt = "", time.Time{}
}

func (e *Engine) report(event LoadEvent) {
	if e.onLoad != nil {
		e.onLoad(event)
	}
}

// with is the same files with other bundles.
func (s *source) with(bundles []loadedBundle) *source {
	return &source{files: s.files, opa: s.opa, bundles: bundles}
}
