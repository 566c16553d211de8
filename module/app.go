// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/policy"
)

func init() {
	caddy.RegisterModule(App{})
}

// App owns what runs beside requests: it starts the watchers of policies and
// inventories once a configuration is in force. Sites hand over what they
// provisioned; nobody has to configure it.
//
// Caddy starts apps in no order, so that a site may serve before this app has
// started; all that a request needs is ready when the site is provisioned. In a
// reload that is the whole of it: see [Handler.Provision].
type App struct {
	ctx         caddy.Context
	logger      *zap.Logger
	startedAt   time.Time
	sources     identity.Chain // of all sites
	engines     []*pooledEngine
	background  []starter
	running     int // how many of them were started
	inventories []*identity.InventoryFile
	passwords   []*passwords
	candidates  []*candidate
	assertions  []*addressAssertion
	sites       []*Handler
	named       map[string]int // how many sites bear a name
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision registers the metrics with this configuration's registry.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Logger()
	return registerMetrics(ctx.GetMetricsRegistry(), a)
}

// Start begins to watch policies and inventories.
func (a *App) Start() error {
	if err := a.checkRunningAdmin(); err != nil {
		return err
	}
	return a.run()
}

// reloading tells that another configuration is in force. It is never so where
// one is only validated.
func reloading() bool { return caddy.ActiveContext().Context != nil }

// run starts what was handed over so far and does not run yet.
func (a *App) run() error {
	for _, assertion := range a.assertions {
		if err := assertion.Start(); err != nil {
			return err // of one site: it is the same of all
		}
	}
	for _, used := range a.policies() {
		if err := startEngine(used.pooledEngine); err != nil {
			return fmt.Errorf("starting policy: %w", err)
		}
	}
	// At once, since each may have to wait for something that does not answer.
	parts := a.background[a.running:]
	a.running = len(a.background)
	failures := make([]error, len(parts))
	var all sync.WaitGroup
	for i, part := range parts {
		all.Go(func() { failures[i] = part.Start() })
	}
	all.Wait()
	a.startedAt = time.Now()
	return errors.Join(failures...)
}

// startEngine starts an engine. Where its policy comes from elsewhere and has
// not come in time, a reload is refused, so that what runs goes on; at the first
// start there is nothing to go on with, and requests are refused until it comes.
func startEngine(engine *pooledEngine) error {
	if err := engine.Start(); err != nil {
		return err
	}
	if !engine.AwaitsBundles() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), engine.ReadyTimeout())
	defer cancel()
	err := engine.WaitReady(ctx)
	if err == nil {
		return nil
	}
	if reloading() {
		return err
	}
	policyLogger().Error("no policy yet: every request is refused until it comes", zap.Error(err))
	return nil
}

// Stop does nothing: engines and sources live until the last site that holds
// them is cleaned up, and an engine still decides after that.
func (*App) Stop() error { return nil }

// starter is a part of a site that runs beside requests. What Start begins is
// ended by the part's own Cleanup.
type starter interface{ Start() error }

// add takes over what a site provisioned.
func (a *App) add(h *Handler) {
	a.sites = append(a.sites, h)
	a.engines = append(a.engines, h.engine)
	if h.candidate != nil {
		a.candidates = append(a.candidates, h.candidate)
		a.background = append(a.background, h.candidate)
	}
	a.passwords = append(a.passwords, h.passwords)
	if h.source != nil {
		a.assertions = append(a.assertions, h.source)
	}
	if latch, ok := h.latch.(starter); ok {
		a.background = append(a.background, latch)
	}
	a.sources = append(a.sources, h.identities...)
	for _, source := range h.identities {
		if part, ok := source.(starter); ok {
			a.background = append(a.background, part)
		}
	}
	a.inventories = append(a.inventories, h.identities.Inventories()...)
}

// usedPolicy is an engine that this configuration uses.
type usedPolicy struct {
	*pooledEngine
	candidate bool // it is compared only
}

// name is the policy's in metrics and the admin API: enough of its digest to
// tell it from others.
func (p usedPolicy) name() string { return engineName(p.key) }

func engineName(key string) string { return key[:min(len(key), 12)] }

// policies are all policies in use, each once. Candidates come last: what a
// candidate takes from a live policy is there when it starts.
func (a *App) policies() []usedPolicy {
	used := make([]usedPolicy, 0, len(a.engines)+len(a.candidates))
	add := func(engine *pooledEngine, candidate bool) {
		if !slices.ContainsFunc(used, func(known usedPolicy) bool { return known.key == engine.key }) {
			used = append(used, usedPolicy{engine, candidate})
		}
	}
	for _, engine := range a.engines {
		add(engine, false)
	}
	for _, c := range a.candidates {
		add(c.engine, true)
	}
	return used
}

// engines holds the compiled policies in use, by the digest of their settings
// and files. Equal policies are one engine, across sites and reloads.
var engines = caddy.NewUsagePool()

// pooledEngine is an engine in the pool.
type pooledEngine struct {
	*policy.Engine
	key string
}

// stopTimeout bounds how long the end of an engine may take.
const stopTimeout = 5 * time.Second

// Destruct stops the engine's watcher when its last site is gone. A request
// that is still on its way decides on the policy that it has.
func (e *pooledEngine) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	e.Stop(ctx)
	events := e.EventCounts()
	lost := events.Recorded - events.Delivered
	if lost > 0 {
		policyLogger().Warn("decision events did not reach OPA's log service before their policy was replaced or the process ended",
			zap.String("engine", engineName(e.key)), zap.Uint64("events", lost))
	}
	goneEvents.Add(lost + e.DroppedEvents()["lost"])
	return nil
}

// goneEvents are the events that policies lost that are no longer in use.
var goneEvents atomic.Uint64

// acquireEngine gives the engine for a configuration, compiled now or shared.
// What it returns is given back with releaseEngine, once.
// A candidate takes its bundles from the live engine; elsewhere live is nil.
func acquireEngine(config policy.Config, live *pooledEngine) (engine *pooledEngine, key string, err error) {
	key, err = policy.Digest(config)
	if err != nil {
		return nil, "", fmt.Errorf("reading policy: %w", err)
	}
	bundles := live != nil && live.AwaitsBundles()
	if bundles {
		sum := sha256.Sum256([]byte(key + live.key))
		key = hex.EncodeToString(sum[:])
	}
	value, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		options := append(policyLogging(engineName(key), live != nil), policy.WithStateDir(filepath.Join(caddy.AppDataDir(), "metaguard", "opa")))
		if bundles {
			options = append(options, policy.WithBundlesOf(live.Engine))
		}
		compiled, err := policy.New(context.Background(), config, options...)
		if err != nil {
			return nil, err
		}
		if live := compiled.Policy(); live != nil {
			logWarnings(policyLogger().With(zap.String("engine", engineName(key))), live.Warnings())
		}
		return &pooledEngine{compiled, key}, nil
	})
	if err != nil {
		return nil, "", err
	}
	return value.(*pooledEngine), key, nil
}

func releaseEngine(key string) error {
	_, err := engines.Delete(key)
	return err
}

// Interface guards.
var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
	_ caddy.Destructor  = (*pooledEngine)(nil)
)
