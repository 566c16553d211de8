// SPDX-License-Identifier: Apache-2.0

// Package clients_test runs the metadata clients that Debian ships, unmodified,
// against the built Metaguard in front of a real or a faithfully scripted server.
// clients.sh beside it sets them up.
package clients_test

import (
	"errors"
	"os/exec"
	"testing"

	_ "github.com/metaguard/metaguard/module" // what the binary is made of: an edit there makes earlier results stale
	"github.com/metaguard/metaguard/tests/harness"
)

var clients = &harness.Installed{
	Suite: "tests/clients", What: "cloud-init, ec2metadata and wget", Variable: "METAGUARD_CLIENTS",
	Script: "clients.sh", HomeVariable: "CLIENTS_HOME", Home: "metaguard-clients",
}

func TestMain(m *testing.M) { clients.Main(m) }

// need skips a test where the clients are not there.
func need(tb testing.TB) {
	tb.Helper()
	clients.Need(tb)
}

// run runs a client, or a script beside this one, and gives what it prints.
func run(tb testing.TB, program string, arguments ...string) string {
	tb.Helper()
	need(tb)
	command := exec.CommandContext(tb.Context(), "./clients.sh", append([]string{"run", program}, arguments...)...)
	output, err := command.Output()
	if err != nil {
		var stderr []byte
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			stderr = exit.Stderr
		}
		tb.Fatalf("%s %q: %v\n%s%s", program, arguments, err, output, stderr)
	}
	return string(output)
}
