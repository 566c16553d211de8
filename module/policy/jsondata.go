// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/pace"
)

// parseJSON reads a data document in one pass. It is strict where others forgive: a name
// that stands twice, bytes that are no UTF-8, and more after the end are errors, with
// their place. Numbers are kept as they are written. An object with many members is a
// table.
func parseJSON(content []byte, p *pace.Pace) (value any, line, col int, err error) {
	from := tableFrom
	if len(content) > math.MaxUint32 {
		from = math.MaxInt // a table's places are shorter
	}
	return parseJSONTables(content, p, from)
}

func parseJSONTables(content []byte, p *pace.Pace, tableFrom int) (value any, line, col int, err error) {
	reader := newJSONReader(content, p, tableFrom)
	value, err = reader.document()
	if err == nil {
		return value, 0, 0, nil
	}
	var syntax *jsontext.SyntacticError
	offset := reader.json.InputOffset()
	if errors.As(err, &syntax) {
		offset, err = syntax.ByteOffset, fmt.Errorf("not JSON: %w", syntax.Err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF { //nolint:errorlint // documented to be io.EOF itself
		offset, err = int64(len(content)), errors.New("not JSON: the document ends too early")
	}
	line, col = lineCol(content, offset)
	return nil, line, col, err
}

// readJSON reads a short value.
func readJSON(text []byte) (any, error) {
	return newJSONReader(text, new(pace.Pace), math.MaxInt).document()
}

// jsonReader makes Go values of JSON text, as encoding/json does with UseNumber.
type jsonReader struct {
	json *jsontext.Decoder
	text []byte
	pace *pace.Pace
	// tableFrom is from how many members on an object is a table.
	tableFrom int
	// members are those of the objects that are open, those of the innermost last.
	members []textMember
}

// textMember is where a member of an object stands in the text.
type textMember struct{ name, value, end int64 }

func newJSONReader(text []byte, p *pace.Pace, tableFrom int) *jsonReader {
	// Of a bytes.Buffer, the decoder reads in place. Names that are there twice are
	// found here: the decoder would keep a copy of each.
	decoder := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))
	return &jsonReader{json: decoder, text: text, pace: p, tableFrom: tableFrom}
}

// document reads all of the text.
func (r *jsonReader) document() (any, error) {
	value, err := r.value()
	if err != nil {
		return nil, err
	}
	if _, err := r.json.ReadToken(); err == nil {
		return nil, errors.New("there is more after the end of the document")
	} else if err != io.EOF { //nolint:errorlint // documented to be io.EOF itself
		return nil, err
	}
	return value, nil
}

func (r *jsonReader) value() (any, error) {
	r.pace.Step()
	token, err := r.json.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() { //nolint:exhaustive // of others there is null only: the decoder refuses an end in this place
	case jsontext.KindBeginObject:
		return r.object()
	case jsontext.KindBeginArray:
		return r.array()
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return json.Number(token.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	}
	return nil, nil //nolint:nilnil // null
}

func (r *jsonReader) object() (any, error) {
	object := make(map[string]any)
	begin := r.json.InputOffset() - 1
	before := len(r.members)
	defer func() { r.members = r.members[:before] }()
	for r.json.PeekKind() != jsontext.KindEndObject {
		if len(object) == r.tableFrom-1 {
			return r.table(begin, object, r.members[before:])
		}
		member, quoted, err := r.name()
		if err != nil {
			return nil, err
		}
		name, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		if _, twice := object[name]; twice {
			return nil, nameTwice(member.name)
		}
		if object[name], err = r.value(); err != nil {
			return nil, err
		}
		member.end = r.json.InputOffset()
		r.members = append(r.members, member)
	}
	_, err := r.json.ReadToken()
	return object, err
}

// name reads the name of a member, and says where it and the member's value are.
func (r *jsonReader) name() (member textMember, quoted []byte, err error) {
	if r.json.PeekKind() != jsontext.KindString {
		_, err := r.json.ReadToken() // says what is wrong with it
		return member, nil, err
	}
	if quoted, err = r.json.ReadValue(); err != nil {
		return member, nil, err
	}
	end := r.json.InputOffset()
	member.name = end - int64(len(quoted))
	if r.json.PeekKind() == jsontext.KindInvalid {
		_, err := r.json.ReadToken() // no colon, or no value
		return member, nil, err
	}
	rest := r.text[end:]
	member.value = end + int64(len(rest)-len(afterColon(rest)))
	return member, quoted, nil
}

func unquote(quoted []byte) (string, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	return string(name), err
}

func nameTwice(at int64) error {
	return &jsontext.SyntacticError{ByteOffset: at, Err: jsontext.ErrDuplicateName}
}

// table reads the rest of an object that has many members, and begins there.
func (r *jsonReader) table(begin int64, object map[string]any, members []textMember) (*table, error) {
	t := newTable(r.text)
	var names places
	for _, member := range members {
		quoted := t.quoted(uint32(member.name))
		name, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		t.escaped = t.escaped || bytes.IndexByte(quoted, '\\') >= 0
		if text := r.text[member.value:member.end]; len(text) < maxText {
			t.share(text, object[name])
		} else {
			t.long[uint32(member.name)] = object[name]
		}
		names = names.add(uint32(member.name))
	}
	for r.json.PeekKind() != jsontext.KindEndObject {
		member, quoted, err := r.name()
		if err != nil {
			return nil, err
		}
		t.escaped = t.escaped || bytes.IndexByte(quoted, '\\') >= 0
		names = names.add(uint32(member.name))
		if err := r.tableValue(t, member); err != nil {
			return nil, err
		}
	}
	if _, err := r.json.ReadToken(); err != nil {
		return nil, err
	}
	t.own = r.text[begin:r.json.InputOffset()]
	if at, ok := t.index(names, r.pace); !ok {
		return nil, nameTwice(int64(at))
	}
	return t, nil
}

// tableValue reads the value of a member, and keeps it where the table does.
func (r *jsonReader) tableValue(t *table, member textMember) (err error) {
	window := r.text[member.value:min(member.value+maxText, int64(len(r.text)))]
	if textEnd(window) == len(window) {
		t.long[uint32(member.name)], err = r.value()
		return err
	}
	r.pace.Step()
	text, err := r.json.ReadValue()
	if err != nil {
		return err
	}
	if _, known := t.shared[string(text)]; known {
		return nil
	}
	if !t.shares(text) && bytes.IndexByte(text, '{') < 0 {
		return nil // ReadValue has seen that it is JSON
	}
	value, err := readJSON(text)
	if err == nil {
		t.share(text, value)
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return &jsontext.SyntacticError{ByteOffset: member.value + syntax.ByteOffset, Err: syntax.Err}
	}
	return err
}

func (r *jsonReader) array() (any, error) {
	array := []any{}
	for r.json.PeekKind() != jsontext.KindEndArray {
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := r.json.ReadToken()
	return array, err
}
