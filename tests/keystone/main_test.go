// SPDX-License-Identifier: Apache-2.0

// Package keystone_test runs the built Metaguard with `identify keystone`
// against the real OpenStack Keystone. keystone.sh beside it sets that up.
package keystone_test

import (
	"os/exec"
	"testing"

	_ "github.com/metaguard/metaguard/module" // what the binary is made of: an edit there makes earlier results stale
	"github.com/metaguard/metaguard/tests/harness"
)

// servers are all that keystone.sh started.
var servers = &harness.Installed{
	Suite: "tests/keystone", What: "Keystone", Variable: "METAGUARD_KEYSTONE",
	Script: "keystone.sh", HomeVariable: "KEYSTONE_HOME", Home: "metaguard-keystone",
	Stop: func(state string) *exec.Cmd { return exec.Command("./keystone.sh", "stop", state) },
}

func TestMain(m *testing.M) { servers.Main(m) }

// need skips a test where the real Keystone is not there.
func need(tb testing.TB) {
	tb.Helper()
	servers.Need(tb)
}
