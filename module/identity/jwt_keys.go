// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// maxKeyWait is how long a request waits for keys.
	maxKeyWait = 3 * time.Second

	// minRenewal is the least time between a fetch and one that an unknown key
	// asks for, so that a flood of made-up key names is no flood of fetches.
	minRenewal = 10 * time.Second

	// maxRetry is the longest time until a failed fetch is tried again.
	maxRetry = 10 * time.Second

	// keyFileInterval is how often a file of keys is looked at.
	keyFileInterval = 2 * time.Second
)

// jwtKeys holds an issuer's keys and keeps them fresh. One goroutine loads
// them; requests read, or wait for it. It is safe for concurrent use.
type jwtKeys struct {
	where    string
	load     func(context.Context) ([]byte, error)
	interval time.Duration // from one load to the next
	maxStale time.Duration // how long the last good keys count; 0: for ever
	renewal  time.Duration // minRenewal, but in tests; 0: an unknown key asks for no load
	wait     time.Duration // maxKeyWait, but in tests
	logger   *zap.Logger
	lookups  counter

	state atomic.Pointer[jwtState]
	ready chan struct{} // closed once there are keys
	ended chan struct{} // closed once there will be no others
	ask   chan struct{} // wakes the goroutine; has room for one

	guard   sync.Mutex
	running chan struct{} // closed when the load ends that runs or was asked for; nil: none
	tried   time.Time     // when the last load ended
	cancel  context.CancelFunc
	stopped chan struct{}
	over    bool
}

// jwtState is replaced as a whole.
type jwtState struct {
	set       *jwtKeySet
	fetchedAt time.Time // when the set was last known to be the issuer's
	changedAt time.Time
	failures  int // in a row
	lastError string
}

// JWTStatus says which keys are in force, and whether loading them fails.
type JWTStatus struct {
	// Where is the address or the file of the keys.
	Where string `json:"where"`
	// Keys is how many are in force, Skipped how many others the issuer has that
	// are not for verifying signatures.
	Keys    int `json:"keys"`
	Skipped int `json:"skipped"`
	// FetchedAt is when they were last loaded, ChangedAt when they were others.
	FetchedAt time.Time `json:"fetched_at"`
	ChangedAt time.Time `json:"changed_at"`
	// Failures counts loads that failed since, LastError is why the last did.
	Failures  int    `json:"failures"`
	LastError string `json:"last_error,omitempty"`
}

func newJWTKeys(where string, load func(context.Context) ([]byte, error), logger *zap.Logger) *jwtKeys {
	k := &jwtKeys{
		where: where, load: load, logger: logger, wait: maxKeyWait,
		ready: make(chan struct{}), ended: make(chan struct{}), ask: make(chan struct{}, 1),
	}
	k.state.Store(new(jwtState))
	return k
}

// start loads the keys in the background until end. Starting twice is the same
// as once; after the end it is an error.
func (k *jwtKeys) start() error {
	k.guard.Lock()
	defer k.guard.Unlock()
	if k.over {
		return errors.New("starting identify jwt: it was stopped")
	}
	if k.cancel != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel, k.stopped, k.running = cancel, make(chan struct{}), make(chan struct{})
	go k.follow(ctx)
	return nil
}

// end ends what start began and waits for it. The keys stay usable; nobody
// waits for others any more.
func (k *jwtKeys) end() {
	k.guard.Lock()
	if !k.over {
		k.over = true
		close(k.ended)
	}
	cancel, stopped := k.cancel, k.stopped
	k.guard.Unlock()
	if cancel != nil {
		cancel()
		<-stopped
	}
}

// follow loads again and again.
func (k *jwtKeys) follow(ctx context.Context) {
	defer close(k.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.ask:
		}
		timer.Reset(k.once(ctx))
	}
}

// once loads the keys for everybody who waits, and gives the time to the next.
func (k *jwtKeys) once(ctx context.Context) time.Duration {
	k.guard.Lock()
	if k.running == nil {
		k.running = make(chan struct{})
	}
	select {
	case <-k.ask: // this is the load that was asked for
	default:
	}
	k.guard.Unlock()

	failed := k.refresh(ctx)

	k.guard.Lock()
	close(k.running)
	k.running, k.tried = nil, time.Now()
	k.guard.Unlock()
	if failed == 0 {
		return k.interval
	}
	// Sooner at first: an issuer that starts together with this process is
	// seldom long in coming.
	return min(time.Second<<min(failed-1, 8), maxRetry, k.interval)
}

// refresh loads the keys once, and gives how often that failed in a row. One
// goroutine at a time calls it.
func (k *jwtKeys) refresh(ctx context.Context) int {
	old := k.state.Load()
	text, err := k.load(ctx)
	set := old.set
	if err == nil && (set == nil || set.digest != sha256.Sum256(text)) {
		set, err = parseKeySet(text)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return old.failures // ended meanwhile: no fault of the issuer's
	case err != nil:
		k.lookups.add(LookupFailed)
		k.failed(old, err)
	default:
		k.lookups.add(LookupAnswered)
		k.accept(set)
		if set != old.set || old.failures > 0 {
			k.logger.Info("keys of tokens loaded",
				zap.String("where", k.where), zap.Int("keys", len(set.keys)), zap.Int("skipped", set.skipped))
		}
	}
	return k.state.Load().failures
}

// failed keeps the last good keys. It logs the first failure of a row only.
func (k *jwtKeys) failed(old *jwtState, err error) {
	state := *old
	state.failures++
	state.lastError = err.Error()
	k.state.Store(&state)
	if old.failures > 0 {
		return
	}
	if old.set == nil {
		k.logger.Error("no keys of tokens yet: every token is refused until they come", zap.String("where", k.where), zap.Error(err))
		return
	}
	k.logger.Warn("keys of tokens not loaded; the last good ones stay in force",
		zap.String("where", k.where), zap.Int("keys", len(old.set.keys)), zap.Error(err))
}

// accept puts keys into force.
func (k *jwtKeys) accept(set *jwtKeySet) {
	old := k.state.Load()
	state := &jwtState{set: set, fetchedAt: time.Now(), changedAt: old.changedAt}
	if set != old.set {
		state.changedAt = state.fetchedAt
	}
	k.state.Store(state)
	if old.set == nil {
		close(k.ready)
	}
}

// get gives the keys in force. It waits for the first, and gives false if none
// come or the last good ones are too old.
func (k *jwtKeys) get(ctx context.Context) (*jwtKeySet, bool) {
	state := k.state.Load()
	if state.set == nil {
		k.await(ctx, k.ready)
		if state = k.state.Load(); state.set == nil {
			return nil, false
		}
	}
	if k.maxStale > 0 && time.Since(state.fetchedAt) > k.maxStale {
		return nil, false
	}
	return state.set, true
}

// renewed gives newer keys than old, if there may be any. Sure tells whether
// they are the issuer's as far as anyone can know.
func (k *jwtKeys) renewed(ctx context.Context, old *jwtKeySet) (set *jwtKeySet, sure bool) {
	ran := true
	if done := k.renew(old); done != nil {
		ran = k.await(ctx, done)
	}
	state := k.state.Load()
	return state.set, ran && state.failures == 0
}

// renew asks for a load and gives the channel that is closed when it ends. It
// gives nil where nothing is to be waited for.
func (k *jwtKeys) renew(old *jwtKeySet) <-chan struct{} {
	k.guard.Lock()
	defer k.guard.Unlock()
	switch {
	case k.state.Load().set != old: // they came meanwhile
		return nil
	case k.running != nil:
		return k.running
	case k.renewal == 0 || k.cancel == nil || k.over || time.Since(k.tried) < k.renewal:
		return nil
	}
	k.running = make(chan struct{})
	k.ask <- struct{}{} // has room: whoever empties it made running
	return k.running
}

// await tells whether done is closed within the time that a request waits.
func (k *jwtKeys) await(ctx context.Context, done <-chan struct{}) bool {
	timer := time.NewTimer(k.wait)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-k.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// status says how it stands.
func (k *jwtKeys) status() JWTStatus {
	state := k.state.Load()
	status := JWTStatus{
		Where: k.where, FetchedAt: state.fetchedAt, ChangedAt: state.changedAt, Failures: state.failures, LastError: state.lastError,
	}
	if state.set != nil {
		status.Keys, status.Skipped = len(state.set.keys), state.set.skipped
	}
	return status
}
