// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// trace is the tree of evaluations that OPA's events tell of.
type trace struct {
	frames []*frame // in the order in which they began
	// known has the first evaluation of each rule that asked about the request
	// itself. OPA evaluates most rules once; later steps take the value.
	known map[*ast.Rule]*frame
}

// frame is one evaluation of a rule's body, or of a body inside an expression,
// which has no rule: of a not, an every, a comprehension.
type frame struct {
	rule  *ast.Rule
	above *frame
	steps []*step
	now   *step
	// exit is the event with which the body first held; nil if it never did.
	exit *topdown.Event
	// gave are the members that the rule added to a set.
	gave []ast.Value
}

// step is one expression of a body, and the evaluations that it began.
type step struct {
	expr   *ast.Expr
	event  *topdown.Event // the last
	failed bool
	inside []*frame
}

// readTrace makes a tree of events.
func readTrace(events []*topdown.Event) *trace {
	t := &trace{known: map[*ast.Rule]*frame{}}
	byQuery := map[uint64]*frame{}
	for _, event := range events {
		f := byQuery[event.QueryID]
		if f == nil {
			f = &frame{above: byQuery[event.ParentID]}
			byQuery[event.QueryID] = f
			t.frames = append(t.frames, f)
			if f.above != nil && f.above.now != nil {
				f.above.now.inside = append(f.above.now.inside, f)
			}
		}
		switch node := event.Node.(type) {
		case *ast.Rule:
			if event.Op == topdown.EnterOp {
				f.rule = node
				if t.known[node] == nil && event.Input() == events[0].Input() {
					t.known[node] = f
				}
			}
			if event.Op == topdown.ExitOp {
				f.exit = cmp.Or(f.exit, event)
				f.give(node, event)
			}
		case ast.Body:
			if event.Op == topdown.ExitOp && f.exit == nil {
				f.exit = event
			}
		case *ast.Expr:
			if event.Op != topdown.UnifyOp && event.Op != topdown.IndexOp {
				f.take(node, event)
			}
		}
	}
	return t
}

// give notes the member that a rule has added to a set.
func (f *frame) give(rule *ast.Rule, event *topdown.Event) {
	if rule.Head.Key == nil {
		return
	}
	member := rule.Head.Key.Value
	if name, ok := member.(ast.Var); ok {
		member = event.Locals.Get(name)
	}
	if member != nil {
		f.gave = append(f.gave, member)
	}
}

// take notes an event of an expression.
func (f *frame) take(expr *ast.Expr, event *topdown.Event) {
	i := slices.IndexFunc(f.steps, func(s *step) bool { return s.expr == expr })
	if i < 0 {
		i = len(f.steps)
		f.steps = append(f.steps, &step{expr: expr})
	}
	f.now = f.steps[i]
	if event.Op != topdown.RedoOp {
		f.now.event = event
	}
	f.now.failed = f.now.failed || event.Op == topdown.FailOp
}

// failure is the expression that a body got to and not past; nil if it held.
func (f *frame) failure() *step {
	if f.exit != nil {
		return nil
	}
	var furthest *step
	for _, s := range f.steps {
		if s.failed && (furthest == nil || s.expr.Index >= furthest.expr.Index) {
			furthest = s
		}
	}
	return furthest
}

// rules lists the evaluations of rules that a step began, those in the bodies
// inside it too.
func (s *step) rules() []*frame {
	var found []*frame
	for _, f := range s.inside {
		if f.rule != nil {
			found = append(found, f)
			continue
		}
		for _, inner := range f.steps {
			found = append(found, inner.rules()...)
		}
	}
	return found
}

// rulesOf is rules, with those that were evaluated before the step took their
// value.
func (t *trace) rulesOf(s *step) []*frame {
	found := s.rules()
	if len(found) > 0 {
		return found
	}
	ast.WalkRefs(s.expr, func(ref ast.Ref) bool {
		for rule, f := range t.known {
			if len(rule.Head.Args) == 0 && ref.HasPrefix(rule.Ref().ConstantPrefix()) && !slices.Contains(found, f) {
				found = append(found, f)
			}
		}
		return false
	})
	slices.SortFunc(found, func(a, b *frame) int {
		return cmp.Compare(slices.Index(t.frames, a), slices.Index(t.frames, b))
	})
	return found
}
