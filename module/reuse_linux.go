// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"syscall"
)

// peekSupported tells that what has arrived on a connection can be seen.
const peekSupported = true

// quiet tells whether nothing has arrived on a socket that was not read, neither
// bytes nor its end.
func quiet(fd uintptr) bool {
	var one [1]byte
	_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return errors.Is(err, syscall.EAGAIN)
}
