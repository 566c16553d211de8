// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/pace"
)

// The policy's data is a tree of OPA's values, but for tables and the objects that hold
// them, which become such a value only when a rule asks for all of it.

// branch is an object with a table somewhere below.
type branch struct {
	members map[string]any // an ast.Value, *branch or *tableValues
	all     entire
}

// tableValues is a table whose values are OPA's.
type tableValues struct {
	*table
	long   map[uint32]any
	shared map[string]ast.Value
	all    entire
}

// entire is an object that is made when it is asked for.
type entire struct {
	once  sync.Once
	value ast.Value
}

// at gives the value of a name; nil if there is none.
func (l *tableValues) at(name string) any {
	at, ok := l.find(name)
	if !ok {
		return nil
	}
	if value, ok := l.long[at]; ok {
		return value
	}
	if value, ok := l.shared[string(l.valueText(at))]; ok {
		return value
	}
	return ast.MustInterfaceToValue(l.value(at)) // which was read from JSON
}

// memberOf gives what an object has under a name; nil if it is none, or has nothing.
func memberOf(of any, name string) any {
	switch of := of.(type) {
	case *branch:
		return of.members[name]
	case *tableValues:
		return of.at(name)
	case ast.Object:
		if found := of.Get(ast.StringTerm(name)); found != nil {
			return found.Value
		}
	}
	return nil
}

// holds tells whether an object has anything under a name.
func holds(of any, name string) bool {
	if table, ok := of.(*tableValues); ok { // without making a value
		_, found := table.find(name)
		return found
	}
	return memberOf(of, name) != nil
}

// find gives what is at a place; nil if there is nothing.
func find(in any, place ast.Ref) ast.Value {
	for i, step := range place {
		if value, ok := in.(ast.Value); ok {
			found, err := value.Find(place[i:])
			if err != nil {
				return nil
			}
			return found
		}
		name, ok := step.Value.(ast.String)
		if !ok {
			return nil
		}
		in = memberOf(in, string(name))
	}
	return valueOf(in)
}

// valueOf is all of something as a value of OPA; nil if it is nothing.
func valueOf(node any) ast.Value {
	switch node := node.(type) {
	case nil:
		return nil
	case ast.Value:
		return node
	}
	return valueAtPace(node, new(pace.Pace))
}

func valueAtPace(node any, p *pace.Pace) ast.Value {
	switch node := node.(type) {
	case ast.Value:
		return node
	case *branch:
		return node.all.of(len(node.members), p, func(add func(string, any)) {
			for name, member := range node.members {
				add(name, member)
			}
		})
	case *tableValues:
		return node.all.of(node.count, p, func(add func(string, any)) {
			for at := range node.places() {
				name := node.name(at)
				add(name, node.at(name))
			}
		})
	}
	return nil
}

func (w *entire) of(size int, p *pace.Pace, members func(add func(name string, member any))) ast.Value {
	w.once.Do(func() {
		object := ast.NewObjectWithCapacity(size)
		members(func(name string, member any) {
			p.Step()
			object.Insert(ast.StringTerm(name), ast.NewTerm(valueAtPace(member, p)))
		})
		w.value = object
	})
	if w.value == nil { // making it has panicked, and does so for ever: it is no undefined value
		panic("policy: an object of the data could not be made")
	}
	return w.value
}

// jsonOf is all of something as JSON types. Nothing of it is kept.
func jsonOf(node any) (any, error) {
	switch node := node.(type) {
	case *branch:
		object := make(map[string]any, len(node.members))
		for name, member := range node.members {
			document, err := jsonOf(member)
			if err != nil {
				return nil, err
			}
			object[name] = document
		}
		return object, nil
	case *tableValues:
		return plain(node.table), nil
	case ast.Value:
		document, err := ast.JSON(node)
		if err != nil {
			return nil, fmt.Errorf("reading the policy's data: %w", err)
		}
		return document, nil
	}
	return nil, fmt.Errorf("the policy's data is a %T", node)
}
