// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/metaguard/metaguard/module/decision"
)

// kept is what is made of a key when it is first needed, since the key may have
// to be made and stored then, which validating a configuration must not do.
type kept[T any] struct {
	build func(context.Context) (*T, error)

	made   atomic.Pointer[T]
	mu     sync.Mutex
	making *attempt // under way, or the last one
}

// attempt is one try to get the key. Requests wait for it together: storage
// that hangs holds one goroutine, not one for each of them.
type attempt struct {
	done  chan struct{}
	ended time.Time // with err, once done is closed
	err   error
}

const (
	storageTimeout = 5 * time.Second // how long a request waits for the key
	retryAttempt   = time.Second     // how soon a failed attempt is made again
)

// Why get gave up waiting.
var (
	errClientGone = errors.New("the client went away")
	errKeyTimeout = errors.New("storage takes too long")
)

// get gives what was made, or makes it.
func (k *kept[T]) get(ctx context.Context) (*T, error) {
	if made := k.made.Load(); made != nil {
		return made, nil
	}
	attempt := k.attempt()
	timer := time.NewTimer(storageTimeout)
	defer timer.Stop()
	select {
	case <-attempt.done:
	case <-ctx.Done():
		return nil, errClientGone
	case <-timer.C:
		return nil, errKeyTimeout
	}
	if attempt.err != nil {
		return nil, attempt.err
	}
	return k.made.Load(), nil
}

// attempt joins the attempt that is under way, or begins one.
func (k *kept[T]) attempt() *attempt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.making != nil {
		select {
		case <-k.making.done:
			if k.making.err == nil || time.Since(k.making.ended) < retryAttempt {
				return k.making
			}
		default:
			return k.making
		}
	}
	k.making = &attempt{done: make(chan struct{})}
	go k.try(k.making)
	return k.making
}

func (k *kept[T]) try(a *attempt) {
	defer close(a.done)
	defer func() { a.ended = time.Now() }()
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	made, err := k.build(ctx)
	if err != nil {
		a.err = err
		return
	}
	k.made.Store(made)
}

// storedKey is a key that is made once and kept in Caddy's storage.
type storedKey struct {
	what  string // in errors
	path  string
	fresh func() []byte
	parse func([]byte) (decision.Secret, error)
}

// get reads the key from Caddy's storage, or makes it there. The lock keeps two
// replicas on one storage from making two.
func (k *storedKey) get(ctx context.Context, storage certmagic.Storage) (_ decision.Secret, err error) {
	stored, err := storage.Load(ctx, k.path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := storage.Lock(ctx, k.path); err != nil {
			return decision.Secret{}, fmt.Errorf("locking the %s: %w", k.what, err)
		}
		defer func() {
			if unlock := storage.Unlock(context.WithoutCancel(ctx), k.path); err == nil && unlock != nil {
				err = fmt.Errorf("unlocking the %s: %w", k.what, unlock)
			}
		}()
		stored, err = storage.Load(ctx, k.path)
		if errors.Is(err, fs.ErrNotExist) {
			stored = k.fresh()
			err = storage.Store(ctx, k.path, stored)
		}
	}
	if err != nil {
		return decision.Secret{}, fmt.Errorf("keeping the %s in Caddy's storage: %w", k.what, err)
	}
	return k.parse(stored)
}
