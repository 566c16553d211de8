// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestReadDocument(t *testing.T) {
	full := strings.Repeat("x", chunkLength)
	accents := strings.Repeat("é", chunkLength) // characters, as Nova counts, not bytes
	for name, test := range map[string]struct {
		body     string
		password string
		document string // empty: none; "-": one with an empty body
		dropped  int
		refusal  string
	}{
		"members":             {body: `{"password_0":"ab","password_1":"cd"}`, password: "abcd", document: `{"password":"abcd"}`},
		"numeric order":       {body: ` {"password_2": "c", "password_0": "a", "password_1": "b"}` + "\n", password: "abc", document: `{"password":"abc"}`},
		"four":                {body: `{"password_0":"a","password_1":"b","password_2":"c","password_3":"d"}`, password: "abcd", document: `{"password":"abcd"}`},
		"empty tail":          {body: `{"password_0":"a","password_1":"","password_2":"","password_3":""}`, password: "a", document: `{"password":"a"}`},
		"all empty":           {body: `{"password_0":"","password_1":"","password_2":"","password_3":""}`, document: "-"},
		"escapes":             {body: `{"pass\u0077ord_0":"\u0061\"","password_1":"\n"}`, password: "a\"\n", document: `{"password":"a\"\n"}`},
		"strays":              {body: `{"password_":"x","password_0":"a","password_10":"y","password_evil":{"z":1},"password_4":null}`, password: "a", document: `{"password":"a"}`, dropped: 4},
		"strays alone":        {body: `{"password_evil":"x"}`},
		"stray lines alone":   {body: "password_9=whatever\n"},
		"an empty line":       {body: "password_0=\n", document: "-"},
		"an empty chunk":      {body: `{"password_0":"","password_9":"x"}`, document: "-", dropped: 1},
		"many line ends":      {body: "password_0=x\r\r\n", password: "x\r", document: "password=x\r\r\n"},
		"longest chunk":       {body: `{"password_0":"` + full + `","password_1":"y"}`, password: full + "y", document: `{"password":"` + full + `y"}`},
		"longest, accents":    {body: `{"password_0":"` + accents + `"}`, password: accents, document: `{"password":"` + accents + `"}`},
		"gap":                 {body: `{"password_0":"a","password_2":"c"}`, refusal: "response_unreadable/password_chunk_gap"},
		"no first":            {body: `{"password_1":"b"}`, refusal: "response_unreadable/password_chunk_gap"},
		"over-long":           {body: `{"password_0":"` + full + `x"}`, refusal: "response_unreadable/password_chunk_too_long"},
		"twice":               {body: `{"password_0":"a","password_\u0030":"a"}`, refusal: "response_unreadable/password_chunk_twice"},
		"null":                {body: `{"password_0":null}`, refusal: "response_unreadable/password_chunk_type"},
		"number":              {body: `{"password_0":1}`, refusal: "response_unreadable/password_chunk_type"},
		"cut in a value":      {body: `{"password_0":"a`, refusal: "response_incomplete/password_document_cut"},
		"cut after a value":   {body: `{"password_0":"a"`, refusal: "response_incomplete/password_document_cut"},
		"cut in the next":     {body: `{"password_0":"a","passw`, refusal: "response_incomplete/password_document_cut"},
		"invalid":             {body: `{"password_0":"a",}`, refusal: "response_unreadable/password_document_invalid"},
		"something behind":    {body: `{"password_0":"a"} x`, refusal: "response_unreadable/password_document_invalid"},
		"second document":     {body: `{"password_0":"a"}{}`, refusal: "response_unreadable/password_document_invalid"},
		"another member":      {body: `{"password_0":"a","other":"b"}`},
		"another first":       {body: `{"password":"z","password_0":"a"}`},
		"nested":              {body: `{"x":{"password_0":"a"}}`},
		"no members":          {body: `{}`},
		"an array":            {body: `["password_0"]`},
		"text in braces":      {body: `{password_0}`},
		"lines":               {body: "password_0=ab\npassword_1=cd\n", password: "abcd", document: "password=abcd\n"},
		"lines in any order":  {body: "password_1=cd\r\npassword_0=ab\r\n", password: "abcd", document: "password=abcd\r\n"},
		"no last line end":    {body: "password_0=ab\npassword_1=cd", password: "abcd", document: "password=abcd"},
		"colons":              {body: "password_0: ab\npassword_1:  cd", password: "ab cd", document: "password: ab cd"},
		"a value with equals": {body: "password_0=ab=\npassword_1==cd:", password: "ab==cd:", document: "password=ab==cd:"},
		"stray lines":         {body: "password_evil=x\npassword_0=ab\npassword_10=y\n", password: "ab", document: "password=ab\n", dropped: 2},
		"lines, gap":          {body: "password_0=ab\npassword_3=cd\n", refusal: "response_unreadable/password_chunk_gap"},
		"lines, twice":        {body: "password_0=ab\npassword_0=cd\n", refusal: "response_unreadable/password_chunk_twice"},
		"lines, over-long":    {body: "password_0=" + full + "x", refusal: "response_unreadable/password_chunk_too_long"},
		"another line":        {body: "password_0=ab\nother=cd\n"},
		"a blank line":        {body: "password_0=ab\n\n"},
		"a line with no key":  {body: "password_0\n"},
		"plain":               {body: "Pa55word="},
		"empty":               {body: ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := strings.Clone(test.body)
			body := []byte(test.body)
			got, refusal := ReadDocument(body)
			if code := refusalCode(refusal); code != test.refusal {
				t.Fatalf("got %q, want %q", code, test.refusal)
			}
			if string(body) != before {
				t.Error("the answer was changed")
			}
			if got == nil {
				if test.document != "" {
					t.Error("no document")
				}
				return
			}
			if string(got.Password) != test.password || string(got.Body) != strings.TrimPrefix(test.document, "-") || got.Dropped != test.dropped {
				t.Errorf("got %q %q %d", got.Password, got.Body, got.Dropped)
			}
		})
	}
}

// Nothing but the keys on the list gets into a document, nothing is lost of
// those, and what comes out says the same when it is read by others.
func FuzzReadDocument(f *testing.F) {
	for _, seed := range []string{
		`{"password_0":"ab","password_1":"cd"}`, `{"password_3":"\ud83d\ude00","password_0":""}`, `{"password_evil":"MARK","password_0":"a"}`,
		`{"password_0":"a","x":"MARK"}`, "password_0=ab\npassword_1=cd\n", "password_0: ab\r\npassword_9: MARK\r\n", `{"password_0":"a`, "{", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, refusal := ReadDocument(body)
		if refusal != nil && got != nil {
			t.Fatal("a document and a refusal")
		}
		if got == nil {
			return
		}
		if len(got.Password) == 0 || len(got.Body) == 0 {
			if len(got.Password)+len(got.Body) > 0 {
				t.Fatalf("%q of %q", got.Body, got.Password)
			}
			return
		}
		if body = bytes.TrimLeft(body, " \t\r\n"); body[0] != '{' {
			for _, separator := range []string{"=", ":", ": "} {
				for _, end := range []string{"", "\n", "\r\n"} {
					if string(got.Body) == "password"+separator+string(got.Password)+end {
						return
					}
				}
			}
			t.Fatalf("%q of %q", got.Body, got.Password)
		}
		var shown, stored map[string]any
		if err := json.Unmarshal(got.Body, &shown); err != nil {
			t.Fatalf("%q: %v", got.Body, err)
		}
		if len(shown) != 1 || shown["password"] != string(got.Password) {
			t.Fatalf("%q is not %q", got.Body, got.Password)
		}
		if err := json.Unmarshal(body, &stored); err != nil {
			t.Fatalf("a document of what is none: %q", body)
		}
		want := ""
		for number := range chunkCount {
			if chunk, ok := stored[fmt.Sprint(chunkPrefix, number)].(string); ok {
				want += chunk
			}
		}
		if want != string(got.Password) {
			t.Fatalf("%q gives %q, want %q", body, got.Password, want)
		}
	})
}

func refusalCode(refusal *decision.Refusal) string {
	if refusal == nil {
		return ""
	}
	return string(refusal.Reason) + "/" + refusal.Code
}
