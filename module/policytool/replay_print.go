// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// print writes a report for people, with the first limit groups, or all.
func (rep *report) print(to io.Writer, limit int) error {
	out := bufio.NewWriter(to)
	_ = rep.judging.print(out) // an error stays in the buffered writer
	for i, g := range rep.Groups {
		if limit > 0 && i == limit {
			_, _ = fmt.Fprintf(out, "… and %d more groups (--limit 0 shows all)\n\n", len(rep.Groups)-limit)
			break
		}
		g.write(out)
	}
	atLeast := ""
	if rep.DistinctAtLeast {
		atLeast = "more than "
	}
	_, _ = fmt.Fprintf(out, "%d decisions (%s%d distinct): %d unchanged, %d changed, %d with other codes only, %s\n",
		rep.Decisions, atLeast, rep.Distinct, rep.Unchanged, rep.Changed, rep.CodesOnly, plural(rep.Unreadable, "unreadable line"))
	if rep.Skipped > 0 {
		_, _ = fmt.Fprintf(out, "%s left out: no policy decided\n", plural(rep.Skipped, "event"))
	}
	if rep.Accepted > 0 {
		_, _ = fmt.Fprintf(out, "%s accepted\n", plural(rep.Accepted, "change"))
	}
	return out.Flush()
}

// write writes one group. Errors stay in the buffered writer.
func (g *group) write(out *bufio.Writer) {
	row := func(name string, words ...string) {
		if value := strings.TrimSpace(strings.Join(words, "  ")); value != "" {
			_, _ = fmt.Fprintf(out, "  %-8s %s\n", name, value)
		}
	}
	what := g.Old + " -> " + g.New
	if g.Change == redactChanged || g.Change == codesChanged {
		what = g.Change.String()
	}
	accepted := ""
	if g.Accepted {
		accepted = "  (accepted)"
	}
	_, _ = fmt.Fprintf(out, "%s  %s  %s%s\n", g.Resource, what, plural(g.Count, "decision"), accepted)
	row("caller", g.Caller)
	row("when", span(g.First, g.Last))
	row("hides", strings.Join(g.Hides, " "))
	row("shows", strings.Join(g.Shows, " "))
	row("old", strings.Join(g.OldCodes, " "), strings.Join(g.OldRules, " "))
	row("new", strings.Join(g.NewCodes, " "), strings.Join(g.NewRules, " "))
	ids := make([]string, len(g.Samples))
	for i, s := range g.Samples {
		ids[i] = s.ID
	}
	row("error", strings.ReplaceAll(g.Samples[0].Error, "\n", " "))
	row("ids", strings.Join(ids, " "))
	row("name", g.Name)
	_, _ = out.WriteString("\n")
}

// span is when something was seen, to the second.
func span(first, last time.Time) string {
	from, to := first.UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339)
	if from == to {
		return from
	}
	return from + " to " + to
}
