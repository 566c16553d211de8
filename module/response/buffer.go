// SPDX-License-Identifier: Apache-2.0

package response

import (
	"errors"
	"io"
	"math/bits"
	"sync"
)

// Buffers come in powers of two. A smaller one is not worth a pool, a larger
// one would keep memory that a server needs once a day.
const (
	minClass = 12 // 4 KiB
	maxClass = 24 // 16 MiB
)

// pools holds wiped buffers of the capacities 1<<minClass to 1<<maxClass. A
// cache of memory, no state.
var pools [maxClass - minClass + 1]sync.Pool

// buffer is memory that a budget knows of. Its zero value is ready and holds
// nothing.
type buffer struct {
	budget *Budget
	data   []byte
	held   int64   // bytes reserved, which is the capacity of data
	pooled *[]byte // the pool's own handle of data, nil if it has none
	over   [1]byte // what was read past the limit, after errOverLimit
	// announced is how many bytes are to come in all, as far as is known.
	announced int64
}

// classOf is the smallest class that has room for n bytes.
func classOf(n int64) int { return max(bits.Len64(uint64(max(n, 1)-1)), minClass) }

// grow makes room for n bytes in all and keeps what is there. It tells whether
// the budget had them. While it copies, the budget holds both.
func (b *buffer) grow(n int64) bool {
	if n <= int64(cap(b.data)) {
		return true
	}
	class := classOf(n)
	size := n
	if class <= maxClass {
		size = 1 << class
	}
	if !b.budget.Reserve(size) {
		return false
	}
	next := buffer{budget: b.budget, held: size, announced: b.announced}
	if class <= maxClass {
		next.pooled, _ = pools[class-minClass].Get().(*[]byte)
		if next.pooled == nil {
			fresh := make([]byte, 0, size)
			next.pooled = &fresh
		}
		next.data = *next.pooled
	} else {
		next.data = make([]byte, 0, size)
	}
	next.data = append(next.data, b.data...)
	b.free()
	*b = next
	return true
}

// believed is how many times what has come may get its memory beforehand, where more
// was announced.
const believed = 256

// makeRoom is grow, for a message that comes in parts.
func (b *buffer) makeRoom(n int64) bool {
	if n <= int64(cap(b.data)) {
		return true
	}
	return b.grow(max(n, min(b.announced, believed*int64(len(b.data)))))
}

// maxEmptyReads is how often a reader may say "nothing, and no error" in a row
// before it counts as stuck (bufio has the same number).
const maxEmptyReads = 100

// Why a buffer does not take more.
var (
	errOverLimit  = errors.New("more bytes than the limit allows")
	errBudgetFull = errors.New("the memory for all messages is used up")
)

// readFrom appends r to its end, up to limit bytes in all, and says how many
// came. One byte more is errOverLimit. The end of r is no error.
func (b *buffer) readFrom(r io.Reader, limit int64) (int64, error) {
	var total int64
	for idle := 0; idle < maxEmptyReads; idle++ {
		space := b.over[:] // shows, at the limit, whether r has ended
		full := int64(len(b.data)) >= limit
		if !full {
			if !b.makeRoom(int64(len(b.data)) + 1) {
				return total, errBudgetFull
			}
			space = b.data[len(b.data):min(int64(cap(b.data)), limit)]
		}
		n, err := r.Read(space)
		if n > 0 && full {
			return total, errOverLimit
		}
		if n > 0 {
			b.data = b.data[:len(b.data)+n] // panics if the reader lies
			total += int64(n)
			idle = -1
		}
		if err == io.EOF { // a wrapped EOF is a cut, not the end
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, io.ErrNoProgress
}

// free wipes the memory and gives it back. It may be called twice.
func (b *buffer) free() {
	// The whole capacity: redaction shortens data, and what it took out lies
	// behind the end.
	clear(b.data[:cap(b.data)])
	if b.pooled != nil {
		*b.pooled = b.data[:0]
		pools[classOf(b.held)-minClass].Put(b.pooled)
	}
	b.budget.Release(b.held)
	b.data, b.pooled, b.held, b.over = nil, nil, 0, [1]byte{}
}
