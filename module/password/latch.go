// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
)

// What a latch can say beside success. Any other error means that it could not
// be asked.
var (
	// ErrConflict: the record is no longer the one that was loaded.
	ErrConflict = errors.New("the record has changed meanwhile")
	// ErrCorrupt: there is a record, but it cannot be understood. It stands
	// until it is reset; it never counts as free.
	ErrCorrupt = errors.New("the record cannot be understood")
)

// Version names one stored state of a record; no two states of one key share
// one. The empty version means that there is no record.
type Version string

// Latch is where records are kept, shared by all replicas: one compare-and-swap
// register per instance. It knows nothing of states, times and outcomes, which
// are the Keeper's, the same for every latch. Implementations are Caddy guest
// modules in the namespace metaguard.latches and are safe for concurrent use.
// They must end when ctx does.
type Latch interface {
	// Load gives the record and its version; the zero Record and the empty
	// version if there is none.
	Load(ctx context.Context, key Key) (Record, Version, error)
	// Swap replaces the record if it still is of version old, and gives the
	// new version. Of several calls with one old version at most one
	// succeeds, whatever process it comes from; the others get ErrConflict.
	// When it returns without an error the record outlasts a crash. After any
	// other error the record is the old or the new one.
	Swap(ctx context.Context, key Key, old Version, next Record) (Version, error)
	// Reset forgets the record, also one that is corrupt. A Swap from any
	// version before it fails afterwards.
	Reset(ctx context.Context, key Key) error
}

// loaded is what a latch's Load gives.
type loaded struct {
	record  Record
	version Version
}

// Starter is for a latch that has something to check before the first request.
// It can be called more than once. Loading and swapping also works before it,
// since Caddy starts apps in no order. What a latch holds it gives back in
// Caddy's Cleanup, after which both must still work, for requests that still
// run. It has no Stop: Caddy would take the latch for an app of its own.
type Starter interface {
	Start() error
}
