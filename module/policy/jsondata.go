// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/pace"
)

// parseJSON reads a data document in one pass. It is strict where others forgive: a name
// that stands twice, bytes that are no UTF-8, and more after the end are errors, with
// their place. Numbers are kept as they are written.
func parseJSON(content []byte, p *pace.Pace) (value any, line, col int, err error) {
	reader := jsonReader{json: jsontext.NewDecoder(bytes.NewReader(content)), pace: p}
	if value, err = reader.value(); err == nil {
		if _, err = reader.json.ReadToken(); err == io.EOF { //nolint:errorlint // documented to be io.EOF itself
			return value, 0, 0, nil
		}
		if err == nil {
			err = errors.New("there is more after the end of the document")
		}
	}
	var syntax *jsontext.SyntacticError
	offset := reader.json.InputOffset()
	if errors.As(err, &syntax) {
		offset, err = syntax.ByteOffset, fmt.Errorf("not JSON: %w", syntax.Err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF { //nolint:errorlint // as above
		offset, err = int64(len(content)), errors.New("not JSON: the document ends too early")
	}
	line, col = lineCol(content, offset)
	return nil, line, col, err
}

// jsonReader makes Go values of JSON text, as encoding/json does with UseNumber.
type jsonReader struct {
	json *jsontext.Decoder
	pace *pace.Pace
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
	for r.json.PeekKind() != jsontext.KindEndObject {
		token, err := r.json.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String() // before the next token takes its place
		if object[name], err = r.value(); err != nil {
			return nil, err
		}
	}
	_, err := r.json.ReadToken()
	return object, err
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
