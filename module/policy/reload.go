// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"slices"
	"strings"
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
			e.note(ofFiles, nil)
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
	e.note(ofFiles, nil)
	if e.shared != nil {
		e.note(ofBundles, nil)
	}
	e.local = src.with(nil)
	if !complete {
		return
	}
	e.swap(compiled)
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
			if e.note(ofRemoval, err) {
				e.report(LoadEvent{Revision: e.Status().Revision, Err: err, Duration: time.Since(start)})
			}
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
	e.swap(compiled)
	e.note(ofRemoval, nil)
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
	if e.note(ofBundles, err) && err != nil {
		e.report(LoadEvent{Revision: e.Status().Revision, Err: err})
	}
}

// fail notes that files did not load. A load that was interrupted by Stop says
// nothing about them.
func (e *Engine) fail(ctx context.Context, start time.Time, content string, err error) {
	if ctx.Err() != nil || content == e.failed {
		return
	}
	e.failed = content
	e.note(ofFiles, err)
	e.report(LoadEvent{Revision: e.Status().Revision, Err: err, Duration: time.Since(start)})
}

// What can be wrong at the same time, each on its own.
const (
	ofFiles   = iota // the operator's files as they are now
	ofBundles        // the newest bundles
	ofRemoval        // a bundle was taken away that others need
	troubles         // how many there are
)

// note notes what is wrong, or that nothing is any more, and tells whether that
// is news.
func (e *Engine) note(what int, err error) (news bool) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	e.status.Lock()
	defer e.status.Unlock()
	if e.status.troubles[what] == text {
		return false
	}
	e.status.troubles[what] = text
	all := slices.DeleteFunc(slices.Clone(e.status.troubles[:]), func(text string) bool { return text == "" })
	e.status.LastError, e.status.LastErrorAt = strings.Join(all, "\n"), time.Time{}
	if len(all) > 0 {
		e.status.LastErrorAt = time.Now()
	}
	if err != nil {
		e.status.Failures++
	}
	return true
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
