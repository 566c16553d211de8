// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/metaguard/metaguard/module/pace"

// pageBits is how many places a page has, as a power of two.
const pageBits = 14

// places is a long list in pages of 64 KiB: one that grows in one piece, or begins with
// all of its room, has the system find millions of bytes at one time, however gently it
// is filled.
type places [][]uint32

// newPlaces is a list of n zeros, made at a pace.
func newPlaces(n int, p *pace.Pace) (list places) {
	for ; n > 0; n -= 1 << pageBits {
		list = append(list, make([]uint32, min(n, 1<<pageBits)))
		p.Look()
	}
	return list
}

func (p places) at(i int) *uint32 { return &p[i>>pageBits][i&(1<<pageBits-1)] }

// add gives the list with one place more.
func (p places) add(place uint32) places {
	if last := len(p) - 1; last >= 0 && len(p[last]) < 1<<pageBits {
		p[last] = append(p[last], place)
		return p
	}
	room := 1 << pageBits
	if len(p) == 0 {
		room = 2 * tableFrom // most tables are of a few thousand members
	}
	return append(p, append(make([]uint32, 0, room), place))
}

// count is how many places there are.
func (p places) count() int {
	if len(p) == 0 {
		return 0
	}
	return (len(p)-1)<<pageBits + len(p[len(p)-1])
}
