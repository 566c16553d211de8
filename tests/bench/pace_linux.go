// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pacer sleeps on a thread of its own, by the kernel's clock: Go's timers are up to a
// millisecond late where nothing else goes on.
type pacer struct{ slack int }

func newPacer() *pacer {
	runtime.LockOSThread()
	slack, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // nanosecond; without it 50 us
	return &pacer{slack: slack}
}

// until sleeps until then, or not at all if it is over.
func (*pacer) until(then time.Time) {
	for {
		left := time.Until(then)
		if left <= 0 {
			return
		}
		span := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &span, nil) // a signal wakes it: again
	}
}

// close gives the thread back as it was. It must not end: what it started ends with it.
func (p *pacer) close() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(p.slack), 0, 0, 0)
	runtime.UnlockOSThread()
}
