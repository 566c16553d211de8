// SPDX-License-Identifier: Apache-2.0

package harness

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
)

// Installed is foreign software that a script unpacks and runs for a package of
// tests. Where it is not there the tests are left out by name, or fail.
type Installed struct {
	// Suite is the package's folder, and What what it is tested with, in words.
	Suite, What string
	// Variable names the setting: `required`, `off`, or empty for "if it is
	// installed". CI=true requires it, too.
	Variable string
	// Script is the script's name in the folder.
	Script string
	// HomeVariable says where it unpacks to, by default Home in the temporary
	// folder.
	HomeVariable, Home string
	// Environment lists further variables that the tests read.
	Environment []string
	// Stop ends what was started with a state.
	Stop func(state string) *exec.Cmd

	leftOut string // why it is not there; empty: it is
	mu      sync.Mutex
	states  []string
}

// Main is a package's TestMain.
func (i *Installed) Main(m *testing.M) {
	flag.Parse()
	i.leftOut = i.missing()
	if i.leftOut != "" {
		what := i.Suite + ": left out: all tests against the real " + i.What + ": " + i.leftOut
		if i.required() {
			fmt.Fprintln(os.Stderr, what)
			os.Exit(1)
		}
		fmt.Println(what)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		i.stop()
		os.Exit(1)
	}()
	code := m.Run()
	i.stop()
	if i.leftOut == "" {
		RemoveBinary()
	}
	os.Exit(code)
}

func (i *Installed) required() bool {
	setting := os.Getenv(i.Variable)
	return setting == "required" || (os.Getenv("CI") == "true" && setting != "off" && !testing.Short())
}

func (i *Installed) missing() string {
	switch {
	case os.Getenv(i.Variable) == "off":
		return i.Variable + " is off"
	case testing.Short() && os.Getenv(i.Variable) != "required":
		return "-short"
	}
	home := os.Getenv(i.HomeVariable)
	if home == "" {
		home = filepath.Join(os.TempDir(), i.Home)
	}
	if _, err := os.Stat(filepath.Join(home, "root", ".done")); err != nil {
		return fmt.Sprintf("not installed; `%s/%s install` does that, on Debian 12", i.Suite, i.Script)
	}
	if output, err := exec.Command("/usr/bin/python3", "--version").CombinedOutput(); err != nil {
		return fmt.Sprintf("no Python: %v %s", err, output)
	}
	return ""
}

// Need skips a test where the software is not there.
func (i *Installed) Need(tb testing.TB) {
	tb.Helper()
	// Said once more within a test, so that go test takes no earlier result
	// for one under other settings.
	for _, name := range append([]string{i.Variable, "CI", i.HomeVariable, "TMPDIR"}, i.Environment...) {
		_ = os.Getenv(name)
	}
	if i.leftOut != "" {
		tb.Skip("left out: " + i.leftOut)
	}
}

// Started remembers the state of something that was started, to be ended when
// the tests are done.
func (i *Installed) Started(state string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.states = append(i.states, state)
}

func (i *Installed) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all sync.WaitGroup
	for _, state := range i.states {
		all.Go(func() {
			if output, err := i.Stop(state).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "%s stop: %v\n%s", i.Script, err, output)
			}
			_ = os.RemoveAll(state)
		})
	}
	all.Wait()
	i.states = nil
}
