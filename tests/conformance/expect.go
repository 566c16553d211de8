// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// summary says in a few words what is expected, from the transcript alone.
func (e *expectation) summary() string {
	var words []string
	for _, status := range e.statuses() {
		words = append(words, strconv.Itoa(status))
	}
	text := strings.Join(words, "|")
	for _, part := range []struct {
		is   bool
		word string
	}{
		{len(e.Headers) > 0, "headers"},
		{e.Body != nil || e.Pattern.Regexp != nil, "body"},
		{!e.JSON.empty(), "json"},
		{!e.Listing.empty(), "listing"},
	} {
		if part.is {
			text += " " + part.word
		}
	}
	return text
}

func (e *expectation) statuses() []int {
	if len(e.Status) == 0 {
		return []int{http.StatusOK}
	}
	return e.Status
}

// judge tells what is wrong with an answer; an empty text is nothing. It quotes
// the transcript, as it is written, and never the answer's body.
func (e *expectation) judge(got *answer, v *variables) string {
	if !slices.Contains(e.statuses(), got.status) {
		return "another status"
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		values := got.header.Values(name)
		if len(values) == 0 {
			return "no header " + name
		}
		if !e.Headers[name].MatchString(strings.Join(values, ", ")) {
			return "header " + name + " has another value"
		}
	}
	if got.status/100 != 2 {
		// A refusal that the client lives with has nothing of what a success has in its body.
		return ""
	}
	if e.Body != nil {
		if want, err := v.expand(*e.Body, plain); err != nil || want != got.body {
			return "another body"
		}
	}
	if e.Pattern.Regexp != nil && !e.Pattern.MatchString(got.body) {
		return "the body does not match"
	}
	if wrong := e.judgeJSON(got.body); wrong != "" {
		return wrong
	}
	return e.judgeListing(got.body, v)
}

func (e *expectation) judgeJSON(body string) string {
	if e.JSON.empty() {
		return ""
	}
	document, err := decodeJSON(body)
	if err != nil {
		return "no JSON document"
	}
	for _, pointer := range e.JSON.Has {
		if _, found := member(document, pointer); !found {
			return "no member " + pointer
		}
	}
	for _, pointer := range e.JSON.Lacks {
		if _, found := member(document, pointer); found {
			return "a member " + pointer
		}
	}
	return ""
}

func (e *expectation) judgeListing(body string, v *variables) string {
	entries := lines(body)
	for _, entry := range e.Listing.Has {
		if want, err := v.expand(entry, plain); err != nil || !slices.Contains(entries, want) {
			return "no entry " + entry
		}
	}
	for _, entry := range e.Listing.Lacks {
		if unwanted, err := v.expand(entry, plain); err != nil || slices.Contains(entries, unwanted) {
			return "an entry " + entry
		}
	}
	return ""
}

// lines are the entries of a listing.
func lines(body string) []string {
	var entries []string
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" {
			entries = append(entries, line)
		}
	}
	return entries
}

func decodeJSON(body string) (any, error) {
	var document any
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, fmt.Errorf("something follows the document")
	}
	return document, nil
}

var pointerEscapes = strings.NewReplacer("~1", "/", "~0", "~")

// member follows a JSON pointer (RFC 6901).
func member(document any, pointer string) (any, bool) {
	if pointer == "" {
		return document, true
	}
	for _, token := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		token = pointerEscapes.Replace(token)
		switch at := document.(type) {
		case map[string]any:
			inner, found := at[token]
			if !found {
				return nil, false
			}
			document = inner
		case []any:
			index, err := strconv.Atoi(token)
			if err != nil || index < 0 || index >= len(at) {
				return nil, false
			}
			document = at[index]
		default:
			return nil, false
		}
	}
	return document, true
}

// keep saves what a step says of an answer. It tells what was not there.
func (s *step) keep(got *answer, v *variables) string {
	for _, name := range slices.Sorted(maps.Keys(s.Save)) {
		what := s.Save[name]
		switch {
		case what.Header != "":
			value := got.header.Get(what.Header)
			if value == "" {
				return "no header " + what.Header
			}
			v.values[name] = value
		case what.Body:
			v.values[name] = strings.TrimSpace(got.body)
		case what.JSON != "":
			document, err := decodeJSON(got.body)
			value, found := member(document, what.JSON)
			if err != nil || !found {
				return "no member " + what.JSON
			}
			v.values[name] = fmt.Sprint(value)
		case what.Entries.Regexp != nil:
			v.lists[name] = nil
			for _, entry := range lines(got.body) {
				if found := what.Entries.FindStringSubmatch(entry); found != nil {
					v.lists[name] = append(v.lists[name], found[1])
				}
			}
		default:
			v.values[name] = what.choose(lines(got.body))
		}
	}
	return ""
}

func (s saving) choose(entries []string) string {
	for _, choice := range s.Choose {
		if slices.Contains(entries, choice) {
			return choice
		}
	}
	return s.Otherwise
}
