// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The exit codes.
const (
	exitClean    = 0 // nothing worse than notes
	exitFindings = 1 // problems or warnings
	exitUnable   = 2 // something could not be looked at, and nothing was found
)

// look notes what was looked at.
func (r *Report) look(what string) { r.Looked = append(r.Looked, what) }

// sort puts the worst first, and leaves the order of the table otherwise.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
}

// exitCode is what the command ends with.
func (r *Report) exitCode() int {
	switch {
	case slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note }):
		return exitFindings
	case slices.ContainsFunc(r.Unchecked, func(u Unchecked) bool { return !u.Chosen }):
		return exitUnable
	}
	return exitClean
}

// writeJSON prints the report for machines.
func (r *Report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// write prints the report for people: findings by what they are about, the worst
// first, then what was not looked at, then one line of summary.
func (r *Report) write(w io.Writer) error {
	var b strings.Builder
	for _, looked := range r.Looked {
		fmt.Fprintf(&b, "looked at %s\n", printable(looked))
	}
	if len(r.Looked) > 0 {
		b.WriteByte('\n')
	}
	for start := 0; start < len(r.Findings); {
		first := r.Findings[start]
		end := start
		for end < len(r.Findings) && r.Findings[end].ID == first.ID {
			end++
		}
		fmt.Fprintf(&b, "%s %s\n", strings.ToUpper(string(first.Severity)), first.ID)
		for _, f := range r.Findings[start:end] {
			fmt.Fprintf(&b, "  %s: %s\n", printable(f.Where), printable(f.What))
		}
		fmt.Fprintf(&b, "  why: %s\n  do:  %s\n\n", first.Why, first.Do)
		start = end
	}
	r.writeUnchecked(&b)
	count := map[Severity]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
	}
	unable := 0
	for _, u := range r.Unchecked {
		if !u.Chosen {
			unable++
		}
	}
	fmt.Fprintf(&b, "%s, %s, %s; %d could not be checked; known vulnerabilities as of %s\n",
		number(count[Problem], "problem"), number(count[Warning], "warning"), number(count[Note], "note"), unable, r.AdvisoriesAsOf)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeUnchecked has one line for each reason: many checks need --live.
func (r *Report) writeUnchecked(b *strings.Builder) {
	var reasons []string
	ids := map[string][]string{}
	for _, u := range r.Unchecked {
		reason := u.Why
		if u.Where != "" {
			reason = u.Where + ": " + u.Why
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
		if !slices.Contains(ids[reason], u.ID) {
			ids[reason] = append(ids[reason], u.ID)
		}
	}
	for _, reason := range reasons {
		fmt.Fprintf(b, "not checked: %s (%s)\n", strings.Join(ids[reason], " "), printable(reason))
	}
	if len(reasons) > 0 {
		b.WriteByte('\n')
	}
}

func number(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// printable keeps control bytes, which a configuration or a file name may hold,
// from a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
