// SPDX-License-Identifier: Apache-2.0

//go:build race

package response

const raceEnabled = true
