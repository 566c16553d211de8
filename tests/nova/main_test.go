// SPDX-License-Identifier: Apache-2.0

// Package nova_test runs the built Metaguard in front of the real OpenStack
// Nova metadata server, under both web servers that it is run with, and behind
// the real Neutron metadata agent. nova.sh beside it sets them up.
package nova_test

import (
	"os"
	"os/exec"
	"testing"

	_ "github.com/metaguard/metaguard/module" // what the binary is made of: an edit there makes earlier results stale
	"github.com/metaguard/metaguard/tests/harness"
)

// servers are the real ones, and all that nova.sh started of them.
var servers = &harness.Installed{
	Suite: "tests/nova", What: "Nova and Neutron's agent", Variable: "METAGUARD_NOVA",
	Script: "nova.sh", HomeVariable: "NOVA_HOME", Home: "metaguard-nova", Environment: []string{seedVariable},
	Stop: func(state string) *exec.Cmd {
		command := exec.Command("./nova.sh", "stop")
		command.Env = append(os.Environ(), "NOVA_STATE="+state)
		return command
	},
}

func TestMain(m *testing.M) { servers.Main(m) }

// need skips a test where the real servers are not there.
func need(tb testing.TB) {
	tb.Helper()
	servers.Need(tb)
}
