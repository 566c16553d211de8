// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/pace"
)

// constants are what rules give that look at nothing of a request: each is evaluated
// when a policy is loaded, and not again by every decision. They are by the last name
// of their references.
type constants map[ast.String][]constant

type constant struct {
	ref   ast.Ref
	value *ast.Term // nil: undefined
}

const (
	// constantsTime is how long the constants of a policy may take together.
	constantsTime = time.Second
	// maxNamesakes is how many constants may have the same last name, in several
	// packages: they are looked through one by one.
	maxNamesakes = 8
)

// get finds the constant that a reference names.
func (c constants) get(ref ast.Ref) (found constant, ok bool) {
	if len(c) == 0 {
		return constant{}, false
	}
	for _, one := range c[lastName(ref)] {
		if same(one.ref, ref) {
			return one, true
		}
	}
	return constant{}, false
}

// lastName is where a reference ends, if that is a name.
func lastName(ref ast.Ref) ast.String {
	name, _ := ref[len(ref)-1].Value.(ast.String)
	return name
}

// constantsOf evaluates the constants that other rules of the policy ask for. They stop
// when all together have taken as long as a decision may, which would have to evaluate
// them; a builtin ends first what it has begun. What takes longer, or fails, is left for
// decisions to evaluate, as it would be without this.
func (p *Policy) constantsOf(ctx context.Context, at *pace.Pace) constants {
	bound := &pacedLimit{limit{gone: ctx.Done(), until: time.Now().Add(min(p.timeout, constantsTime))}, at}
	all := constants{}
	for _, ref := range constantRefs(p.compiler, p.entrypoint) {
		value, err := p.constant(ctx, ref, bound)
		if err != nil {
			continue
		}
		one := constant{ref: ref}
		if value != nil {
			settle(value)
			one.value = ast.NewTerm(value)
		}
		name := lastName(ref)
		all[name] = append(all[name], one)
	}
	return all
}

// settle has a value sort itself, which OPA's sets and objects do when they are first
// gone through: a set is not safe for use by several evaluations before that
// (ast/term.go, set.Union).
func settle(value ast.Value) {
	switch value := value.(type) {
	case ast.Set:
		value.Foreach(func(item *ast.Term) { settle(item.Value) })
	case ast.Object:
		value.Foreach(func(key, item *ast.Term) { settle(key.Value); settle(item.Value) })
	case *ast.Array:
		value.Foreach(func(item *ast.Term) { settle(item.Value) })
	}
}

// constant evaluates one by itself and to its end, so that a conflict of its values is
// found, whoever asks for it in which way.
func (p *Policy) constant(ctx context.Context, ref ast.Ref, bound *pacedLimit) (value ast.Value, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("OPA panicked: %v", v)
		}
	}()
	q, err := newQuestion(ast.NewExpr(ast.NewTerm(ref)), p.compiler, p.data, nil)
	if err != nil {
		return nil, err
	}
	value, err = ask(ctx, q.about(nil, p.loaded).WithCancel(bound))
	if err == nil && (bound.passed() || ctx.Err() != nil) {
		err = context.DeadlineExceeded
	}
	return value, err
}

// pacedLimit bounds the work of an evaluation, without the rests of its load.
type pacedLimit struct {
	limit

	at *pace.Pace
}

// Cancelled implements topdown.Cancel.
func (l *pacedLimit) Cancelled() bool {
	rested := l.at.Rested()
	l.at.Step()
	l.until = l.until.Add(l.at.Rested() - rested)
	return l.limit.Cancelled()
}

// constantRefs gives the references to constants that the entrypoint is, or that a rule
// asks for which is none itself, but for those with many namesakes.
func constantRefs(compiler *ast.Compiler, entrypoint ast.Ref) []ast.Ref {
	f := fixed{compiler, map[*ast.Rule]bool{}}
	found := map[*ast.Rule]ast.Ref{}
	compiler.RuleTree.DepthFirst(func(node *ast.TreeNode) bool {
		if f.isConstant(node) {
			for _, rule := range node.Values {
				found[rule] = rule.Ref()
			}
		}
		// Below rules such as a[x] there are others, such as a.b, that share names with them.
		return len(node.Values) > 0
	})
	asked := map[string]ast.Ref{}
	ask := func(rule *ast.Rule) {
		if ref, ok := found[rule]; ok {
			asked[ref.String()] = ref
		}
	}
	for _, rule := range compiler.GetRulesExact(entrypoint) {
		ask(rule)
	}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			if found[rule] != nil {
				continue
			}
			for part := rule; part != nil; part = part.Else {
				for other := range compiler.Graph.Dependencies(part) {
					ask(other.(*ast.Rule))
				}
			}
		}
	}
	namesakes := map[ast.String]int{}
	for _, ref := range asked {
		namesakes[lastName(ref)]++
	}
	refs := make([]ast.Ref, 0, len(asked))
	for _, text := range sortedKeys(asked) {
		if ref := asked[text]; namesakes[lastName(ref)] <= maxNamesakes {
			refs = append(refs, ref)
		}
	}
	return refs
}

// fixed finds rules that look at nothing of a request.
type fixed struct {
	compiler *ast.Compiler
	known    map[*ast.Rule]bool
}

// isConstant tells whether all rules of a name are fixed, take no arguments and have no
// variables in their references, and no other name is below it.
func (f *fixed) isConstant(node *ast.TreeNode) bool {
	return len(node.Values) > 0 && len(node.Children) == 0 && node.External == nil &&
		!slices.ContainsFunc(node.Values, func(rule *ast.Rule) bool {
			return len(rule.Head.Args) > 0 || !rule.Ref().IsGround() || !f.is(rule)
		})
}

// is tells whether neither a rule nor one that it can ask looks at the input, asks the
// world, or prints.
func (f *fixed) is(rule *ast.Rule) bool {
	if known, ok := f.known[rule]; ok {
		return known
	}
	var d dependence
	d.read(rule) // and what stands in its else
	fixed := !d.input && !d.world && !d.prints
	for part := rule; part != nil && fixed; part = part.Else {
		for other := range f.compiler.Graph.Dependencies(part) {
			if !f.is(other.(*ast.Rule)) { // OPA refuses rules that ask themselves
				fixed = false
				break
			}
		}
	}
	f.known[rule] = fixed
	return fixed
}
