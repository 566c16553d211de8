// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/pace"
)

// InventoryError is what is wrong in an inventory file, and where.
type InventoryError struct {
	// Path is the file's, as it was given.
	Path string
	// Line and Column count from 1; columns are bytes.
	Line, Column int
	// Problem says what is wrong and what to do.
	Problem string
}

func (e *InventoryError) Error() string {
	return fmt.Sprintf("inventory %s:%d:%d: %s", e.Path, e.Line, e.Column, e.Problem)
}

// LoadInventory reads an inventory file. What is wrong in it is an
// *InventoryError; any other error is about the file itself.
func LoadInventory(path string, p *pace.Pace) (*Inventory, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("opening inventory: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	return readInventory(path, file, p)
}

// readInventory streams the file, so that reading takes no more memory than
// the result.
func readInventory(path string, file io.Reader, p *pace.Pace) (*Inventory, error) {
	digest := sha256.New()
	lines := &lineReader{from: io.TeeReader(bufio.NewReaderSize(file, 1<<18), digest)}
	reader := &inventoryReader{
		builder: newInventoryBuilder(),
		json:    jsontext.NewDecoder(lines),
		lines:   lines,
		pace:    p,
	}
	if err := reader.list(); err != nil {
		var at *positionError
		if !errors.As(err, &at) {
			return nil, fmt.Errorf("reading inventory %s: %w", path, err)
		}
		line, column := lines.position(at.offset)
		return nil, &InventoryError{Path: path, Line: line, Column: column, Problem: at.problem}
	}
	return reader.builder.finish(hex.EncodeToString(digest.Sum(nil))), nil
}

// positionError is an error at a byte of the file.
type positionError struct {
	offset  int64
	problem string
}

func (p *positionError) Error() string { return p.problem }

// inventoryReader goes through the JSON text once.
type inventoryReader struct {
	builder *inventoryBuilder
	json    *jsontext.Decoder
	lines   *lineReader
	scratch []byte
	pace    *pace.Pace
}

// list reads the whole text.
func (r *inventoryReader) list() error {
	switch kind, err := r.peek(); {
	case errors.Is(err, io.EOF):
		return r.errorf(0, "the file is empty: write a list, [] if nobody is known")
	case err != nil:
		return err
	case kind != '[':
		return r.errorf(r.next(), "want a list of entries: [{\"address\": …}, …]")
	}
	if _, err := r.json.ReadToken(); err != nil {
		return r.syntax(err)
	}
	for {
		r.pace.Step()
		switch kind, err := r.peek(); {
		case err != nil:
			return err
		case kind == ']':
			return r.end()
		case kind != '{':
			return r.errorf(r.next(), "want an entry: {\"address\": …}")
		}
		if err := r.entry(); err != nil {
			return err
		}
	}
}

// end reads the list's end, after which nothing may stand. It reads the file
// to its end, which the digest needs.
func (r *inventoryReader) end() error {
	if _, err := r.json.ReadToken(); err != nil {
		return r.syntax(err)
	}
	switch _, err := r.peek(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return r.errorf(r.next(), "something stands after the list: remove it")
}

// entry reads one object.
func (r *inventoryReader) entry() error {
	if _, err := r.json.ReadToken(); err != nil {
		return r.syntax(err)
	}
	start := r.json.InputOffset() - 1
	line := r.lines.forget(start)
	added := record{line: uint32(min(line, 1<<32-1))}
	address, addressAt := "", int64(-1)
	for {
		kind, err := r.peek()
		if err != nil {
			return err
		}
		if kind == '}' {
			break
		}
		name, at, err := r.text("a key")
		if err != nil {
			return err
		}
		switch string(name) {
		case "address":
			var value []byte
			value, addressAt, err = r.text("address")
			address = string(value)
		case "instance_id":
			added.caller, err = r.instance()
		case "project_id":
			added.project, err = r.project()
		case "roles":
			added.roles, err = r.roles()
		default:
			err = r.errorf(at, "unknown key %q: an entry has address, instance_id, project_id and roles", name)
		}
		if err != nil {
			return err
		}
	}
	if _, err := r.json.ReadToken(); err != nil {
		return r.syntax(err)
	}
	if addressAt < 0 {
		return r.errorf(start, "the entry has no address: add \"address\"")
	}
	prefix, err := parsePrefix(address)
	if err != nil {
		return r.errorf(addressAt, "%s", err)
	}
	if earlier, doubled := r.builder.insert(prefix, added); doubled {
		return r.errorf(addressAt, "%s is already the entry of line %d: remove one", prefix, earlier.line)
	}
	return nil
}

func (r *inventoryReader) instance() (uint32, error) {
	id, at, err := r.text("instance_id")
	if err != nil {
		return 0, err
	}
	if !validInstanceID(id) {
		return 0, r.errorf(at, "instance_id %q is neither a UUID like 5f1c3a52-0c6e-4f6e-9d0a-3c1f2b7a9e10 in lower case nor another name of 1 to %d letters, digits and -_. characters: correct it, or leave it out", clip(id), maxInstanceID)
	}
	return r.builder.caller(id), nil
}

func (r *inventoryReader) project() (uint32, error) {
	id, at, err := r.text("project_id")
	if err != nil {
		return 0, err
	}
	if !validProjectID(id) {
		return 0, r.errorf(at, "project_id %q has other than 1 to %d letters, digits and -_.: characters: correct it, or leave it out", clip(id), maxProject)
	}
	return r.builder.project(id), nil
}

// roles reads a list of roles. Few lists are different, so they are known by
// their text.
func (r *inventoryReader) roles() (uint32, error) {
	if kind, err := r.peek(); err != nil {
		return 0, err
	} else if kind != '[' {
		return 0, r.errorf(r.next(), "roles must be a list of strings")
	}
	value, err := r.json.ReadValue()
	if err != nil {
		return 0, r.syntax(err)
	}
	if index, ok := r.builder.roles[string(value)]; ok {
		return index, nil
	}
	text := string(value)
	start := r.json.InputOffset() - int64(len(text))
	inner := &inventoryReader{json: jsontext.NewDecoder(strings.NewReader(text))}
	roles, err := inner.roleList()
	if err != nil {
		var at *positionError
		if errors.As(err, &at) {
			at.offset += start
		}
		return 0, err
	}
	return r.builder.addRoles(text, roles), nil
}

// roleList reads a text that is a well-formed list.
func (r *inventoryReader) roleList() ([]string, error) {
	if _, err := r.json.ReadToken(); err != nil {
		return nil, r.syntax(err)
	}
	var roles []string
	for {
		kind, err := r.peek()
		if err != nil {
			return nil, err
		}
		if kind == ']' {
			return roles, nil
		}
		role, at, err := r.text("a role")
		switch {
		case err != nil:
			return nil, err
		case len(role) == 0:
			return nil, r.errorf(at, "a role is empty: remove it")
		case bytes.ContainsFunc(role, unicode.IsControl):
			return nil, r.errorf(at, "a role has a control character: remove it")
		case slices.Contains(roles, string(role)):
			return nil, r.errorf(at, "role %q is given twice: remove one", clip(role))
		}
		roles = append(roles, string(role))
	}
}

// text reads a string and gives where it begins. The text is valid until the
// next call.
func (r *inventoryReader) text(what string) ([]byte, int64, error) {
	kind, err := r.peek()
	if err != nil {
		return nil, 0, err
	}
	if kind != '"' {
		return nil, 0, r.errorf(r.next(), "%s must be a string", what)
	}
	raw, err := r.json.ReadValue()
	if err != nil {
		return nil, 0, r.syntax(err)
	}
	start := r.json.InputOffset() - int64(len(raw))
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], start, nil
	}
	r.scratch, err = jsontext.AppendUnquote(r.scratch[:0], raw)
	if err != nil {
		return nil, 0, r.errorf(start, "%s is not a valid string: %s", what, err)
	}
	return r.scratch, start, nil
}

// peek gives the kind of what comes next, or why there is nothing. io.EOF is
// only the end behind a complete text.
func (r *inventoryReader) peek() (jsontext.Kind, error) {
	kind := r.json.PeekKind()
	if kind != jsontext.KindInvalid {
		return kind, nil
	}
	_, err := r.json.ReadToken()
	if err == nil { // cannot be: what can be read has a kind
		err = io.ErrUnexpectedEOF
	}
	return 0, r.syntax(err)
}

// next is where the value begins that peek saw.
func (r *inventoryReader) next() int64 {
	rest := r.json.UnreadBuffer()
	return r.json.InputOffset() + int64(len(rest)-len(bytes.TrimLeft(rest, " \t\r\n,:")))
}

// syntax makes an error of the JSON reader one of ours.
func (r *inventoryReader) syntax(err error) error {
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		return r.errorf(syntactic.ByteOffset, "not valid JSON: %s", syntactic.Err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return r.errorf(r.json.InputOffset(), "not valid JSON: the file ends too early")
	}
	return err
}

func (r *inventoryReader) errorf(offset int64, format string, args ...any) error {
	return &positionError{offset: offset, problem: fmt.Sprintf(format, args...)}
}

// clip keeps an error readable.
func clip(text []byte) []byte { return text[:min(len(text), 80)] }
