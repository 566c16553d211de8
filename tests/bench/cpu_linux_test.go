// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestMachineTime(t *testing.T) {
	busy, all, err := parseMachineTime("cpu  100 10 20 500 30 5 6 7 90 0\ncpu0 1 2 3\n")
	if err != nil || busy != 1480*time.Millisecond || all != 6780*time.Millisecond {
		t.Errorf("%v of %v, %v", busy, all, err)
	}
	for _, bad := range []string{"", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2", "cpu a b c d e f g h"} {
		if _, _, err := parseMachineTime(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	if _, _, err := machineTime(); err != nil {
		t.Error(err)
	}
	before := usage{busy: time.Second, all: 10 * time.Second, own: time.Second}
	after := usage{busy: 6 * time.Second, all: 20 * time.Second, own: 5 * time.Second}
	if share := after.othersSince(before); share < 0.0999 || share > 0.1001 {
		t.Errorf("%v", share)
	}
}

func TestStatusValue(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    1234 kB\n")
	if got, err := statusValue(status, "VmRSS:"); err != nil || got != 1234 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := statusValue(status, "VmSwap:"); err == nil {
		t.Error("what is not there has a value")
	}
}
