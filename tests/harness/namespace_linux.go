// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// NamespacesVariable set to "required" makes a machine fail the tests that need
// network namespaces where it would skip them.
const NamespacesVariable = "METAGUARD_NETNS"

// Inside runs work in a network namespace that `ip netns` made, and what work
// starts runs there, too.
func Inside(tb testing.TB, namespace string, work func()) {
	tb.Helper()
	enter := func(path string) {
		file, err := os.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			tb.Fatal(err)
		}
	}
	runtime.LockOSThread()
	// A copy of the thread's own, since the file names whichever thread opens it.
	home := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	own, err := os.Open(home)
	if err != nil {
		tb.Fatal(err)
	}
	defer own.Close()
	enter(filepath.Join("/run/netns", namespace))
	defer func() {
		if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
			tb.Fatal(err) // the thread is lost with the goroutine
		}
		runtime.UnlockOSThread()
	}()
	work()
}
