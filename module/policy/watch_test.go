// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"
)

// TestSettling plays polls: each letter is what the files look like, and a
// capital says that they are to be loaded then.
func TestSettling(t *testing.T) {
	for name, polls := range map[string]string{
		"at first":           "aAaaa",
		"an edit":            "aAabBbb",
		"an edit in parts":   "aAabcCcc",
		"never at rest":      "aAabcDefGhiJ",
		"there and back":     "aAabaabBb",
		"back to a bad edit": "aAabBaA",
	} {
		t.Run(name, func(t *testing.T) {
			var w settling
			for i, poll := range polls {
				want := poll < 'a'
				if want {
					poll += 'a' - 'A'
				}
				if got := w.due(string(poll)); got != want {
					t.Fatalf("poll %d of %s: %v", i, polls, got)
				}
			}
		})
	}
}

// TestEditsAreLiveWithinTwoSeconds is arithmetic: an edit that comes just after
// a poll is loaded at the third poll from there at the latest.
func TestEditsAreLiveWithinTwoSeconds(t *testing.T) {
	if latest := (maxUnsettled + 1) * defaultInterval; latest > 1500*time.Millisecond {
		t.Errorf("an edit is loaded after %v at the latest, which leaves too little to compile it", latest)
	}
}
