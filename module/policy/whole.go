// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/pace"
)

// makeWhole makes values of OPA of the tables that a rule asks for as a whole, before a
// request waits for it: to go through their members, or to hand them to a function.
func makeWhole(compiler *ast.Compiler, data *branch, p *pace.Pace) {
	if !data.hasTables() {
		return
	}
	w := wholes{compiler, data, p}
	for _, name := range sortedKeys(compiler.Modules) {
		for _, rule := range compiler.Modules[name].Rules {
			known := ast.ReservedVars.Copy()
			known.Update(rule.Head.Args.Vars())
			w.rule(rule, known)
		}
	}
}

func (b *branch) hasTables() bool {
	for _, member := range b.members {
		if _, ok := member.(ast.Value); !ok {
			return true
		}
	}
	return false
}

type wholes struct {
	compiler *ast.Compiler
	data     *branch
	pace     *pace.Pace
}

func (w *wholes) rule(rule *ast.Rule, known ast.VarSet) {
	w.body(rule.Body, known)
	all := known.Copy()
	all.Update(ast.OutputVarsFromBody(w.compiler, rule.Body, known))
	for _, term := range append([]*ast.Term{rule.Head.Key, rule.Head.Value}, rule.Head.Reference...) {
		if term != nil {
			w.expression(term, all, nil)
		}
	}
	if rule.Else != nil {
		w.rule(rule.Else, known)
	}
}

// body visits expressions in the order in which the compiler has put them: what is known
// before one is a name to look up, and what one makes known is sought among all names.
func (w *wholes) body(body ast.Body, known ast.VarSet) {
	known = known.Copy()
	for _, expr := range body {
		found := ast.OutputVarsFromExpr(w.compiler, expr, known)
		w.expression(expr, known, found)
		known.Update(found)
	}
}

// expression visits the references in something, and the bodies.
func (w *wholes) expression(in any, known, found ast.VarSet) {
	inner := func(body ast.Body) bool {
		all := known.Copy()
		all.Update(found)
		w.body(body, all)
		return true
	}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			return inner(append(x.Body[:len(x.Body):len(x.Body)], ast.NewExpr(x.Term)))
		case *ast.SetComprehension:
			return inner(append(x.Body[:len(x.Body):len(x.Body)], ast.NewExpr(x.Term)))
		case *ast.ObjectComprehension:
			return inner(append(x.Body[:len(x.Body):len(x.Body)], ast.NewExpr(x.Key), ast.NewExpr(x.Value)))
		case *ast.Every:
			w.expression(x.Domain, known, found)
			all := known.Copy()
			all.Update(x.KeyValueVars())
			w.body(x.Body, all)
			return true
		case *ast.With:
			w.expression(x.Value, known, found)
			return true // what it replaces is not read
		case ast.Ref:
			w.reference(x, known)
		}
		return false
	}).Walk(in)
}

// reference makes whole what a reference needs of the data.
func (w *wholes) reference(ref ast.Ref, known ast.VarSet) {
	if ref.HasPrefix(ast.DefaultRootRef) {
		w.need(w.data, ref[1:], known)
	}
}

func (w *wholes) need(node any, steps ast.Ref, known ast.VarSet) {
	for i, step := range steps {
		if name, ok := step.Value.(ast.String); ok {
			node = memberOf(node, string(name))
			continue
		}
		if value, ok := step.Value.(ast.Var); ok && !known.Contains(value) {
			break // all members
		}
		// One member, by a name that is known when it is asked for.
		switch node := node.(type) {
		case *tableValues:
			for _, member := range node.long {
				w.need(member, steps[i+1:], known)
			}
			return
		case *branch:
			for _, member := range node.members {
				w.need(member, steps[i+1:], known)
			}
			return
		}
		break
	}
	valueAtPace(node, w.pace)
}
