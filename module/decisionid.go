// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
)

// newDecisionID is a random UUID (RFC 9562, section 5.4). Ids are no secret: Go's own
// generator, which the system seeds, is as good as asking the system for each, at a tenth
// of the cost.
func newDecisionID() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // no secret
	id[6] = id[6]&0x0f | 0x40                            // version 4
	id[8] = id[8]&0x3f | 0x80                            // and its variant
	return id.String()
}
