// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// readSet is what the rules of a compiled policy can learn of an input. Of a part that is
// not in it they learn nothing; of one that is compared, no more than the outcome of the
// comparisons; of one that is read, all.
//
// It errs on one side only: what is not known for certain to be a comparison reads the
// part. Inputs that agree in what a policy can learn are one to it, whatever else is in
// them: its rules take the same steps for both, and nothing that they give can hold what
// they have only compared.
type readSet map[string]*partReading

// partReading is how the rules use one part of the input.
type partReading struct {
	// all of it, in whatever way.
	all bool
	// texts and parts are what it is compared with, by == and !=.
	texts map[string]bool
	parts map[string]bool
	// tables are objects of data in which it is looked up, by their paths.
	tables map[string]ast.Ref
	// replaced tells that `with` has rules evaluated with another in its place.
	replaced bool
}

// of is the reading of a part, which begins with its first use.
func (s readSet) of(part string) *partReading {
	if s[part] == nil {
		s[part] = &partReading{texts: map[string]bool{}, parts: map[string]bool{}, tables: map[string]ast.Ref{}}
	}
	return s[part]
}

// readSetOf looks through every rule of a compiled policy, whether or not the entrypoint
// reaches it.
func readSetOf(compiler *ast.Compiler) readSet {
	set, mocked := readSet{}, false
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules {
			r := ruleReader{tree: compiler.RuleTree, set: set, uses: map[string]*use{}}
			r.visit(rule) // and what stands in its else
			r.finish()
			mocked = mocked || r.mocks
		}
	}
	// What a decision may say depends on these, whatever the rules read (isPasswordRead).
	set.of("resource.kind").all, set.of("resource.action").all = true, true
	for _, one := range set {
		// Where data or functions are replaced, comparisons and look-ups are others.
		one.all = one.all || mocked
		if one.replaced { // what it is compared with then, nobody knows here
			for part := range one.parts {
				set.of(part).all = true
			}
		}
	}
	return set
}

// ruleReader finds out how one rule uses the input.
type ruleReader struct {
	tree *ast.TreeNode
	set  readSet
	// uses are by the names of variables, and of parts of the input behind their "input.".
	uses map[string]*use
	// mocks tells that it replaces data or a function.
	mocks bool
}

// use is how a variable or a part is used. Those that are compared with each other are
// taken together: what one of them is compared with, or looked up in, may be so for all.
type use struct {
	in     *use // another that stands for both
	parts  map[string]bool
	texts  map[string]bool
	tables map[string]ast.Ref
	all    bool
}

func (u *use) root() *use {
	for u.in != nil {
		u = u.in
	}
	return u
}

// of is how a name is used.
func (r *ruleReader) of(name string) *use {
	if r.uses[name] == nil {
		r.uses[name] = &use{parts: map[string]bool{}, texts: map[string]bool{}, tables: map[string]ast.Ref{}}
	}
	return r.uses[name].root()
}

// ofPart is how a part of the input is used.
func (r *ruleReader) ofPart(part string) *use {
	u := r.of("input." + part)
	u.parts[part] = true
	return u
}

func (r *ruleReader) visit(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Head:
			r.visit(x.Reference) // which the visitor leaves out
		case *ast.Expr:
			if r.compares(x) {
				for _, with := range x.With {
					r.with(with)
				}
				return true
			}
		case *ast.With:
			r.with(x)
			return true
		case ast.Ref:
			r.ref(x)
			return true
		case ast.Var:
			r.reads(x)
		}
		return false
	}).Walk(x)
}

// reads takes in a variable in a place where all of its value can matter.
func (r *ruleReader) reads(name ast.Var) {
	if name.Equal(ast.InputRootDocument.Value) {
		r.readsInput(nil)
		return
	}
	r.of(string(name)).all = true
}

// readsInput takes in all parts that a reference below the input can reach.
func (r *ruleReader) readsInput(below ast.Ref) {
	for name, path := range partPaths {
		if canReach(below, path) {
			r.ofPart(name).all = true
		}
	}
}

// canReach tells whether a reference below the input can give the member at
// path, an object that holds it, or a part of it.
func canReach(ref ast.Ref, path []ast.String) bool {
	for i, name := range path {
		if i == len(ref) {
			return true
		}
		if known, ok := ref[i].Value.(ast.String); ok && known != name {
			return false
		}
	}
	return true
}

// ref takes in a reference: into the input, into data, or into what a variable holds.
func (r *ruleReader) ref(ref ast.Ref) {
	if len(ref) == 0 {
		return
	}
	below := ref[1:] // what it is looked up by can be a reference itself
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		r.readsInput(below)
	case ref[0].Equal(ast.DefaultRootDocument):
		if i := slices.IndexFunc(below, isNoText) + 1; i > 0 && r.isData(ref[:i]) {
			if by := r.compared(ref[i]); by != nil {
				by.tables[ref[:i].String()] = ref[:i]
				below = ref[i+1:]
			}
		}
	default:
		r.visit(ref[0].Value)
	}
	for _, term := range below {
		r.visit(term)
	}
}

func isNoText(term *ast.Term) bool {
	_, ok := term.Value.(ast.String)
	return !ok
}

// isData tells whether there is only data at a place and below it, and no rules.
func (r *ruleReader) isData(place ast.Ref) bool {
	node := r.tree
	for _, term := range place {
		if node = node.Child(term.Value); node == nil {
			return len(place) > 1
		}
		if len(node.Values) > 0 || node.External != nil {
			return false
		}
	}
	return false
}

// compared is how a variable or a part of the input is used which stands by itself; nil
// for all else.
func (r *ruleReader) compared(term *ast.Term) *use {
	switch value := term.Value.(type) {
	case ast.Var:
		if !value.Equal(ast.InputRootDocument.Value) && !value.Equal(ast.DefaultRootDocument.Value) {
			return r.of(string(value))
		}
	case ast.Ref:
		if name, ok := partOf(value); ok {
			return r.ofPart(name)
		}
	}
	return nil
}

// partOf names the part that a reference is, if it is one that can be compared.
func partOf(ref ast.Ref) (string, bool) {
	if len(ref) != 3 || !ref[0].Equal(ast.InputRootDocument) {
		return "", false
	}
	outer, ok1 := ref[1].Value.(ast.String)
	inner, ok2 := ref[2].Value.(ast.String)
	name := string(outer) + "." + string(inner)
	_, isText := textParts[name]
	_, isAddress := addressParts[name]
	return name, ok1 && ok2 && (isText || isAddress)
}

// compares takes in an expression that compares two variables, parts of the input or
// scalars, and nothing else; false if it is another.
func (r *ruleReader) compares(expr *ast.Expr) bool {
	terms, ok := expr.Terms.([]*ast.Term)
	if !ok || len(terms) != 3 || !isComparison(terms[0]) {
		return false
	}
	left, right := terms[1], terms[2]
	if isScalar(left) {
		left, right = right, left
	}
	a := r.compared(left)
	if a == nil {
		return false
	}
	if isScalar(right) {
		if text, ok := right.Value.(ast.String); ok { // a part is no number
			a.texts[string(text)] = true
		}
		return true
	}
	b := r.compared(right)
	if b == nil {
		return false
	}
	a.join(b)
	return true
}

func isComparison(operator *ast.Term) bool {
	ref, ok := operator.Value.(ast.Ref)
	return ok && (ref.Equal(ast.Equality.Ref()) || ref.Equal(ast.Equal.Ref()) || ref.Equal(ast.NotEqual.Ref()))
}

func isScalar(term *ast.Term) bool {
	switch term.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

func (u *use) join(other *use) {
	if u == other {
		return
	}
	other.in = u
	u.all = u.all || other.all
	maps.Copy(u.parts, other.parts)
	maps.Copy(u.texts, other.texts)
	maps.Copy(u.tables, other.tables)
}

// with takes in what has a rule evaluated with another input, other data or functions.
func (r *ruleReader) with(with *ast.With) {
	r.visit(with.Value)
	r.visit(with.Target)
	target, ok := with.Target.Value.(ast.Ref)
	if !ok || !target[0].Equal(ast.InputRootDocument) {
		r.mocks = true
		return
	}
	for name, path := range partPaths {
		if canReach(target[1:], path) {
			r.set.of(name).replaced = true
		}
	}
}

// finish adds what was found to the set.
func (r *ruleReader) finish() {
	for _, u := range r.uses {
		if u.in != nil {
			continue
		}
		addresses := 0
		for part := range u.parts {
			if _, ok := addressParts[part]; ok {
				addresses++
			}
		}
		mixed := addresses > 0 && addresses < len(u.parts) // they have no common type
		for part := range u.parts {
			reading := r.set.of(part)
			reading.all = reading.all || u.all || mixed
			maps.Copy(reading.texts, u.texts)
			maps.Copy(reading.tables, u.tables)
			for other := range u.parts {
				if other != part {
					reading.parts[other] = true
				}
			}
		}
	}
}
