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

// print shows it in at most so many lines; 0 means in all.
func (e *explained) print(w io.Writer, input ast.Value, limit int) {
	var text strings.Builder
	e.verdict.print(&text, input)
	section(&text, "This broke it off", e.Broke)
	if e.Verdict == decision.Allow || len(e.Could) == 0 {
		section(&text, "These rules decided", e.Gave)
	}
	if len(e.Hides) > 0 {
		text.WriteString("\nWhat is hidden from the answer\n")
	}
	for _, hides := range e.Hides {
		text.WriteString("  " + hides.Name + "\n    " + hides.line() + "\n")
	}
	section(&text, "These rules could have allowed it", e.Could)
	if limit == 0 {
		section(&text, "These are about other requests", e.Others)
	} else if len(e.Others) > 0 {
		var names []string
		for _, other := range e.Others {
			names = append(names, cmp.Or(other.Code, other.Rule))
		}
		text.WriteString("\nAbout other requests: " + shorten(strings.Join(names, ", ")) + "\n")
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text.String(), "\n"), "\n")
	if limit > 0 && len(lines) > limit {
		hidden := len(lines) - limit + 1
		lines = append(lines[:limit-1], fmt.Sprintf("… and %s: --full shows them", plural(hidden, "more line")))
	}
	_, _ = fmt.Fprintln(w, strings.Join(lines, ""))
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
