// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// inputView is what an input is made of for a policy: the parts that its rules can reach.
type inputView struct {
	members []viewMember
	parts   int
}

// viewMember is a part, or an object of parts.
type viewMember struct {
	name  *ast.Term
	part  func(*terms, *decision.Input) *ast.Term // nil: an object
	parts []viewMember
	// unused is the session that most requests have, which is none.
	unused *ast.Term
}

const (
	// usualTerms is how many terms of its own a request of an instance has, and a few more.
	usualTerms = 24
	// maxMembers is how many members an object of parts has at most.
	maxMembers = 9
)

// wholeInput has all parts.
var wholeInput = newInputView(func(string) bool { return true })

// InputValue builds the input document, without a detour over JSON. It has
// every member at all times, so that a policy never meets an undefined one.
func InputValue(in *decision.Input) (ast.Value, error) { return wholeInput.of(in) }

// newInputView has the parts that are wanted.
func newInputView(wants func(part string) bool) *inputView {
	v := &inputView{}
	objects := map[string]int{}
	for _, name := range sortedKeys(partPaths) {
		if !wants(name) {
			continue
		}
		v.parts++
		outer, inner, nested := strings.Cut(name, ".")
		if !nested {
			v.members = append(v.members, viewMember{name: ast.StringTerm(name), part: termOf(name)})
			continue
		}
		at, ok := objects[outer]
		if !ok {
			at = len(v.members)
			objects[outer] = at
			v.members = append(v.members, viewMember{name: ast.StringTerm(outer)})
		}
		object := &v.members[at]
		object.parts = append(object.parts, viewMember{name: ast.StringTerm(inner), part: termOf(name)})
	}
	if at, ok := objects["session"]; ok {
		v.members[at].unused = v.members[at].term(new(terms), &decision.Input{})
	}
	return v
}

// termOf is how a part is shown.
func termOf(part string) func(*terms, *decision.Input) *ast.Term {
	if of, ok := textParts[part]; ok {
		return func(t *terms, in *decision.Input) *ast.Term { return t.text(of(in)) }
	}
	if of, ok := addressParts[part]; ok {
		return func(t *terms, in *decision.Input) *ast.Term { return t.address(of(in)) }
	}
	return otherParts[part].term
}

// of is the document.
func (v *inputView) of(in *decision.Input) (ast.Value, error) {
	if in == nil {
		return nil, errors.New("there is no input")
	}
	t := terms{free: make([]ast.Term, 0, min(v.parts, usualTerms))}
	value := t.parts(v.members, in)
	if t.err != nil {
		return nil, t.err
	}
	return value, nil
}

func (t *terms) parts(parts []viewMember, in *decision.Input) ast.Value {
	var space [maxMembers]member
	members := space[:0]
	for i := range parts {
		members = append(members, member{parts[i].name, parts[i].term(t, in)})
	}
	return ast.NewObject(members...)
}

func (m *viewMember) term(t *terms, in *decision.Input) *ast.Term {
	switch {
	case m.part != nil:
		return m.part(t, in)
	case m.unused != nil && in.Session == decision.Session{}:
		return m.unused
	}
	return t.term(t.parts(m.parts, in))
}
