// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/decision"
)

const (
	// maxDepth bounds nesting. Nova's own documents have five levels; clients
	// in Python stop at about a thousand.
	maxDepth = 256
	// maxCuts bounds the list of places to cut, 256 KiB, so that a document
	// made of nothing else costs no more memory than another.
	maxCuts = 16384
	// keepName is how much room for a name a pooled scanner keeps.
	keepName = 1024
)

// A span is a part of the document, by offsets.
type span struct{ from, to int }

// frame is an object or array that is being read.
type frame struct {
	node    *pointers // the pointers that go on in it, nil for none
	object  bool
	kept    bool // an item before this one stays
	index   int  // of the next item of an array
	pending int  // where the leading items that go begin, -1 if none do
	last    int  // the end of the last item, kept or not
}

// scanner walks one JSON document and notes what is to be cut out of it. It
// recurses nowhere.
type scanner struct {
	dec    jsontext.Decoder
	source bytes.Buffer // the decoder reads it in place
	body   []byte

	keys    names
	frames  []frame
	cuts    []span
	name    []byte // scratch for a name without its escapes
	removed Removed
}

// scanners keeps the decoder's and our own stacks. A cache of memory, no state.
var scanners = sync.Pool{New: func() any { return new(scanner) }}

// decoderOptions lets the same name stand twice in an object: all of them are
// judged alike. Strings must be UTF-8, the decoder's default.
var decoderOptions = jsontext.AllowDuplicateNames(true)

// getScanner makes a scanner for body.
func getScanner(body []byte) *scanner {
	s, _ := scanners.Get().(*scanner)
	s.body = body
	s.source = *bytes.NewBuffer(body)
	s.dec.Reset(&s.source, decoderOptions)
	return s
}

// put gives the scanner back, with no part of the document in it.
func (s *scanner) put() {
	s.source = bytes.Buffer{}
	s.dec.Reset(&s.source, decoderOptions)
	clear(s.name[:cap(s.name)])
	clear(s.frames[:cap(s.frames)])
	s.body, s.keys, s.frames, s.name = nil, names{}, s.frames[:0], s.name[:0]
	s.cuts, s.removed = s.cuts[:0], Removed{}
	if cap(s.name) > keepName {
		s.name = nil
	}
	scanners.Put(s)
}

// check reads the document to its end.
func (s *scanner) check() *decision.Refusal {
	if refusal := s.skip(); refusal != nil {
		return refusal
	}
	return s.end()
}

// skip reads one value whole.
func (s *scanner) skip() *decision.Refusal {
	outside := s.dec.StackDepth()
	for {
		if _, err := s.dec.ReadToken(); err != nil {
			return s.refusal(err)
		}
		switch depth := s.dec.StackDepth(); {
		case depth <= outside:
			return nil
		case depth > maxDepth:
			return tooDeep()
		}
	}
}

// scan reads the document to its end and notes what is to be cut. A document
// that is one scalar has nothing to hide.
func (s *scanner) scan(root *pointers) *decision.Refusal {
	if refusal := s.value(root); refusal != nil {
		return refusal
	}
	for len(s.frames) > 0 {
		if refusal := s.item(); refusal != nil {
			return refusal
		}
	}
	return s.end()
}

// end makes sure that nothing but white space follows the document.
func (s *scanner) end() *decision.Refusal {
	_, err := s.dec.ReadToken()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return decision.Refuse(decision.ResponseUnreadable, "json_invalid")
	default:
		return s.refusal(err)
	}
}

// value reads a scalar, or the beginning of an object or array.
func (s *scanner) value(node *pointers) *decision.Refusal {
	token, err := s.dec.ReadToken()
	if err != nil {
		return s.refusal(err)
	}
	kind := token.Kind()
	if kind != jsontext.KindBeginObject && kind != jsontext.KindBeginArray {
		s.itemEnded()
		return nil
	}
	if len(s.frames) == maxDepth {
		return tooDeep()
	}
	s.frames = append(s.frames, frame{
		node: node, object: kind == jsontext.KindBeginObject, pending: -1,
	})
	return nil
}

// item reads the next member or element of the innermost container, or its
// end.
func (s *scanner) item() *decision.Refusal {
	top := &s.frames[len(s.frames)-1]
	switch kind := s.dec.PeekKind(); {
	case kind == jsontext.KindEndObject || kind == jsontext.KindEndArray:
		if _, err := s.dec.ReadToken(); err != nil {
			return s.refusal(err)
		}
		if top.pending >= 0 && !s.cut(top.pending, top.last) {
			return tooMany()
		}
		s.frames = s.frames[:len(s.frames)-1]
		s.itemEnded()
		return nil
	case top.object && kind != jsontext.KindString:
		// No name. The decoder says what is wrong with it.
		_, err := s.dec.ReadToken()
		return s.refusal(err)
	case top.object:
		return s.member(top)
	case top.node == nil:
		// No pointer leads into this array, so its elements all stay.
		return s.value(nil)
	default:
		return s.element(top)
	}
}

// member reads a member of an object.
func (s *scanner) member(top *frame) *decision.Refusal {
	quoted, err := s.dec.ReadValue()
	if err != nil {
		return s.refusal(err)
	}
	from := int(s.dec.InputOffset()) - len(quoted)
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		if s.name, err = jsontext.AppendUnquote(s.name[:0], quoted); err != nil {
			return s.refusal(err)
		}
		name = s.name
	}
	node := top.node.child(name)
	switch {
	case strayPassword(name):
		s.removed.PasswordKeys++
	case s.keys.has(name), node != nil && node.end:
		s.removed.Keys++
	default:
		if !s.keep(top, from) {
			return tooMany()
		}
		return s.value(node)
	}
	return s.drop(top, from)
}

// element reads an element of an array that a pointer leads into.
func (s *scanner) element(top *frame) *decision.Refusal {
	// The decoder says where a token ends, not where the next begins. It has
	// already checked (PeekKind) that only one comma stands between.
	from := int(s.dec.InputOffset())
	for from < len(s.body) && isDelimiter(s.body[from]) {
		from++
	}
	s.name = strconv.AppendInt(s.name[:0], int64(top.index), 10)
	top.index++
	node := top.node.child(s.name)
	if node != nil && node.end {
		s.removed.Keys++
		return s.drop(top, from)
	}
	if !s.keep(top, from) {
		return tooMany()
	}
	return s.value(node)
}

// drop skips the value of an item that goes, and notes the cut: together with
// the delimiter before it, or, as long as nothing before it stays, with the
// one behind it.
func (s *scanner) drop(top *frame, from int) *decision.Refusal {
	if refusal := s.skip(); refusal != nil {
		return refusal
	}
	last := top.last
	top.last = int(s.dec.InputOffset())
	if !top.kept {
		if top.pending < 0 {
			top.pending = from
		}
		return nil
	}
	if !s.cut(last, top.last) {
		return tooMany()
	}
	return nil
}

// keep notes that an item that begins at from stays.
func (s *scanner) keep(top *frame, from int) bool {
	top.kept = true
	if top.pending < 0 {
		return true
	}
	pending := top.pending
	top.pending = -1
	return s.cut(pending, from)
}

// itemEnded notes in the container where its last item ended.
func (s *scanner) itemEnded() {
	if len(s.frames) > 0 {
		s.frames[len(s.frames)-1].last = int(s.dec.InputOffset())
	}
}

// cut notes a part that goes. Parts come in order; neighbours become one.
func (s *scanner) cut(from, to int) bool {
	if n := len(s.cuts); n > 0 && s.cuts[n-1].to == from {
		s.cuts[n-1].to = to
		return true
	}
	if len(s.cuts) == maxCuts {
		return false
	}
	s.cuts = append(s.cuts, span{from, to})
	return true
}

// compact moves what stays together, in the document's own memory, and wipes
// what is left behind it.
func (s *scanner) compact() []byte {
	to := s.cuts[0].from
	for i, cut := range s.cuts {
		end := len(s.body)
		if i+1 < len(s.cuts) {
			end = s.cuts[i+1].from
		}
		to += copy(s.body[to:], s.body[cut.to:end])
	}
	clear(s.body[to:])
	return s.body[:to]
}

// refusal says what is wrong with the document. The decoder's error is left
// out: it quotes names and bytes of the document.
func (s *scanner) refusal(err error) *decision.Refusal {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return decision.Refuse(decision.ResponseIncomplete, "json_cut")
	}
	return decision.Refuse(decision.ResponseUnreadable, "json_invalid")
}

// tooMany refuses a document that is mostly made of what must go.
func tooMany() *decision.Refusal {
	return decision.Refuse(decision.ResponseUnreadable, "json_removals")
}

// tooDeep refuses a document that is nested deeper than maxDepth.
func tooDeep() *decision.Refusal {
	return decision.Refuse(decision.ResponseUnreadable, "json_too_deep")
}

// isDelimiter tells whether c may stand between two values.
func isDelimiter(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ','
}
