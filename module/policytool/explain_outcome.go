// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// ruleOutcome says of one rule why it held, or where it failed.
type ruleOutcome struct {
	Rule string `json:"rule"`
	// Code is what the rule gives where that is a constant.
	Code  string `json:"code,omitempty"`
	Title string `json:"title,omitempty"`
	Place string `json:"place"`
	Holds bool   `json:"holds"`
	// Steps are all expressions of a rule that held, or the one that did not.
	Steps []exprOutcome `json:"steps,omitempty"`

	passed int // how many expressions held before one failed
}

// exprOutcome is one expression, what stood for its names, and the rules that it
// asked.
type exprOutcome struct {
	Line   int           `json:"line"`
	Expr   string        `json:"expression"`
	Values []binding     `json:"values,omitempty"`
	Inside []ruleOutcome `json:"inside,omitempty"`
}

// binding is a name, or an expression inside another one, and its value.
type binding struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// maxDepth bounds how deep rules are followed into rules.
const maxDepth = 8

// held says why a rule held.
func (t *trace) held(f *frame, depth int) ruleOutcome {
	b := outcomeOf(f.rule)
	b.Holds = true
	all := expressions(f.steps)
	for _, group := range all {
		base := group[0].expr.BaseCogeneratedExpr()
		text := source(base.Loc())
		if takenOut(base.Loc(), f.rule, all) {
			continue
		}
		one := exprOutcome{Line: base.Loc().Row, Expr: text}
		for _, s := range group {
			one.Values = append(one.Values, bindings(s.expr, f.exit)...)
			if base.Negated || depth >= maxDepth {
				continue
			}
			for _, inner := range t.rulesOf(s) {
				if inner.exit != nil && len(expressions(inner.steps)) > 0 {
					one.Inside = appendNew(one.Inside, t.held(inner, depth+1))
				}
			}
		}
		one.Values = slices.DeleteFunc(tidy(one.Values, text), func(v binding) bool {
			return text == v.Name+" == "+v.Value // says it all
		})
		b.Steps = append(b.Steps, one)
	}
	return b
}

// takenOut tells an expression that the compiler has taken out of another one
// or out of the rule's head, which says it already.
func takenOut(loc *ast.Location, rule *ast.Rule, all [][]*step) bool {
	within := func(other *ast.Location) bool {
		return other != nil && other.Offset <= loc.Offset && loc.Offset+len(loc.Text) <= other.Offset+len(other.Text)
	}
	for _, term := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if term != nil && within(term.Loc()) {
			return true
		}
	}
	return slices.ContainsFunc(all, func(group []*step) bool {
		other := group[0].expr.BaseCogeneratedExpr().Loc()
		return other != nil && len(other.Text) > len(loc.Text) && within(other)
	})
}

// failed says where a rule failed.
func (t *trace) failed(f *frame, depth int) ruleOutcome {
	b := outcomeOf(f.rule)
	at := f.failure()
	if at == nil {
		return b
	}
	base := at.expr.BaseCogeneratedExpr()
	b.passed = slices.IndexFunc(expressions(f.steps), func(group []*step) bool {
		return group[0].expr.BaseCogeneratedExpr() == base
	})
	one := exprOutcome{Line: base.Loc().Row, Expr: source(base.Loc())}
	for _, s := range f.steps {
		if s.expr.BaseCogeneratedExpr() != base {
			continue
		}
		one.Values = append(one.Values, bindings(s.expr, at.event)...)
		for _, body := range s.inside {
			if inner := body.failure(); body.rule == nil && inner != nil && !base.Negated {
				one.Values = append(one.Values, bindings(inner.expr, inner.event)...)
			}
		}
		if depth >= maxDepth {
			continue
		}
		for _, inner := range t.rulesOf(s) {
			switch {
			case base.Negated && inner.exit != nil:
				one.Inside = appendNew(one.Inside, t.held(inner, depth+1))
			case !base.Negated && inner.failure() != nil:
				one.Inside = appendNew(one.Inside, t.failed(inner, depth+1))
			}
		}
	}
	one.Values = tidy(one.Values, one.Expr)
	b.Steps = []exprOutcome{one}
	return b
}

// appendNew adds b unless it says what is there already.
func appendNew(list []ruleOutcome, b ruleOutcome) []ruleOutcome {
	if slices.ContainsFunc(list, func(other ruleOutcome) bool { return other.Place == b.Place && other.Holds == b.Holds }) {
		return list
	}
	return append(list, b)
}

// expressions puts the steps together that the compiler made of one expression, in
// the order of the source.
func expressions(steps []*step) [][]*step {
	sorted := slices.Clone(steps)
	slices.SortStableFunc(sorted, func(a, b *step) int { return cmp.Compare(a.expr.Index, b.expr.Index) })
	var grouped [][]*step
	of := map[*ast.Expr]int{}
	for _, s := range sorted {
		base := s.expr.BaseCogeneratedExpr()
		if text := source(base.Loc()); text == "" || text == "true" || strings.HasPrefix(text, "print(") {
			continue
		}
		i, ok := of[base]
		if !ok {
			i = len(grouped)
			of[base] = i
			grouped = append(grouped, nil)
		}
		grouped[i] = append(grouped[i], s)
	}
	return grouped
}

// bindings are the values of the names in an expression, as they stood at an
// event. The compiler puts names of its own in place of what is inside a call;
// these are shown as the source has it.
func bindings(expr *ast.Expr, event *topdown.Event) []binding {
	if event == nil {
		return nil
	}
	var found []binding
	input := event.Input()
	ast.WalkTerms(expr, func(term *ast.Term) bool {
		switch value := term.Value.(type) {
		case ast.Var:
			name := source(term.Loc())
			if bound := event.Locals.Get(value); bound != nil && name != "" && name != "_" {
				found = append(found, binding{name, bound.String()})
			}
		case ast.Ref:
			if !value.HasPrefix(ast.InputRootRef) || input == nil {
				return false
			}
			path, ok := ground(value[1:], event)
			if !ok {
				return false
			}
			text := "undefined"
			if at, err := input.Value.Find(path); err == nil {
				text = at.String()
			}
			found = append(found, binding{append(ast.Ref{value[0]}, path...).String(), text})
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			return true // its names are its own
		}
		return false
	})
	return found
}

// ground puts values in place of names in a path, up to the first name that
// has none.
func ground(path ast.Ref, event *topdown.Event) (ast.Ref, bool) {
	var found ast.Ref
	for _, term := range path {
		if name, ok := term.Value.(ast.Var); ok {
			bound := event.Locals.Get(name)
			if bound == nil {
				break
			}
			term = ast.NewTerm(bound)
		}
		found = append(found, term)
	}
	return found, len(found) > 0
}

// tidy drops values that say nothing: repeated ones, and that of the whole
// expression.
func tidy(values []binding, whole string) []binding {
	var kept []binding
	for _, v := range values {
		if v.Name != whole && v.Name != v.Value && !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// outcomeOf names a rule: its head as the source has it, its title and code.
func outcomeOf(rule *ast.Rule) ruleOutcome {
	head, _, _ := strings.Cut(string(rule.Loc().Text), "\n")
	head, _, _ = strings.Cut(head, " if ")
	head = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(head), "{"))
	head = strings.TrimSpace(strings.TrimSuffix(head, " if"))
	if rest, ok := strings.CutPrefix(strings.TrimLeft(head, "} "), "else"); ok {
		head = rule.Head.Name.String() + " else" + rest
	}
	b := ruleOutcome{Rule: head, Place: placeOf(rule.Loc())}
	for _, note := range rule.Annotations {
		if note.Scope == "rule" {
			b.Title = note.Title
		}
	}
	for _, term := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if term == nil {
			continue
		}
		if code, ok := term.Value.(ast.String); ok {
			b.Code = string(code)
		}
	}
	return b
}

// source is the text of a place on one line.
func source(loc *ast.Location) string {
	if loc == nil {
		return ""
	}
	return strings.Join(strings.Fields(string(loc.Text)), " ")
}

func placeOf(loc *ast.Location) string {
	if loc == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", loc.File, loc.Row)
}
