// SPDX-License-Identifier: Apache-2.0

// Package keystone_test runs the built Metaguard with `identify keystone`
// against the real OpenStack Keystone. keystone.sh beside it sets that up.
package keystone_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	_ "github.com/metaguard/metaguard/module" // what the binary is made of: an edit there makes earlier results stale
	"github.com/metaguard/metaguard/tests/harness"
)

// leftOut says why the real Keystone is not there; empty means that it is.
var leftOut string

func TestMain(m *testing.M) {
	flag.Parse()
	leftOut = missing()
	if leftOut != "" {
		what := "tests/keystone: left out: all tests against the real Keystone: " + leftOut
		if required() {
			fmt.Fprintln(os.Stderr, what)
			os.Exit(1)
		}
		fmt.Println(what)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		servers.stop()
		os.Exit(1)
	}()
	code := m.Run()
	servers.stop()
	if leftOut == "" {
		harness.RemoveBinary()
	}
	os.Exit(code)
}

// required tells whether a missing Keystone is a failure. METAGUARD_KEYSTONE is
// required, off, or empty for "if it is installed"; CI=true requires it, too.
func required() bool {
	setting := os.Getenv("METAGUARD_KEYSTONE")
	return setting == "required" || (os.Getenv("CI") == "true" && setting != "off" && !testing.Short())
}

func missing() string {
	switch {
	case os.Getenv("METAGUARD_KEYSTONE") == "off":
		return "METAGUARD_KEYSTONE is off"
	case testing.Short() && os.Getenv("METAGUARD_KEYSTONE") != "required":
		return "-short"
	}
	home := os.Getenv("KEYSTONE_HOME")
	if home == "" {
		home = filepath.Join(os.TempDir(), "metaguard-keystone")
	}
	if _, err := os.Stat(filepath.Join(home, "root", ".done")); err != nil {
		return "not installed; `tests/keystone/keystone.sh install` does that, on Debian 12"
	}
	if output, err := exec.Command("/usr/bin/python3", "--version").CombinedOutput(); err != nil {
		return fmt.Sprintf("no Python: %v %s", err, output)
	}
	return ""
}

// need skips a test where the real Keystone is not there.
func need(tb testing.TB) {
	tb.Helper()
	// Said once more within a test, so that go test takes no earlier result
	// for one under other settings.
	for _, name := range []string{"METAGUARD_KEYSTONE", "CI", "KEYSTONE_HOME", "TMPDIR"} {
		_ = os.Getenv(name)
	}
	if leftOut != "" {
		tb.Skip("left out: " + leftOut)
	}
}

// servers are all that keystone.sh started, to be ended when the tests are done.
var servers registry

type registry struct {
	mu     sync.Mutex
	states []string
}

func (r *registry) add(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, state)
}

func (r *registry) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all sync.WaitGroup
	for _, state := range r.states {
		all.Go(func() {
			if output, err := exec.Command("./keystone.sh", "stop", state).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "keystone.sh stop: %v\n%s", err, output)
			}
			_ = os.RemoveAll(state)
		})
	}
	all.Wait()
	r.states = nil
}
