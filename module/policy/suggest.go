// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// didYouMean gives a hint that names the known word nearest to name, or "" if
// none is near.
func didYouMean(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return ""
}

// nearest is the known word that name most probably stands for, or "".
func nearest(name string, known []string) string {
	// A third of the letters may differ, and never more than three: beyond
	// that a suggestion confuses more than it helps.
	limit := min(3, max(1, len(name)/3))
	best := ""
	for _, word := range known {
		if strings.EqualFold(word, name) {
			return word
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(name), word); d <= limit {
			if best == "" || d < levenshtein.ComputeDistance(strings.ToLower(name), best) {
				best = word
			}
		}
	}
	return best
}
