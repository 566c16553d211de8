// SPDX-License-Identifier: Apache-2.0

//go:build !race

package module

// raceEnabled: the race detector allocates by itself, and empties pools at random.
const raceEnabled = false
