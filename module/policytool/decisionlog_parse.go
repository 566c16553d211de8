// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// parser makes records of lines. It is for one goroutine.
type parser struct {
	decoder *jsontext.Decoder
	// hash takes in what is read of an input.
	hash maphash.Hash
	// words are the terms of strings that come again and again.
	words map[string]*ast.Term
	// members and items are stacks of what is read of objects and arrays.
	members [][2]*ast.Term
	items   []*ast.Term
}

// hashSeed makes hashes comparable among parsers.
var hashSeed = maphash.MakeSeed()

func newParser() *parser {
	p := &parser{decoder: &jsontext.Decoder{}, words: map[string]*ast.Term{}}
	p.hash.SetSeed(hashSeed)
	return p
}

// custom is what Metaguard adds to OPA's event.
type custom struct {
	Metaguard struct {
		Verdict decision.Verdict `json:"verdict"`
		Reason  decision.Reason  `json:"reason"`
		Mode    string           `json:"mode"`
		Rules   []string         `json:"rules"`
	} `json:"metaguard"`
}

// each calls do for the decision in a line, if there is one, and notes a line
// that cannot be read.
func (p *parser) each(l line, unreadable *unreadableError, do func(*record) error) error {
	switch r, err := p.record(l); {
	case err != nil:
		unreadable.note(&lineError{File: l.file, Line: l.number, Err: err})
	case r != nil:
		return do(r)
	}
	return nil
}

// record reads one line; nil means that it is no decision. Members that a
// decision does not need are skipped.
func (p *parser) record(l line) (*record, error) {
	if l.err != nil {
		return nil, l.err
	}
	r := &record{File: l.file, Line: l.number}
	p.members, p.items = p.members[:0], p.items[:0]
	// A buffer is read in place by the decoder, so the line is not copied.
	p.decoder.Reset(bytes.NewBuffer(l.text), jsontext.AllowDuplicateNames(true))
	if first, err := p.decoder.ReadToken(); err != nil {
		return nil, notJSON(err)
	} else if first.Kind() != '{' {
		return nil, errors.New("no JSON object")
	}
	var made custom
	var failed, timed bool
	for p.decoder.PeekKind() != '}' {
		name, err := p.decoder.ReadToken()
		if err != nil {
			return nil, notJSON(err)
		}
		switch member := name.String(); member {
		case "input":
			err = p.input(r)
		case "result":
			err = p.result(r)
		case "decision_id":
			err = p.unmarshal(&r.ID)
		case "timestamp":
			timed = true
			err = p.unmarshal(&r.Time)
		case "revision":
			err = p.unmarshal(&r.Revision)
		case "nd_builtin_cache":
			r.Answers, err = p.answers()
		case "custom":
			err = p.unmarshal(&made)
		case "error":
			failed = p.decoder.PeekKind() != 'n'
			err = p.decoder.SkipValue()
		case "erased", "masked":
			r.Altered = true
			err = p.decoder.SkipValue()
		default:
			err = p.decoder.SkipValue()
		}
		if err != nil {
			return nil, notJSON(err)
		}
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := p.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JSON object")
	}
	switch {
	case r.ID == "" || r.Input == nil:
		return nil, nil //nolint:nilnil // a line of another logger is no error
	case !timed || r.Time.IsZero():
		return nil, errors.New("a decision without a timestamp")
	}
	r.Mode, r.Rules = made.Metaguard.Mode, made.Metaguard.Rules
	r.Verdict, r.Reason = made.Metaguard.Verdict, made.Metaguard.Reason
	r.fill(failed)
	return r, nil
}

// fill derives the verdict and the reason of an event that has none.
func (r *record) fill(failed bool) {
	if r.Reason == "" {
		switch {
		case r.Decided && r.Allow:
			r.Reason = decision.PolicyAllow
		case r.Decided:
			r.Reason = decision.PolicyDeny
		case failed:
			r.Reason = decision.PolicyError
		default:
			r.Reason = decision.PolicyUndefined
		}
	}
	if r.Verdict == "" {
		r.Verdict = decision.Deny
		if r.Reason == decision.PolicyAllow {
			r.Verdict = decision.Allow
		}
	}
}

func notJSON(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("no valid JSON: %w", err)
	}
	return err
}

// unmarshal reads a small member in the ordinary way.
func (p *parser) unmarshal(into any) error {
	at := p.decoder.StackPointer()
	text, err := p.decoder.ReadValue()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	return nil
}

// input reads the document that was judged.
func (p *parser) input(r *record) (err error) {
	if p.decoder.PeekKind() == 'n' { // a mask may leave null
		return p.decoder.SkipValue()
	}
	p.hash.Reset()
	r.Input, err = p.value(inputItself)
	r.question = p.hash.Sum64()
	return err
}

// answers reads what builtins said; a mask may leave nothing of it.
func (p *parser) answers() (builtins.NDBCache, error) {
	value, err := p.value(unhashed)
	if err != nil {
		return nil, err
	}
	return policy.AnswersOf(value)
}

// result reads the decision, leniently: what is not as it should be is for the
// reason to say.
func (p *parser) result(r *record) error {
	value, err := p.value(unhashed)
	if err != nil {
		return err
	}
	object, ok := value.(ast.Object)
	if !ok {
		return nil
	}
	allow, ok := get(object, "allow").(ast.Boolean)
	if !ok {
		return nil
	}
	r.Decided, r.Allow = true, bool(allow)
	if number, ok := get(object, "status").(ast.Number); ok {
		r.Status, _ = number.Int()
	}
	r.Codes = texts(get(object, "reasons"))
	if redact, ok := get(object, "redact").(ast.Object); ok {
		r.Redact = decision.Redact{
			JSON: texts(get(redact, "json")), Keys: texts(get(redact, "keys")), Listing: texts(get(redact, "listing")),
		}
	}
	return nil
}

// get is a member of an object, or nil.
func get(value ast.Value, names ...string) ast.Value {
	for _, name := range names {
		object, ok := value.(ast.Object)
		if !ok {
			return nil
		}
		term := object.Get(ast.InternedTerm(name))
		if term == nil {
			return nil
		}
		value = term.Value
	}
	return value
}

// text is a string in a document, or "".
func text(value ast.Value, names ...string) string {
	s, _ := get(value, names...).(ast.String)
	return string(s)
}

// texts are the strings in an array.
func texts(value ast.Value) []string {
	array, ok := value.(*ast.Array)
	if !ok {
		return nil
	}
	list := make([]string, 0, array.Len())
	array.Foreach(func(term *ast.Term) {
		if s, ok := term.Value.(ast.String); ok {
			list = append(list, string(s))
		}
	})
	return list
}
