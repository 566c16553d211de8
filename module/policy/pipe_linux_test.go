// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipe: a pipe would keep the reader waiting for ever.
func TestPipe(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	must(t, syscall.Mkfifo(filepath.Join(root, "x.rego"), 0o600))
	_, err := New(t.Context(), Config{Paths: []string{root}})
	if got := findingsOf(t, err); len(got) != 1 || got[0].Code != CodePathUnreadable {
		t.Errorf("got %v", err)
	}
}
