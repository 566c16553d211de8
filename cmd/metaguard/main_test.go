// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"metaguard": main})
}

// What the command line has, and has not, as it is written in testdata.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

// The version names the revision, whether Go knows one or not.
func TestVersion(t *testing.T) {
	build := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}
	if got := version(build); got != "Metaguard v1.2.3 revision unknown, Caddy" {
		t.Error(got)
	}
	build.Settings = []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123abcd"}}
	if got := version(build); got != "Metaguard v1.2.3 revision 0123abcd, Caddy" {
		t.Error(got)
	}
}
