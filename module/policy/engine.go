// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// Engine is one loaded policy that follows its files. It is safe for use by
// many goroutines. Decisions never wait for a load: they take whole policies.
type Engine struct {
	settings *settings
	key      string
	print    *printer
	onLoad   func(LoadEvent)
	interval time.Duration

	live atomic.Pointer[Policy]

	// loading is held while files are read and compiled.
	loading sync.Mutex
	// failed is the content that did not load last, so that it is reported
	// once; loading guards it.
	failed string

	status struct {
		sync.Mutex
		Status
	}
	watcher struct {
		sync.Mutex
		cancel context.CancelFunc
		done   chan struct{}
	}
}

// LoadEvent tells of one attempt to load changed files.
type LoadEvent struct {
	// Revision is what is live after it.
	Revision string
	// Err is why the files were not loaded, usually an *Error; nil if they were.
	Err error
	// Duration is how long reading and compiling took.
	Duration time.Duration
}

// Status is how an engine is.
type Status struct {
	// Key is the engine's own; see [Engine.Key].
	Key string `json:"key"`
	// Revision is a digest of the live policy and its data.
	Revision string `json:"revision"`
	// LoadedAt is when that was loaded.
	LoadedAt time.Time `json:"loaded_at"`
	// LastError says why the files as they are now are not live; empty if
	// they are.
	LastError string `json:"last_error,omitempty"`
	// LastErrorAt is when that was found.
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Loads and Failures count attempts since the engine was made, the first
	// load included.
	Loads    uint64 `json:"loads"`
	Failures uint64 `json:"failures"`
	// Files is how many of the operator's files are live.
	Files int `json:"files"`
	// Paths are the operator's directories and files.
	Paths []string `json:"paths"`
}

// New loads and checks a policy. It opens no socket and starts no goroutine,
// so validating a configuration is making an engine and dropping it. Errors in
// the policy are an *Error.
func New(ctx context.Context, cfg Config, opts ...Option) (*Engine, error) {
	s, err := cfg.check()
	if err != nil {
		return nil, err
	}
	e := &Engine{settings: s, interval: defaultInterval}
	for _, opt := range opts {
		opt(e)
	}
	src, err := read(s.Paths)
	if err != nil {
		return nil, err
	}
	snap, err := s.compile(ctx, src, e.print)
	if err != nil {
		return nil, err
	}
	e.key = s.key(src)
	e.swap(snap)
	return e, nil
}

// Key is what [Digest] gave for the configuration and the files when they were
// loaded. It stays the same when edits are loaded later.
func (e *Engine) Key() string { return e.key }

// Start makes the engine follow its files. Starting twice is starting once.
func (e *Engine) Start() error {
	e.watcher.Lock()
	defer e.watcher.Unlock()
	if e.watcher.cancel != nil || len(e.settings.Paths) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e.watcher.cancel, e.watcher.done = cancel, done
	go func() {
		defer close(done)
		e.watch(ctx)
	}()
	return nil
}

// Stop ends what Start began and waits for it, at most until ctx is done. The
// engine still decides afterwards: requests of an old configuration may be in
// flight.
func (e *Engine) Stop(ctx context.Context) {
	e.watcher.Lock()
	cancel, done := e.watcher.cancel, e.watcher.done
	e.watcher.cancel, e.watcher.done = nil, nil
	e.watcher.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Decide asks the live policy. It never fails: whatever goes wrong is a denial
// with a reason. It works on a nil engine, which denies.
func (e *Engine) Decide(ctx context.Context, in *decision.Input) Result {
	start := time.Now()
	var live *Policy
	if e != nil {
		live = e.live.Load()
	}
	if live == nil {
		return Result{Reason: decision.PolicyNotReady, Time: start, Duration: time.Since(start)}
	}
	return live.Decide(ctx, in)
}

// Policy is what is in force; nil if nothing is yet.
func (e *Engine) Policy() *Policy { return e.live.Load() }

// Status tells how the engine is now.
func (e *Engine) Status() Status {
	e.status.Lock()
	defer e.status.Unlock()
	status := e.status.Status
	status.Paths = slices.Clone(status.Paths)
	return status
}

// swap makes a policy live.
func (e *Engine) swap(snap *Policy) {
	e.live.Store(snap)
	e.status.Lock()
	defer e.status.Unlock()
	st := &e.status.Status
	st.Key, st.Paths = e.key, e.settings.Paths
	st.Revision, st.LoadedAt, st.Files = snap.revision, snap.loaded, snap.files
	st.LastError, st.LastErrorAt = "", time.Time{}
	st.Loads++
}

// reload loads the files as they are now. What cannot be loaded changes
// nothing but the status and is reported once for each distinct content.
func (e *Engine) reload(ctx context.Context) {
	e.loading.Lock()
	defer e.loading.Unlock()
	start := time.Now()
	src, err := read(e.settings.Paths)
	if err != nil {
		e.fail(ctx, start, err.Error(), err)
		return
	}
	live, revision := e.live.Load(), src.revision()
	if revision == live.revision {
		if e.failed != "" {
			e.failed = ""
			e.status.Lock()
			e.status.LastError, e.status.LastErrorAt = "", time.Time{}
			e.status.Unlock()
			e.report(LoadEvent{Revision: revision, Duration: time.Since(start)})
		}
		return
	}
	if revision == e.failed {
		return
	}
	snap, err := e.settings.compile(ctx, src, e.print)
	if err != nil {
		e.fail(ctx, start, revision, err)
		return
	}
	e.failed = ""
	e.swap(snap)
	e.report(LoadEvent{Revision: snap.revision, Duration: time.Since(start)})
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
	e.status.Unlock()
	e.report(LoadEvent{Revision: e.live.Load().revision, Err: err, Duration: time.Since(start)})
}

func (e *Engine) report(event LoadEvent) {
	if e.onLoad != nil {
		e.onLoad(event)
	}
}
