// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/certmagic"
	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/session"
)

// Requests wait together for one attempt, and all get what it made.
func TestKeptIsMadeOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var made atomic.Int32
	k := &kept[int]{build: func(context.Context) (*int, error) {
		n := int(made.Add(1))
		return &n, nil
	}}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if n, err := k.get(t.Context()); err != nil || *n != 1 {
				t.Error(n, err)
			}
		})
	}
	all.Wait()
}

// One that fails is tried again, but not by every request.
func TestKeptFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var tries atomic.Int32
	failure := errors.New("no storage")
	k := &kept[int]{build: func(context.Context) (*int, error) {
		tries.Add(1)
		return nil, failure
	}}
	for range 50 {
		if _, err := k.get(t.Context()); !errors.Is(err, failure) {
			t.Fatal(err)
		}
	}
	if n := tries.Load(); n < 1 || n > 3 { // a slow machine may need more than retryAttempt
		t.Errorf("%d tries", n)
	}
	k.making.ended = k.making.ended.Add(-2 * retryAttempt)
	before := tries.Load()
	_, _ = k.get(t.Context())
	if tries.Load() != before+1 {
		t.Error("it is not tried again")
	}
}

// A client that goes away does not wait for storage that hangs.
func TestKeptClientGone(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	hangs, done := make(chan struct{}), make(chan struct{})
	k := &kept[int]{build: func(context.Context) (*int, error) {
		defer close(done)
		<-hangs
		return nil, errors.New("late")
	}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.get(ctx); !errors.Is(err, errClientGone) {
		t.Error(err)
	}
	close(hangs)
	<-done
	<-k.making.done
}

// Replicas on one storage make one key between them.
func TestStoredKeyIsOne(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[string]bool)
	for range 8 {
		all.Go(func() {
			key, err := sessionKey.get(t.Context(), storage)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[string(key.Reveal())] = true
		})
	}
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("%d keys", len(seen))
	}
	// One that was cut short is an error, never a key.
	if err := storage.Store(t.Context(), sessionKey.path, session.NewSecret()[:20]); err != nil {
		t.Fatal(err)
	}
	if _, err := sessionKey.get(t.Context(), storage); err == nil {
		t.Error("a key that was cut is taken")
	}
}
