// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/pace"
)

// maxSharedList is how many entries a list has at most that is kept once.
const maxSharedList = 16

// newTree makes OPA's values of data, and keeps lists of strings that are alike
// once: a million callers hold the same few grants.
func newTree(data map[string]any, p *pace.Pace) (*branch, error) {
	values := sharedValues{lists: map[string]ast.Value{}, pace: p}
	return values.branch(data)
}

// sharedValues have lists by what is in them. Values of OPA never change.
type sharedValues struct {
	lists map[string]ast.Value
	pace  *pace.Pace
}

// node makes a part of the tree.
func (s *sharedValues) node(from any) (any, error) {
	switch from := from.(type) {
	case *table:
		return s.tableValues(from)
	case map[string]any:
		if holdsTable(from) {
			return s.branch(from)
		}
	}
	return s.value(from)
}

func holdsTable(value any) bool {
	switch value := value.(type) {
	case *table:
		return true
	case map[string]any:
		for _, member := range value {
			if holdsTable(member) {
				return true
			}
		}
	}
	return false
}

func (s *sharedValues) branch(from map[string]any) (*branch, error) {
	b := &branch{members: make(map[string]any, len(from))}
	for name, member := range from {
		node, err := s.node(member)
		if err != nil {
			return nil, err
		}
		b.members[name] = node
	}
	return b, nil
}

func (s *sharedValues) tableValues(from *table) (*tableValues, error) {
	l := &tableValues{table: from, long: make(map[uint32]any, len(from.long)), shared: make(map[string]ast.Value, len(from.shared))}
	for at, value := range from.long {
		node, err := s.node(value)
		if err != nil {
			return nil, err
		}
		l.long[at] = node
	}
	for text, value := range from.shared {
		value, err := s.value(value)
		if err != nil {
			return nil, err
		}
		l.shared[text] = value
	}
	return l, nil
}

// maxAtOnce is how many members an object is made of at once. That takes no more than a
// few milliseconds.
const maxAtOnce = 4096

func (s *sharedValues) value(from any) (ast.Value, error) {
	switch from := from.(type) {
	case map[string]any:
		terms := make([]ast.Term, 0, 2*len(from)) // one block for all
		members := make([][2]*ast.Term, 0, len(from))
		for name, member := range from {
			value, err := s.value(member)
			if err != nil {
				return nil, err
			}
			terms = append(terms, ast.Term{Value: ast.String(name)}, ast.Term{Value: value})
			s.pace.Step()
			members = append(members, [2]*ast.Term{&terms[len(terms)-2], &terms[len(terms)-1]})
		}
		return s.object(members), nil
	case []any:
		return s.list(from)
	default:
		return ast.InterfaceToValue(plain(from))
	}
}

func (s *sharedValues) object(members [][2]*ast.Term) ast.Object {
	if len(members) <= maxAtOnce {
		return ast.NewObject(members...)
	}
	object := ast.NewObjectWithCapacity(len(members))
	for _, member := range members {
		s.pace.Step()
		object.Insert(member[0], member[1])
	}
	return object
}

func (s *sharedValues) list(from []any) (ast.Value, error) {
	if len(from) > maxSharedList {
		return ast.InterfaceToValue(plain(from))
	}
	var name strings.Builder
	for _, entry := range from {
		text, ok := entry.(string)
		if !ok {
			return ast.InterfaceToValue(plain(from))
		}
		name.WriteString(strconv.Itoa(len(text)))
		name.WriteByte(' ')
		name.WriteString(text)
	}
	if known, ok := s.lists[name.String()]; ok {
		return known, nil
	}
	value, err := ast.InterfaceToValue(from)
	if err == nil {
		s.lists[name.String()] = value
	}
	return value, err
}
