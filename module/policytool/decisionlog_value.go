// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"encoding/json"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
)

// place tells which part of an event a value belongs to, for the hash of the
// question.
type place int

const (
	// unhashed is what belongs to no question.
	unhashed place = iota
	// inputItself is the input.
	inputItself
	// inputRequest is input.request: its id makes no other question.
	inputRequest
	// inputPart is any other part of the input.
	inputPart
)

// below is the place of a member.
func (at place) below(name string) place {
	switch {
	case at == unhashed, at == inputRequest && name == "id":
		return unhashed
	case at == inputItself && name == "request":
		return inputRequest
	default:
		return inputPart
	}
}

// The bounds of what is kept of strings that come again.
const (
	maxWords      = 1 << 12
	maxWordLength = 64
)

// value reads the next JSON value as OPA has it, without a detour over Go's
// maps; numbers stay as they are written.
func (p *parser) value(at place) (ast.Value, error) {
	switch p.decoder.PeekKind() {
	case '{':
		return p.object(at)
	case '[':
		return p.array(at)
	default:
		return p.scalar(at)
	}
}

func (p *parser) scalar(at place) (ast.Value, error) {
	text, err := p.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	p.note(at, text)
	switch text.Kind() {
	case '"':
		term, err := p.word(text)
		if err != nil {
			return nil, err
		}
		return term.Value, nil
	case '0':
		return ast.Number(json.Number(text)), nil
	case 't', 'f':
		return ast.Boolean(text.Kind() == 't'), nil
	default:
		return ast.Null{}, nil
	}
}

// object reads an object. Of two members with the same name the last counts,
// as for Go's decoder.
func (p *parser) object(at place) (ast.Value, error) {
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, err
	}
	p.note(at, []byte{'{'})
	bottom := len(p.members)
	for p.decoder.PeekKind() != '}' {
		text, err := p.decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		p.note(at, text)
		name, err := p.word(text)
		if err != nil {
			return nil, err
		}
		value, err := p.value(at.below(string(name.Value.(ast.String))))
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, [2]*ast.Term{name, ast.NewTerm(value)})
	}
	p.note(at, []byte{'}'})
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, err
	}
	object := ast.NewObject(p.members[bottom:]...)
	p.members = p.members[:bottom]
	return object, nil
}

func (p *parser) array(at place) (ast.Value, error) {
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, err
	}
	p.note(at, []byte{'['})
	bottom := len(p.items)
	for p.decoder.PeekKind() != ']' {
		value, err := p.value(at.below(""))
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, ast.NewTerm(value))
	}
	p.note(at, []byte{']'})
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, err
	}
	array := ast.NewArray(slices.Clone(p.items[bottom:])...)
	p.items = p.items[:bottom]
	return array, nil
}

// note adds to the hash of a question. JSON delimits itself but for numbers.
func (p *parser) note(at place, text []byte) {
	if at == unhashed {
		return
	}
	_, _ = p.hash.Write(text) // it never fails
	_ = p.hash.WriteByte(',')
}

// word is the term of a string.
func (p *parser) word(text jsontext.Value) (*ast.Term, error) {
	if term, ok := p.words[string(text)]; ok {
		return term, nil
	}
	plain, err := jsontext.AppendUnquote(nil, text)
	if err != nil {
		return nil, err
	}
	term := ast.StringTerm(string(plain))
	if len(text) <= maxWordLength && len(p.words) < maxWords {
		p.words[string(text)] = term
	}
	return term, nil
}
