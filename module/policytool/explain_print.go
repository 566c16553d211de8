// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// maxOwn is how many of the operator's own rules that failed are shown, the
// nearest first: the built-in ones, which say what grant is missing, come after
// them.
const maxOwn = 5

// print shows it in at most so many lines; 0 means in all.
func (e *explained) print(w io.Writer, input ast.Value, limit int) {
	var above, below strings.Builder
	e.verdict.print(&above, input)
	section(&above, "This broke it off", e.Broke)
	if e.Verdict == decision.Allow || len(e.Could) == 0 {
		section(&above, "These rules decided", e.Gave)
	}
	if len(e.Hides) > 0 {
		above.WriteString("\nWhat is hidden from the answer\n")
	}
	for _, hides := range e.Hides {
		above.WriteString("  " + hides.Name + "\n    " + hides.line() + "\n")
	}
	own, others := e.own()
	for _, rule := range others {
		rule.print(&below, "  ")
	}
	if e.Note != "" {
		below.WriteString("\n" + plain(e.Note) + "\n")
	}
	if limit == 0 {
		section(&below, "These are about other requests", e.Others)
	} else if len(e.Others) > 0 {
		var names []string
		for _, other := range e.Others {
			names = append(names, cmp.Or(other.Code, other.Rule))
		}
		below.WriteString("\nAbout other requests: " + shorten(strings.Join(names, ", ")) + "\n")
	}
	if len(e.Could) > 0 {
		above.WriteString("\nThese rules could have allowed it\n")
	}
	room := 0
	if limit > 0 {
		room = max(1, limit-strings.Count(above.String()+below.String(), "\n"))
	}
	text := above.String() + nearest(own, room) + below.String()
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	if limit > 0 && len(lines) > limit {
		hidden := len(lines) - limit + 1
		lines = append(lines[:limit-1], fmt.Sprintf("… and %s: --full shows them", plural(hidden, "more line")))
	}
	_, _ = fmt.Fprintln(w, strings.Join(lines, ""))
}

// own divides the rules that could have allowed it into the operator's and the
// built-in ones.
func (e *explained) own() (own, others []ruleOutcome) {
	for _, rule := range e.Could {
		if strings.HasPrefix(rule.Place, builtIn) {
			others = append(others, rule)
		} else {
			own = append(own, rule)
		}
	}
	return own, others
}

// nearest shows the first rules, as many as there is room for on so many lines,
// and how many more there are; 0 lines means all of them. Of the first at least
// the head is shown.
func nearest(own []ruleOutcome, room int) string {
	var shown []string
	for i := range own {
		var text strings.Builder
		own[i].print(&text, "  ")
		lines := strings.SplitAfter(text.String(), "\n")
		lines = lines[:len(lines)-1]
		more := len(own) - i
		left := room - len(shown)
		if more > 1 {
			left-- // for the line that counts the rest
		}
		switch {
		case room == 0:
		case i == 0 && len(lines) > left:
			lines = append(lines[:max(1, left-1)], "    … (--full)\n")
		case i > 0 && (i == maxOwn || len(lines) > left):
			shown = append(shown, fmt.Sprintf("  … and %d more of your rules (--full)\n", more))
			return strings.Join(shown, "")
		}
		shown = append(shown, lines...)
	}
	return strings.Join(shown, "")
}

func section(text *strings.Builder, title string, rules []ruleOutcome) {
	if len(rules) == 0 {
		return
	}
	text.WriteString("\n" + title + "\n")
	for _, rule := range rules {
		rule.print(text, "  ")
	}
}

// print shows a rule on one line, and each expression with its values below.
func (b *ruleOutcome) print(text *strings.Builder, indent string) {
	text.WriteString(indent + b.line() + "\n")
	for _, one := range b.Steps {
		word := "fails"
		if b.Holds {
			word = "holds"
		}
		_, _ = fmt.Fprintf(text, "%s  line %d %s  %s\n", indent, one.Line, word, shorten(one.Expr))
		if len(one.Values) > 0 {
			var values []string
			for _, v := range one.Values {
				values = append(values, v.Name+" = "+shorten(v.Value))
			}
			text.WriteString(indent + "    with " + strings.Join(values, ", ") + "\n")
		}
		for _, inner := range one.Inside {
			inner.print(text, indent+"    ")
		}
	}
}

func (b *ruleOutcome) line() string {
	line := b.Place + "  " + b.Rule
	if b.Title != "" {
		line += "  (" + b.Title + ")"
	}
	return line
}

// shorten keeps a value to a part of a line.
func shorten(value string) string {
	const most = 100
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return value
}
