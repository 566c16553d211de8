// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report is the result of a replay.
type report struct {
	judging
	// Decisions are all that were asked about.
	Decisions int `json:"decisions"`
	// Distinct are those that differ in more than their id and time.
	Distinct int `json:"distinct"`
	// DistinctAtLeast tells that there are more than were counted.
	DistinctAtLeast bool      `json:"distinct_at_least,omitempty"`
	First           time.Time `json:"first,omitzero"`
	Last            time.Time `json:"last,omitzero"`
	Unchanged       int       `json:"unchanged"`
	// Changed has all changes that count.
	Changed int `json:"changed"`
	// CodesOnly are answers that stay the same for another reason.
	CodesOnly int `json:"codes_only"`
	Accepted  int `json:"accepted"`
	// Open are the changes that count and are not accepted.
	Open       int `json:"open"`
	OpenGroups int `json:"open_groups"`
	// Skipped had no verdict of the policy to compare with.
	Skipped int `json:"skipped"`
	// Altered were masked, and may be judged otherwise for that alone.
	Altered         int          `json:"altered"`
	Unreadable      int          `json:"unreadable"`
	UnreadableLines []*lineError `json:"unreadable_lines,omitempty"`
	// Unused are accepted names that did not occur.
	Unused []string `json:"unused_accepts,omitempty"`
	Groups []*group `json:"groups"`

	distinct *distinct
}

// MarshalText names the line and what is wrong with it.
func (e *lineError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// count adds what one goroutine has counted.
func (rep *report) count(t *tally) {
	rep.Decisions += t.judged
	rep.Skipped += t.skipped
	rep.Altered += t.altered
	rep.Unchanged += t.changed[unchanged]
	rep.Changed += t.changed[verdictChanged] + t.changed[statusChanged] + t.changed[redactChanged]
	rep.CodesOnly += t.changed[codesChanged]
	if rep.First.IsZero() || !t.first.IsZero() && t.first.Before(rep.First) {
		rep.First = t.first
	}
	if t.last.After(rep.Last) {
		rep.Last = t.last
	}
}

// judge tells which changes are accepted, and which names are not needed.
func (rep *report) judge(accepted []string, codes bool) {
	rep.Unused = slices.Clone(accepted)
	for _, g := range rep.Groups {
		if _, g.Accepted = slices.BinarySearch(accepted, g.Name); g.Accepted {
			rep.Accepted += g.Count
			rep.Unused = slices.DeleteFunc(rep.Unused, func(name string) bool { return name == g.Name })
			continue
		}
		if g.Change != codesChanged || codes {
			rep.Open += g.Count
			rep.OpenGroups++
		}
	}
}

// warn tells of what may make the result less than it seems.
func (rep *report) warn(out io.Writer) {
	for _, name := range rep.Unused {
		_, _ = fmt.Fprintf(out, "Warning: the accepted change %s did not occur\n", name)
	}
	for _, line := range rep.UnreadableLines {
		_, _ = fmt.Fprintf(out, "Warning: unreadable line %v\n", line)
	}
	if more := rep.Unreadable - len(rep.UnreadableLines); more > 0 {
		_, _ = fmt.Fprintf(out, "Warning: %d more unreadable lines\n", more)
	}
	if rep.Altered > 0 {
		_, _ = fmt.Fprintf(out, "Warning: the log was masked in %s, which may change for that alone\n", plural(rep.Altered, "decision"))
	}
}
