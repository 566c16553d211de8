// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package module

// peekSupported: what has arrived on a connection is seen on Linux only, so that
// elsewhere each serves one request.
const peekSupported = false

func quiet(uintptr) bool { return false }
