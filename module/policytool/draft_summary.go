// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// summary tells what was drafted, what was left out and what no grant helps.
func (d *drafter) summary(to io.Writer, p *plan) error {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	if len(p.uses) > 0 {
		_, _ = fmt.Fprintln(out, "GRANT\tFOR\tSEEN\tCALLERS\tLAST\tDECISION")
	}
	for _, g := range p.grants() {
		row(out, g.name+"\t"+comment(g.String()), p.uses[g])
	}
	d.section(out, "LEFT OUT, --include drafts it", func(o *observed) string {
		if !o.leftOut || o.problem != "" {
			return ""
		}
		if o.hides {
			return o.needs[0] + ", where it is hidden now"
		}
		return strings.Join(o.needs, " ")
	})
	d.section(out, "NO GRANT HELPS", func(o *observed) string {
		if o.problem == "" {
			return ""
		}
		return comment(strings.Join(append([]string{o.problem}, o.rules...), " "))
	})
	if err := out.Flush(); err != nil {
		return err
	}
	return d.total(to, p)
}

// section lists requests that have the same reason to be in it.
func (d *drafter) section(out io.Writer, title string, reasonOf func(*observed) string) {
	requests := map[string][]*observed{}
	for _, o := range d.list() {
		if reason := reasonOf(o); reason != "" {
			requests[reason] = append(requests[reason], o)
		}
	}
	if len(requests) == 0 {
		return
	}
	_, _ = fmt.Fprintf(out, "\n%s\tSEEN\tCALLERS\tLAST\tDECISION\n", title)
	for _, reason := range slices.Sorted(maps.Keys(requests)) {
		row(out, reason, requests[reason])
	}
}

// row is one line of a table. An error stays in the writer.
func row(out io.Writer, name string, requests []*observed) {
	u := usesOf(requests)
	_, _ = fmt.Fprintf(out, "%s\t%d\t%d\t%s\t%s\n", name, u.count, len(u.callers), stamp(u.last), comment(u.id))
}

// total is the last line.
func (d *drafter) total(out io.Writer, p *plan) error {
	denied, helped, allowed := 0, 0, 0
	for _, o := range d.observed {
		switch {
		case o.hides:
		case len(o.needs) == 0 && o.problem == "":
			allowed += o.count
		case o.problem == "" && !o.leftOut:
			helped += o.count
			fallthrough
		default:
			denied += o.count
		}
	}
	text := fmt.Sprintf("%d decisions, %d denied: %d grants allow %d of them, and each is needed", d.seen, denied, len(p.uses), helped)
	if denied == 0 {
		text = fmt.Sprintf("%d decisions, none denied", d.seen)
	}
	if allowed > 0 {
		text += fmt.Sprintf("; %d more are allowed by the policy already", allowed)
	}
	if d.enforced > 0 {
		text += fmt.Sprintf("; %d were denied in earnest and are left out without --denied", d.enforced)
	}
	_, err := fmt.Fprintf(out, "\n%s\n", text)
	return err
}
