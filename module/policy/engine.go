// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
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

	opaLog   LogHook
	stateDir string

	live atomic.Pointer[Policy]
	// ready is closed when a policy is live for the first time.
	ready     chan struct{}
	readyOnce sync.Once

	// shared is the engine whose bundles this one takes, if it is a candidate.
	shared *Engine
	// following are those that take this one's.
	following struct {
		sync.Mutex
		engines map[*Engine]bool
	}
	// hurry ends the gentleness of a load.
	hurry hurry
	// again makes the watcher load once more.
	again chan struct{}

	// remote is OPA's machinery, where it is configured; nil before Start.
	remote     atomic.Pointer[remote]
	lostEvents atomic.Uint64
	// expectsLogs tells that OPA's log, its rules or its service, gets events once it is
	// started, which
	// closes logging.
	expectsLogs bool
	logging     chan struct{}
	loggingOnce sync.Once

	cacheHits, cacheMisses atomic.Uint64

	// reading is held while files are read and loaded, so that what was read
	// first is loaded first.
	reading sync.Mutex
	// loading is held while files are compiled and exchanged.
	loading sync.Mutex
	// local are the files that were loaded last, and system those of them that
	// are for OPA itself; loading guards them.
	local  *source
	system []file
	// failed is the content that did not load last, so that it is reported
	// once; loading guards it.
	failed string
	// holding tells that bundles' servers were not asked yet, and held is what is
	// to decide then; loading guards them.
	holding   bool
	held      *Policy
	holdTimer *time.Timer

	status struct {
		sync.Mutex
		Status
		troubles [troubles]string
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
	// Warnings are findings that are no reason to refuse it.
	Warnings []Finding
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
	// Cache tells of remembered verdicts.
	Cache CacheStatus `json:"cache"`
	// Bundles are the states of bundles, by name.
	Bundles map[string]BundleStatus `json:"bundles,omitempty"`
}

// New loads and checks a policy. It opens no socket and starts no goroutine,
// so validating a configuration is making an engine and dropping it. Errors in
// the policy are an *Error.
func New(ctx context.Context, cfg Config, opts ...Option) (*Engine, error) {
	s, err := cfg.check()
	if err != nil {
		return nil, err
	}
	e := &Engine{settings: s, interval: defaultInterval, ready: make(chan struct{}), logging: make(chan struct{}), again: make(chan struct{}, 1)}
	for _, opt := range opts {
		opt(e)
	}
	src, err := s.read()
	if err != nil {
		return nil, err
	}
	s.remote = src.opa != nil && src.opa.remote || e.shared != nil
	src.partial = s.remote
	e.expectsLogs = src.opa != nil && (src.opa.logs || s.RefuseUnlogged)
	compiled, err := s.compile(ctx, src, e.print)
	if err != nil {
		return nil, err
	}
	e.key, e.local, e.system = s.key(src), src, compiled.system
	e.status.Key, e.status.Paths = e.key, s.Paths
	if !e.AwaitsBundles() {
		e.swap(compiled)
	}
	return e, nil
}

// ReadyTimeout is [Config.ReadyTimeout], with its default.
func (e *Engine) ReadyTimeout() time.Duration { return e.settings.ReadyTimeout }

// AwaitsBundles tells that files alone are not the whole policy: deciding
// without a team's bundles would leave out what they deny.
func (e *Engine) AwaitsBundles() bool { return e.settings != nil && e.settings.remote }

// Key is what [Digest] gave for the configuration and the files when they were
// loaded. It stays the same when edits are loaded later.
func (e *Engine) Key() string { return e.key }

// Start makes the engine follow its files and bundles. Starting twice is
// starting once.
func (e *Engine) Start() error {
	e.watcher.Lock()
	defer e.watcher.Unlock()
	if err := e.startRemote(); err != nil {
		return err
	}
	e.shared.lead(e)
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

func (e *Engine) startRemote() error {
	if e.remote.Load() != nil || e.local.opa == nil {
		return nil
	}
	r, err := newRemote(e, e.local.opa)
	if err != nil {
		return fmt.Errorf("preparing OPA: %w", err)
	}
	e.remote.Store(r)
	if err := r.start(); err != nil {
		e.remote.Store(nil)
		r.giveUp()
		return fmt.Errorf("starting OPA: %w", err)
	}
	return nil
}

// WaitReady waits until a policy decides, at most until ctx is done. Only an
// engine with bundles has to be waited for, after Start.
func (e *Engine) WaitReady(ctx context.Context) error {
	select {
	case <-e.ready:
		return nil
	case <-ctx.Done():
	}
	why := "no policy has come from elsewhere yet"
	if status := e.Status(); status.LastError != "" {
		why += ": " + status.LastError
	}
	return errors.New(why)
}

// Stop ends what Start began and waits for it, at most until ctx is done. The
// engine still decides afterwards: requests of an old configuration may be in
// flight.
func (e *Engine) Stop(ctx context.Context) {
	e.watcher.Lock()
	cancel, done := e.watcher.cancel, e.watcher.done
	e.watcher.cancel, e.watcher.done = nil, nil
	r := e.remote.Load()
	e.watcher.Unlock()
	e.shared.leave(e)
	if cancel != nil {
		cancel()
	}
	e.hurry.now() // after that no load begins to be gentle
	if r != nil {
		r.close(ctx)
	}
	if cancel == nil {
		return
	}
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
		live = e.await(ctx)
	}
	if live == nil {
		return Result{Reason: decision.PolicyNotReady, asked: in, Time: start, Duration: time.Since(start)}
	}
	return e.decideCached(ctx, live, in)
}

// await waits for the first policy, for as long as requests may wait.
func (e *Engine) await(ctx context.Context) *Policy {
	if e == nil || !e.AwaitsBundles() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.settings.ReadyTimeout)
	defer cancel()
	select {
	case <-e.ready:
	case <-ctx.Done():
	}
	return e.live.Load()
}

// Policy is what is in force; nil if nothing is yet.
func (e *Engine) Policy() *Policy { return e.live.Load() }

// Status tells how the engine is now.
func (e *Engine) Status() Status {
	e.status.Lock()
	defer e.status.Unlock()
	status := e.status.Status
	status.Paths = slices.Clone(status.Paths)
	status.Cache = e.cacheStatus()
	if r := e.remote.Load(); r != nil {
		status.Bundles = r.status()
	}
	return status
}

// swap makes a policy live.
func (e *Engine) swap(next *Policy) {
	e.live.Store(next)
	e.status.Lock()
	defer e.status.Unlock()
	st := &e.status.Status
	st.Revision, st.LoadedAt, st.Files = next.revision, next.loaded, next.files
	st.Loads++
	e.readyOnce.Do(func() { close(e.ready) })
}
