// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"crypto/rand"
	"sync"

	"github.com/google/uuid"
)

// idsPerRead is for how many decision ids the system is asked for random bytes at
// one time.
const idsPerRead = 64

// randomBytes are readers of the system's random bytes that ask it rarely: to ask
// it for every id costs more than all else of an id. Each is one goroutine's
// while it has it, and no byte is used twice. What is left in one that the garbage
// collector takes is lost.
var randomBytes = sync.Pool{New: func() any { return bufio.NewReaderSize(rand.Reader, idsPerRead*len(uuid.UUID{})) }}

// newDecisionID is a random UUID. Ids are no secret.
func newDecisionID() string {
	random := randomBytes.Get().(*bufio.Reader)
	id := uuid.Must(uuid.NewRandomFromReader(random)) // the system's reader has no errors
	randomBytes.Put(random)
	return id.String()
}
