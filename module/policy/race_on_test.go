// SPDX-License-Identifier: Apache-2.0

//go:build race

package policy

// raced tells that the race detector runs, which allocates by itself.
const raced = true
