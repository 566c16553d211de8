// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/metaguard/metaguard/module/pace"
)

// Reload loads the files as they are now, without waiting for the next look at
// them. It tells whether another policy is in force after it, and why the files
// are not, usually with their lines; what was in force stays so then. Bundles
// come when OPA asks for them: its own way to ask at once is for bundles that it
// never asks for otherwise (v1/download, Trigger).
func (e *Engine) Reload(ctx context.Context) (changed bool, err error) {
	before := e.Policy()
	e.hurry.now()
	e.reloadAgain(context.WithValue(ctx, atOnceKey{}, true))
	after := e.Policy()
	changed = after != nil && (before == nil || before.revision != after.revision)
	if err := ctx.Err(); err != nil {
		return changed, fmt.Errorf("reading the policy again: %w", err)
	}
	e.status.Lock()
	defer e.status.Unlock()
	if text := e.status.troubles[ofFiles]; text != "" {
		return changed, errors.New(text)
	}
	return changed, nil
}

// reload loads the files as they are now, beside the bundles that are active.
// What cannot be loaded changes nothing but the status and is reported once for
// each distinct content.
func (e *Engine) reload(ctx context.Context) {
	e.reading.Lock()
	defer e.reading.Unlock()
	start := time.Now()
	p := e.paceOfReading(ctx)
	if p.IsGentle() {
		defer e.hurryWhenChanged()()
	}
	src, err := read(e.settings.Paths, p)
	if err != nil {
		e.loading.Lock()
		defer e.loading.Unlock()
		e.fail(ctx, start, err.Error(), err)
		return
	}
	e.load(ctx, start, src)
	r := e.remote.Load()
	if r == nil {
		return
	}
	// Of files that were refused nothing is taken.
	e.loading.Lock()
	system := e.system
	e.loading.Unlock()
	if err := r.syncSystem(ctx, system); err != nil {
		e.loading.Lock()
		defer e.loading.Unlock()
		e.fail(ctx, start, err.Error(), err)
	}
}

// reloadAgain loads the files once more, also those that were refused: there
// are other bundles now.
func (e *Engine) reloadAgain(ctx context.Context) {
	e.loading.Lock()
	e.failed = ""
	e.loading.Unlock()
	e.reload(ctx)
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
		all := src.with(bundles)
		all.pace = src.pace
		e.take(ctx, start, all, complete)
		return nil
	})
	if err != nil {
		e.fail(ctx, start, err.Error(), err)
	}
}

// atOnceKey marks the context of a load that somebody waits for.
type atOnceKey struct{}

// paceOfReading is gentle where requests are served meanwhile.
func (e *Engine) paceOfReading(ctx context.Context) *pace.Pace {
	gentle := pace.Gentle(e.hurry.channel()) // before it is looked whether all ends, which hurries
	r := e.remote.Load()
	if e.live.Load() == nil || ctx.Value(atOnceKey{}) != nil || ctx.Err() != nil || r != nil && r.closed.Load() {
		return new(pace.Pace)
	}
	return gentle
}

// paceOf is that of the reading where only data is new: a rule may be needed at once.
func (e *Engine) paceOf(ctx context.Context, live *Policy, src *source) *pace.Pace {
	sameFile := func(a, b file) bool { return a.name == b.name && bytes.Equal(a.bytes, b.bytes) }
	switch {
	case live == nil || !slices.EqualFunc(live.sources, src.rules(), sameFile):
		return new(pace.Pace)
	case src.pace == nil:
		return e.paceOfReading(ctx)
	}
	return src.pace
}

// paceOfBundle is gentle where a bundle has the rules that are in force, and other data.
func (e *Engine) paceOfBundle(ctx context.Context, rules []file) *pace.Pace {
	live := e.live.Load()
	if live == nil {
		return new(pace.Pace)
	}
	inForce := make(map[string][]byte) // of all bundles: where there are several, the others' rules are missing
	for _, f := range live.sources {
		if strings.HasPrefix(f.name, bundlePrefix) {
			inForce[f.name] = f.bytes
		}
	}
	for _, f := range rules {
		if before, ok := inForce[f.name]; !ok || !bytes.Equal(before, f.bytes) {
			return new(pace.Pace)
		}
	}
	if len(inForce) != len(rules) {
		return new(pace.Pace)
	}
	return e.paceOfReading(ctx)
}

// hurry is how somebody who waits ends the gentleness of loads that go on.
type hurry struct {
	mu     sync.Mutex
	closed chan struct{}
}

func (h *hurry) channel() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed == nil {
		h.closed = make(chan struct{})
	}
	return h.closed
}

func (h *hurry) now() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		close(h.closed)
		h.closed = nil
	}
}

// take compiles what was read and makes it live; loading is held. Before all
// bundles are there it is only compiled.
func (e *Engine) take(ctx context.Context, start time.Time, src *source, complete bool) {
	live, identity := e.live.Load(), src.identity()
	if live != nil && identity == live.identity {
		if e.failed != "" || e.shared != nil {
			e.failed = ""
			if e.note(ofFiles, nil) {
				e.report(LoadEvent{Revision: live.revision, Duration: time.Since(start)})
			}
		}
		return
	}
	if identity == e.failed {
		return
	}
	src.partial = !complete
	src.pace = e.paceOf(ctx, live, src)
	compiled, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		e.fail(ctx, start, identity, err)
		return
	}
	e.failed = ""
	e.note(ofFiles, nil)
	e.local, e.system = src.with(nil), compiled.system
	switch {
	case !complete:
		return
	case e.holding:
		e.held = compiled
		return
	}
	e.swap(compiled)
	e.report(LoadEvent{Revision: compiled.revision, Warnings: compiled.Warnings(), Duration: time.Since(start)})
}

// adopt compiles what OPA is about to commit, commits it, and makes it live at
// once. Where it refuses, OPA keeps what it has. Only an activation can be
// refused; after anything else what was in force stays in force.
func (e *Engine) adopt(ctx context.Context, bundles []loadedBundle, activation bool, commit func() error) error {
	start := time.Now()
	e.hurry.now() // a revocation can be in them
	e.loading.Lock()
	defer e.loading.Unlock()
	src := e.local.with(bundles)
	if live := e.live.Load(); live != nil && live.identity == src.identity() {
		e.note(ofRemoval, nil)
		return commit() // a server without ETags sends the same again and again
	}
	src.pace = e.paceOf(ctx, e.live.Load(), src)
	compiled, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		if activation {
			return err
		}
		if ctx.Err() == nil && e.note(ofRemoval, err) {
			e.report(LoadEvent{Revision: e.Status().Revision, Err: err, Duration: time.Since(start)})
		}
		return commit()
	}
	if err := commit(); err != nil {
		return err
	}
	if e.holding {
		e.held = compiled
		return nil
	}
	e.adopted(start, compiled)
	return nil
}

// adopted makes a policy with new bundles live; loading is held.
func (e *Engine) adopted(start time.Time, compiled *Policy) {
	e.swap(compiled)
	e.note(ofRemoval, nil)
	e.report(LoadEvent{Revision: compiled.revision, Warnings: compiled.Warnings(), Duration: time.Since(start)})
	if e.failed != "" {
		e.loadAgain() // what did not go with the old bundles may go with these
	}
	e.callFollowers()
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
	return &source{files: s.files, opa: s.opa, bundles: bundles, digest: s.digest}
}
