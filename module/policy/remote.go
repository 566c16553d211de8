// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tracing"
)

// remote runs OPA's own machinery for an engine: what brings bundles and takes
// decision events away.
type remote struct {
	engine  *Engine
	config  *opaConfig
	metrics metrics.Metrics
	store   *bundleStore
	manager *plugins.Manager
	cancel  context.CancelFunc

	watching sync.Once

	// bufferEvents is how many decision events OPA's buffer takes, and pending
	// how many are on their way into it.
	bufferEvents atomic.Int64
	pending      atomic.Int64
	logsToServer atomic.Bool
	closed       atomic.Bool
	// failures are events that OPA let go since a rule of the log failed, recorded
	// those that it has for the log service, and delivered those that this one has.
	failures  atomic.Uint64
	recorded  atomic.Uint64
	delivered deliveries

	bundles struct {
		sync.Mutex
		status map[string]BundleStatus
	}
}

// BundleStatus is how a bundle is.
type BundleStatus struct {
	// Revision is what its author calls the active one.
	Revision string `json:"revision,omitempty"`
	// ActivatedAt is when it was activated.
	ActivatedAt time.Time `json:"activated_at,omitzero"`
	// LastError says why the newest one is not active; empty if it is.
	LastError string `json:"last_error,omitempty"`
}

// newRemote makes OPA's manager. It starts goroutines, which close ends.
func newRemote(e *Engine, c *opaConfig) (*remote, error) {
	r := &remote{engine: e, config: c, metrics: metrics.New()}
	r.bufferEvents.Store(c.bufferEvents)
	r.logsToServer.Store(c.logsToServer)
	r.store = &bundleStore{Store: inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false)), commit: r.adopt, paceOf: e.paceOfBundle}
	if err := r.syncSystem(context.Background(), e.system); err != nil {
		return nil, err
	}
	configured := c.hardened
	if e.stateDir != "" {
		var err error
		if configured, err = c.withStateDir(filepath.Join(e.stateDir, shortDigest(c.path))); err != nil {
			return nil, err
		}
	}
	hook := hooks.New(hardenDiscovered{r})
	manager, err := plugins.New(configured, uuid.NewString(), r.store,
		plugins.Logger(opaLogger{log: r.watchLog}),
		plugins.ConsoleLogger(opaLogger{log: e.opaLog}),
		plugins.WithParserOptions(ast.ParserOptions{RegoVersion: ast.RegoV1}),
		plugins.WithHooks(hook),
		plugins.WithDistributedTracingOpts(tracing.NewOptions(&r.delivered)),
		plugins.WithStoreCloseOnStop(false),
	)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	r.manager = manager
	discover, err := discovery.New(manager,
		discovery.Factories(map[string]plugins.Factory{eventPlugin: eventFactory{}}),
		discovery.Metrics(r.metrics),
		discovery.Hooks(hook),
	)
	if err != nil {
		r.giveUp()
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	manager.Register(discovery.Name, discover)
	manager.RegisterPluginStatusListener("metaguard", r.statusChanged)
	return r, nil
}

// start begins to fetch bundles, and activates those that are on disk.
func (r *remote) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if bundle.Lookup(r.manager) != nil {
		r.engine.hold()
		r.watchBundles()
	}
	if err := r.manager.Start(ctx); err != nil {
		return fmt.Errorf("%s: %w", r.config.name, err)
	}
	r.watchBundles()
	return nil
}

// close ends everything, and waits for it at most until ctx is done. Decision
// events that wait are sent first.
func (r *remote) close(ctx context.Context) {
	r.closed.Store(true)
	r.engine.hurry.now() // a bundle that is being read
	r.engine.stopHolding()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What is on its way into the buffer is sent, too.
		for r.pending.Load() > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		r.manager.Stop(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	if r.cancel != nil {
		r.cancel()
	}
}

// giveUp closes what was not started whole. OPA's plugins can wait for ever for
// a start that has not been.
func (r *remote) giveUp() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.close(ctx)
}

// adopt compiles what bundles bring, before it is committed. What is no
// activation is committed in any case: what was in force stays so.
func (r *remote) adopt(ctx context.Context, txn storage.Transaction, activation bool, commit func() error) error {
	bundles, err := readBundles(ctx, r.store.Store, txn)
	switch {
	case err != nil && !activation:
		r.engine.note(ofRemoval, err)
		return commit()
	case err != nil:
		return err
	case !r.complete(bundles):
		return commit() // the others are still to come
	}
	return r.engine.adopt(ctx, bundles, activation, commit)
}

// complete tells whether every configured bundle is there.
func (r *remote) complete(bundles []loadedBundle) bool {
	if r.manager == nil {
		return false
	}
	plugin := bundle.Lookup(r.manager)
	if plugin == nil {
		return false
	}
	for name := range plugin.Config().Bundles {
		if !slices.ContainsFunc(bundles, func(b loadedBundle) bool { return b.name == name }) {
			return false
		}
	}
	return true
}

// read gives the bundles that are active, for the time of a function. It must
// not write to the store.
func (r *remote) read(ctx context.Context, use func(bundles []loadedBundle, complete bool) error) error {
	return storage.Txn(ctx, r.store.Store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		bundles, err := readBundles(ctx, r.store.Store, txn)
		if err != nil {
			return err
		}
		return use(bundles, r.complete(bundles))
	})
}

// localPrefix stands before the operator's own rules in OPA's store. No bundle
// has this name.
const localPrefix = "metaguard-local/"

// syncSystem gives OPA the operator's own rules for itself, such as
// system.log.mask, which it takes from its store.
func (r *remote) syncSystem(ctx context.Context, rules []file) error {
	wanted := map[string][]byte{}
	for _, f := range rules {
		wanted[localPrefix+f.name] = f.bytes
	}
	var present []string
	err := storage.Txn(ctx, r.store.Store, storage.TransactionParams{}, func(txn storage.Transaction) (err error) {
		present, err = r.store.ListPolicies(ctx, txn)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the rules for OPA itself: %w", err)
	}
	present = slices.DeleteFunc(present, func(id string) bool { return !strings.HasPrefix(id, localPrefix) })
	if len(wanted) == 0 && len(present) == 0 {
		return nil
	}
	// Not through the wrapped store: this changes nothing that decides.
	plain := r.store.Store
	err = storage.Txn(ctx, plain, storage.WriteParams, func(txn storage.Transaction) error {
		for _, id := range present {
			if _, ok := wanted[id]; !ok {
				if err := plain.DeletePolicy(ctx, txn, id); err != nil {
					return err
				}
			}
		}
		for id, content := range wanted {
			if err := plain.UpsertPolicy(ctx, txn, id, content); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing the rules for OPA itself: %w", err)
	}
	return nil
}

// statusChanged is called by the manager, whose lock must not be waited for.
func (r *remote) statusChanged(status map[string]*plugins.Status) {
	if s := status[discovery.Name]; s != nil && s.State == plugins.StateOK {
		go r.watchBundles()
	}
	if s := status[logs.Name]; s != nil && s.State == plugins.StateOK {
		r.engine.loggingOnce.Do(func() { close(r.engine.logging) })
	}
}

// watchBundles follows the bundles' states, once they are known. A discovered
// configuration without bundles leaves the local files as the whole policy.
func (r *remote) watchBundles() {
	plugin := bundle.Lookup(r.manager)
	if plugin == nil {
		if s := r.manager.PluginStatus()[discovery.Name]; s != nil && s.State == plugins.StateOK {
			r.engine.settle()
		}
		return
	}
	r.watching.Do(func() {
		plugin.RegisterBulkListener("metaguard", r.bundlesChanged)
	})
}

// bundlesChanged notes what became of the newest bundles.
func (r *remote) bundlesChanged(states map[string]*bundle.Status) {
	noted := make(map[string]BundleStatus, len(states))
	var failures []error
	for _, name := range sortedKeys(states) {
		state := states[name]
		b := BundleStatus{Revision: state.ActiveRevision, ActivatedAt: state.LastSuccessfulActivation}
		text := state.Message
		if err := errors.Join(state.Errors...); err != nil {
			text = err.Error()
		}
		b.LastError = withoutQueries(text)
		if b.LastError != "" {
			failures = append(failures, fmt.Errorf("bundle %s: %s", name, b.LastError))
		}
		noted[name] = b
	}
	r.bundles.Lock()
	r.bundles.status = noted
	r.bundles.Unlock()
	r.engine.noteBundles(errors.Join(failures...))
	if askedForAll(states) {
		r.engine.release()
	}
}

func (r *remote) status() map[string]BundleStatus {
	r.bundles.Lock()
	defer r.bundles.Unlock()
	return maps.Clone(r.bundles.status)
}
