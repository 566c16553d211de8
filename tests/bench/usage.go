// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"time"
)

// usage is how much of the machine was used up to now, and by this measurement.
type usage struct{ busy, all, own time.Duration }

func (b *bench) usage() (u usage, err error) {
	if u.busy, u.all, err = machineTime(); err != nil {
		return u, err
	}
	pids := []int{os.Getpid(), b.server.pid()}
	for _, s := range b.subjects {
		for _, p := range s.processes {
			pids = append(pids, p.pid())
		}
	}
	for _, pid := range pids {
		spent, err := cpuTime(pid)
		if err != nil {
			return u, err
		}
		u.own += spent
	}
	return u, nil
}

// busySince is the share of the machine that was used meanwhile, by whomever.
func (u usage) busySince(before usage) float64 {
	if u.all <= before.all {
		return 0
	}
	return float64(u.busy-before.busy) / float64(u.all-before.all)
}

// othersSince is the share of the machine that others used meanwhile. Anything but a
// little makes CPU times longer (caches, hyperthreads) and latencies useless.
func (u usage) othersSince(before usage) float64 {
	all := u.all - before.all
	if all <= 0 {
		return 0
	}
	return max(0, float64((u.busy-before.busy)-(u.own-before.own))/float64(all))
}
