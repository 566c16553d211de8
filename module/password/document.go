// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/decision"
)

// How Nova keeps a password (nova/api/metadata/password.py: CHUNKS and
// CHUNK_LENGTH, which counts characters).
const (
	chunkPrefix = "password_"
	chunkCount  = 4
	chunkLength = 255
)

// Document is a legacy server's answer that shows a password in the chunks that
// it is stored in, put together.
type Document struct {
	// Password is the chunks in numeric order.
	Password []byte
	// Body is the document with one member or line `password` in their place,
	// or empty where all chunks are.
	Body []byte
	// Dropped counts the keys that began like a chunk's and were none.
	Dropped int
}

// ReadDocument reads a password answer that is made of stored keys and nothing
// else: one JSON object whose members all begin with "password_", or lines that
// all are "password_…=value" or "password_…: value". Any other answer is no
// document, which is nil without a refusal; such a one passes as it is or not
// at all, see CheckRead.
//
// Of the keys only password_0 to password_3 count; the others are dropped. One
// of the four must be there. Chunks that are all empty are an empty body, which
// is what says that no password is set.
// Nothing is made up for what is missing and nothing is cut:
//
//	response_unreadable   password_chunk_gap, password_chunk_twice,
//	                      password_chunk_too_long (over 255 characters),
//	                      password_chunk_type (no string), password_document_invalid
//	response_incomplete   password_document_cut
func ReadDocument(body []byte) (*Document, *decision.Refusal) {
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '{' {
		return readJSONDocument(text)
	}
	return readLineDocument(body)
}

// chunks collects the keys of one document.
type chunks struct {
	values  [chunkCount][]byte
	found   [chunkCount]bool
	dropped int
}

// add takes a key that begins with chunkPrefix.
func (c *chunks) add(name string, value []byte) *decision.Refusal {
	if !AllowedKey(name) {
		c.dropped++
		return nil
	}
	number := name[len(chunkPrefix)] - '0'
	switch {
	case c.found[number]:
		return unreadable("password_chunk_twice")
	case utf8.RuneCount(value) > chunkLength:
		return unreadable("password_chunk_too_long")
	}
	c.values[number], c.found[number] = value, true
	return nil
}

// any tells whether there is a chunk at all.
func (c *chunks) any() bool { return slices.Contains(c.found[:], true) }

func (c *chunks) document(joined, body []byte) *Document {
	if len(joined) == 0 {
		body = nil
	}
	return &Document{Password: joined, Body: body, Dropped: c.dropped}
}

// join gives the password, or the refusal for one with a hole in it.
func (c *chunks) join() ([]byte, *decision.Refusal) {
	used := chunkCount
	for used > 0 && !c.found[used-1] {
		used--
	}
	if slices.Contains(c.found[:used], false) {
		return nil, unreadable("password_chunk_gap")
	}
	return slices.Concat(c.values[:used]...), nil
}

func readJSONDocument(text []byte) (*Document, *decision.Refusal) {
	decoder := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	var found chunks
	members := 0
	if _, err := decoder.ReadToken(); err != nil {
		return broken(members, err)
	}
	for ; ; members++ {
		token, err := decoder.ReadToken()
		if err != nil {
			return broken(members, err)
		}
		if token.Kind() == jsontext.KindEndObject {
			break
		}
		name := token.String() // the decoder takes nothing but a string here
		if !strings.HasPrefix(name, chunkPrefix) {
			return nil, nil
		}
		value, err := decoder.ReadValue()
		if err != nil {
			return broken(members+1, err)
		}
		var chunk []byte
		if AllowedKey(name) {
			if value.Kind() != jsontext.KindString {
				return nil, unreadable("password_chunk_type")
			}
			if chunk, err = jsontext.AppendUnquote(nil, value); err != nil {
				return broken(members+1, err)
			}
		}
		if refusal := found.add(name, chunk); refusal != nil {
			return nil, refusal
		}
	}
	if _, err := decoder.ReadToken(); members == 0 || !errors.Is(err, io.EOF) {
		return broken(members, err)
	}
	joined, refusal := found.join()
	if refusal != nil {
		return nil, refusal
	}
	if !found.any() {
		return nil, nil
	}
	quoted, err := jsontext.AppendQuote([]byte(`{"password":`), joined)
	if err != nil {
		return broken(members, err)
	}
	return found.document(joined, append(quoted, '}')), nil
}

// broken says what a document is that cannot be read: none, as long as it has
// shown no key. The decoder's error quotes the document and is left out.
func broken(members int, err error) (*Document, *decision.Refusal) {
	switch {
	case members == 0:
		return nil, nil
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, decision.Refuse(decision.ResponseIncomplete, "password_document_cut")
	}
	return nil, unreadable("password_document_invalid")
}

func readLineDocument(text []byte) (*Document, *decision.Refusal) {
	var found chunks
	separator, end := "", ""
	for line := range bytes.Lines(text) {
		content, ended := bytes.CutSuffix(line, []byte("\n"))
		if ended {
			content = bytes.TrimSuffix(content, []byte("\r"))
		}
		at := bytes.IndexAny(content, "=:")
		if at < 0 || !bytes.HasPrefix(content, []byte(chunkPrefix)) {
			return nil, nil
		}
		value, between := content[at+1:], string(content[at:at+1])
		if between == ":" && bytes.HasPrefix(value, []byte(" ")) {
			value, between = value[1:], ": "
		}
		if separator == "" {
			separator = between
		}
		end = string(line[len(content):])
		if refusal := found.add(string(content[:at]), value); refusal != nil {
			return nil, refusal
		}
	}
	if !found.any() {
		return nil, nil
	}
	joined, refusal := found.join()
	if refusal != nil {
		return nil, refusal
	}
	return found.document(joined, slices.Concat([]byte("password"+separator), joined, []byte(end))), nil
}

func unreadable(code string) *decision.Refusal {
	return decision.Refuse(decision.ResponseUnreadable, code)
}
