// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what the process and its children have run so far, from the kernel's
// CPU-time clock of each process: in nanoseconds, where /proc/<pid>/stat counts in ticks
// of ten milliseconds, and with the threads that have ended.
func cpuTime(pid int) (time.Duration, error) {
	pids, err := family(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		var at unix.Timespec
		// The clock's number as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a process.
		if err := unix.ClockGettime(int32(^pid<<3|2), &at); err != nil {
			return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(at.Nano())
	}
	return sum, nil
}

// machineTime is what all processors of the machine have been busy so far, and what they
// could have been.
func machineTime() (busy, all time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseMachineTime(string(text))
}

// parseMachineTime reads the line that begins with "cpu" of /proc/stat, which counts in
// hundredths of a second: user nice system idle iowait irq softirq steal, and guests,
// which are in user already.
func parseMachineTime(text string) (busy, all time.Duration, err error) {
	first, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		spent := time.Duration(ticks) * 10 * time.Millisecond
		all += spent
		if idle := i == 3 || i == 4; !idle {
			busy += spent
		}
	}
	return busy, all, nil
}

// residentSize is how much memory of the process and its children is resident, in bytes.
func residentSize(pid int) (int64, error) {
	pids, err := family(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		kib, err := statusValue(status, "VmRSS:")
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		sum += kib << 10
	}
	return sum, nil
}

// statusValue is a number in KiB out of /proc/<pid>/status.
func statusValue(status []byte, name string) (int64, error) {
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte(name)); found {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(rest)), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/<pid>/status has no %s", name)
}

// family is a process and its children: nginx works in these.
func family(pid int) ([]int, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for _, field := range strings.Fields(string(children)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}
