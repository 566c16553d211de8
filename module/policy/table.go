// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"hash/maphash"
	"iter"
	"maps"
	"math/bits"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

const (
	// tableFrom is how many members make a table of an object.
	tableFrom = 1024
	// maxText is the length of a value that is read out of the text when it is asked
	// for, in bytes. A longer one is kept beside it.
	maxText = 4 << 10
	// maxSharedText and maxSharedValues bound the values of a table that are kept as well.
	maxSharedText   = 256
	maxSharedValues = 1024
)

// table is an object with many members. It is kept as the text that it came in, with an
// index of its names: a million grants that were a million objects would be followed by
// each collection of garbage, and made of several times as much of it. Values that are
// alike, such as the few lists of grants of a million callers, are kept once.
type table struct {
	text []byte
	own  []byte // what of the text is this object
	// slots has the places of the names in the text, each plus one, by the hashes of the
	// names, and after those who were there before. Zero is free.
	slots places
	seed  maphash.Seed
	count int
	// escaped tells that names are written with escapes.
	escaped bool
	// long has values that are not read out of the text, by the places of their names.
	long map[uint32]any
	// shared has some values by their text.
	shared map[string]any
}

// errReadBefore is a defect of ours. It must not become a value: who is listed would be
// listed no more.
const errReadBefore = "policy: text of the data that was read before cannot be read"

func newTable(text []byte) *table {
	return &table{text: text, seed: maphash.MakeSeed(), long: map[uint32]any{}, shared: map[string]any{}}
}

// share keeps a value that is likely to come again.
func (t *table) share(text []byte, value any) {
	if t.shares(text) {
		t.shared[string(text)] = value
	}
}

func (t *table) shares(text []byte) bool {
	return len(text) <= maxSharedText && len(t.shared) < maxSharedValues
}

// index makes the table of its names, by their places, or gives the place of one that is
// there twice.
func (t *table) index(names places, p *pace.Pace) (twice uint32, ok bool) {
	t.count = names.count()
	t.slots = newPlaces(2<<bits.Len(uint(t.count)), p) // at most half of it is taken
	for _, page := range names {
		for _, at := range page {
			p.Step()
			slot := t.slot(t.name(at))
			if *slot != 0 {
				return at, false
			}
			*slot = at + 1
		}
	}
	return 0, true
}

// slot is where a name is, or where it would be.
func (t *table) slot(name string) *uint32 {
	last := t.slots.count() - 1
	for i := int(maphash.String(t.seed, name)) & last; ; i = (i + 1) & last {
		if slot := t.slots.at(i); *slot == 0 || t.isNamed(*slot-1, name) {
			return slot
		}
	}
}

// isNamed tells whether the name at this place is that one.
func (t *table) isNamed(at uint32, name string) bool {
	if t.escaped {
		return t.name(at) == name
	}
	rest := t.text[at+1:]
	return len(rest) > len(name) && rest[len(name)] == '"' && string(rest[:len(name)]) == name
}

// find gives the place of a name.
func (t *table) find(name string) (at uint32, ok bool) {
	if !t.escaped && strings.Contains(name, `"`) {
		return 0, false // it could be that of a name, and more after it
	}
	place := *t.slot(name)
	return place - 1, place != 0
}

// quoted is the name at a place as it is written.
func (t *table) quoted(at uint32) []byte {
	return t.text[at:][:textEnd(t.text[at:])]
}

// name is the name at a place.
func (t *table) name(at uint32) string {
	quoted := t.quoted(at)
	if name := quoted[1 : len(quoted)-1]; !t.escaped || bytes.IndexByte(name, '\\') < 0 {
		return util.ByteSliceToString(name) // of the text, which never changes
	}
	name, err := unquote(quoted)
	if err != nil {
		panic(errReadBefore)
	}
	return name
}

// valueText is the value of the name at a place as it is written.
func (t *table) valueText(at uint32) []byte {
	rest := afterColon(t.text[int(at)+len(t.quoted(at)):])
	return rest[:textEnd(rest)]
}

// places are those of all names, in no order.
func (t *table) places() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for _, page := range t.slots {
			for _, place := range page {
				if place != 0 && !yield(place-1) {
					return
				}
			}
		}
	}
}

// value is that of the name at a place, as it was read.
func (t *table) value(at uint32) any {
	if value, ok := t.long[at]; ok {
		return value
	}
	text := t.valueText(at)
	if value, ok := t.shared[string(text)]; ok {
		return value
	}
	value, err := readJSON(text)
	if err != nil {
		panic(errReadBefore)
	}
	return value
}

// MarshalJSON implements json.Marshaler, of the value: OPA encodes what a pointer leads to.
func (t table) MarshalJSON() ([]byte, error) { return t.own, nil }

// object is the same as an ordinary object.
func (t *table) object() map[string]any {
	object := make(map[string]any, t.count)
	members, _ := membersOf(t)
	maps.Insert(object, members)
	return object
}

// objectOf is value as an ordinary object, if it is an object.
func objectOf(value any) (object map[string]any, ok bool) {
	if t, ok := value.(*table); ok {
		return t.object(), true
	}
	object, ok = value.(map[string]any)
	return object, ok
}

// membersOf are the members of value, if it is an object, in no order. Those of a table
// are read one after another.
func membersOf(value any) (members iter.Seq2[string, any], ok bool) {
	switch value := value.(type) {
	case *table:
		return func(yield func(string, any) bool) {
			for at := range value.places() {
				if !yield(value.name(at), value.value(at)) {
					return
				}
			}
		}, true
	case map[string]any:
		return maps.All(value), true
	}
	return nil, false
}

// plain is value without tables.
func plain(value any) any {
	switch value := value.(type) {
	case *table:
		return plain(value.object())
	case map[string]any:
		object := make(map[string]any, len(value))
		for name, member := range value {
			object[name] = plain(member)
		}
		return object
	case []any:
		array := make([]any, len(value))
		for i, item := range value {
			array[i] = plain(item)
		}
		return array
	}
	return value
}

// afterColon is the text from the value on whose name stands before it.
func afterColon(text []byte) []byte {
	return bytes.TrimLeft(bytes.TrimLeft(text, " \t\r\n")[1:], " \t\r\n")
}

// textEnd is where the value ends that begins the text. It is right for JSON only, and
// the length of the text where the value does not end within it.
func textEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		default: // a number or a word
			for i+1 < len(text) && !endsWord(text[i+1]) {
				i++
			}
		}
		if depth == 0 {
			return min(i+1, len(text))
		}
	}
	return len(text)
}

func endsWord(c byte) bool {
	switch c {
	case ',', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}
