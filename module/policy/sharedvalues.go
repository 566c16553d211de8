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

// storable makes OPA's values of data, and keeps lists of strings that are alike
// once: a million callers hold the same few grants.
func storable(data map[string]any, p *pace.Pace) (map[string]any, error) {
	lists := sharedLists{lists: map[string]ast.Value{}, pace: p}
	values := make(map[string]any, len(data))
	for name, member := range data {
		value, err := lists.value(member)
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// sharedLists are lists by what is in them. Values of OPA never change.
type sharedLists struct {
	lists map[string]ast.Value
	pace  *pace.Pace
}

// maxAtOnce is how many members an object is made of at once. That takes no more than a
// few milliseconds.
const maxAtOnce = 4096

func (s *sharedLists) value(from any) (ast.Value, error) {
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
		return ast.InterfaceToValue(from)
	}
}

func (s *sharedLists) object(members [][2]*ast.Term) ast.Object {
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

func (s *sharedLists) list(from []any) (ast.Value, error) {
	if len(from) > maxSharedList {
		return ast.InterfaceToValue(from)
	}
	var name strings.Builder
	for _, entry := range from {
		text, ok := entry.(string)
		if !ok {
			return ast.InterfaceToValue(from)
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
