// SPDX-License-Identifier: Apache-2.0

//go:build race

package identity

// raceEnabled: the race detector allocates by itself, and empties pools at random.
const raceEnabled = true
