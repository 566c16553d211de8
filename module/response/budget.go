// SPDX-License-Identifier: Apache-2.0

package response

import "sync/atomic"

// Budget bounds how many bytes all bodies and answers hold together
// (max_total). It takes no lock. Its methods may be called from anywhere; a nil
// Budget has room for nothing.
type Budget struct {
	max  int64
	used atomic.Int64
	peak atomic.Int64
}

// NewBudget makes a budget of size bytes; none or less has room for nothing.
func NewBudget(size int64) *Budget { return &Budget{max: size} }

// Reserve takes n bytes, all or none, and tells whether they were there. Zero
// bytes are always there. A negative n is refused: it would make room.
func (b *Budget) Reserve(n int64) bool {
	if n <= 0 || b == nil {
		return n == 0
	}
	for {
		used := b.used.Load()
		if n > b.max-used { // never overflows: 0 <= used <= max
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			b.notePeak(used + n)
			return true
		}
	}
}

func (b *Budget) notePeak(used int64) {
	for peak := b.peak.Load(); used > peak; peak = b.peak.Load() {
		if b.peak.CompareAndSwap(peak, used) {
			return
		}
	}
}

// Release gives back n bytes of an earlier Reserve. More than is in use
// empties the budget and no more, so that a double release elsewhere cannot
// raise the bound.
func (b *Budget) Release(n int64) {
	if n <= 0 || b == nil {
		return
	}
	for {
		used := b.used.Load()
		if b.used.CompareAndSwap(used, max(used-n, 0)) {
			return
		}
	}
}

// InUse is how many bytes are taken, for metrics and tests.
func (b *Budget) InUse() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Peak is the most that was ever taken at one time, in bytes.
func (b *Budget) Peak() int64 {
	if b == nil {
		return 0
	}
	return b.peak.Load()
}

// Max is the bound that was given, in bytes.
func (b *Budget) Max() int64 {
	if b == nil {
		return 0
	}
	return b.max
}
