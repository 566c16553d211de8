// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"os"
	"testing"
)

// long skips a test that takes minutes, unless METAGUARD_LONG=required asks for
// it, as `.ci/run --long` does. Such tests are called TestLong….
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("METAGUARD_LONG") != "required" {
		t.Skip("left out: this takes minutes; METAGUARD_LONG=required runs it")
	}
}
