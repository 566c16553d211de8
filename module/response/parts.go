// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"iter"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/metaguard/metaguard/module/decision"
)

// Entries gives the names in a listing, as RedactListing reads them, but with
// the slash that marks a directory: "0=name" is "0". Blank lines name nothing, and
// neither does "/". A blank beside a name is part of it, as it is where it is hidden.
func Entries(a *Answer) iter.Seq[string] {
	return func(yield func(string) bool) {
		for body := a.Body; len(body) > 0; {
			line, end := nextLine(body)
			body = body[len(line)+end:]
			name, _, _ := bytes.Cut(line, []byte("="))
			if len(bytes.TrimSpace(name)) == 0 || string(name) == "/" {
				continue
			}
			if !yield(string(name)) {
				return
			}
		}
	}
}

// EachMember visits the members of a JSON document, those of an array as well,
// each before its own, with its pointer (RFC 6901) and the names on the way to
// it. visit tells whether to go on below it. The document must be what CheckJSON
// takes.
//
//	response_unreadable   json_invalid
func EachMember(a *Answer, visit func(pointer string, names []string) (below bool, _ *decision.Refusal)) *decision.Refusal {
	if refusal := CheckJSON(a); refusal != nil {
		return refusal
	}
	// CheckJSON takes a name that is there twice; RedactJSON removes both.
	m := members{jsontext.NewDecoder(bytes.NewReader(a.Body), jsontext.AllowDuplicateNames(true)), visit}
	return m.value("", nil)
}

// members is a walk through a document that CheckJSON took.
type members struct {
	decoder *jsontext.Decoder
	visit   func(pointer string, names []string) (bool, *decision.Refusal)
}

// value visits the members of the value that comes next, if it has any.
func (m *members) value(pointer string, names []string) *decision.Refusal {
	kind := m.decoder.PeekKind()
	if kind != '{' && kind != '[' {
		return readable(m.decoder.SkipValue())
	}
	if _, err := m.decoder.ReadToken(); err != nil {
		return readable(err)
	}
	for index := 0; ; index++ {
		if next := m.decoder.PeekKind(); next == '}' || next == ']' {
			_, err := m.decoder.ReadToken()
			return readable(err)
		}
		name := strconv.Itoa(index)
		if kind == '{' {
			token, err := m.decoder.ReadToken()
			if err != nil {
				return readable(err)
			}
			name = token.String()
		}
		if refusal := m.member(pointer+"/"+escapeToken(name), append(names[:len(names):len(names)], name)); refusal != nil {
			return refusal
		}
	}
}

// member visits one, and then its own.
func (m *members) member(pointer string, names []string) *decision.Refusal {
	below, refusal := m.visit(pointer, names)
	switch {
	case refusal != nil:
		return refusal
	case below:
		return m.value(pointer, names)
	}
	return readable(m.decoder.SkipValue())
}

// escapeToken writes "/" as "~1" and "~" as "~0".
func escapeToken(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// readable keeps the words of a decoder back, which may quote the document.
func readable(err error) *decision.Refusal {
	if err != nil {
		return decision.Refuse(decision.ResponseUnreadable, "json_invalid")
	}
	return nil
}
