// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// node is a JSON document as another parser (encoding/json) reads it, with
// order, repeated names and numbers as they came.
type node struct {
	kind   byte // '{', '[' or 's' for a scalar
	scalar string
	names  []string
	items  []node
}

// parse reads one document with encoding/json.
func parse(body []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	return parseValue(dec)
}

func parseValue(dec *json.Decoder) (node, error) {
	token, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		text, err := json.Marshal(token)
		return node{kind: 's', scalar: string(text)}, err
	}
	n := node{kind: byte(delim)}
	for dec.More() {
		if n.kind == '{' {
			name, err := dec.Token()
			if err != nil {
				return node{}, err
			}
			n.names = append(n.names, name.(string))
		}
		item, err := parseValue(dec)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err = dec.Token()
	return n, err
}

// model removes from a parsed document what RedactJSON should, in the plainest
// way.
func (n node) model(path string, pointers, keys []string, removed *int) node {
	out := node{kind: n.kind, scalar: n.scalar}
	for i, item := range n.items {
		token := strconv.Itoa(i)
		hide := false
		if n.kind == '{' {
			token = n.names[i]
			chunk, stray := strings.CutPrefix(token, "password_")
			hide = slices.Contains(keys, token) || stray && !slices.Contains([]string{"0", "1", "2", "3"}, chunk)
		}
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
		if hide || slices.Contains(pointers, at) {
			*removed++
			continue
		}
		if n.kind == '{' {
			out.names = append(out.names, token)
		}
		out.items = append(out.items, item.model(at, pointers, keys, removed))
	}
	return out
}

func (n node) equal(other node) bool {
	return n.kind == other.kind && n.scalar == other.scalar && slices.Equal(n.names, other.names) &&
		slices.EqualFunc(n.items, other.items, node.equal)
}

func FuzzRedactJSON(f *testing.F) {
	for _, body := range []string{
		`{"a":1,"admin_pass":"x","b":[{"admin_pass":2}]}`,
		`{"\u0061dmin_pass":1, "meta" : {"admin_pass":1,"k":2} }`,
		`{"password_0":1,"password_9":2,"p\u0061ssword_":{"password_1":3}}`,
		`[ 1 , 2.50e+1, [3], {"0":[]} ] `,
		`{"a/b":{"m~n":[0,1,2]},"":{"":""}}`,
		`{"admin_pass":1,"admin_pass":2,"a":3,"a":4}`,
		`"admin_pass"`, `null`, ``, `{`, `{"a":1}{}`, "\xef\xbb\xbf{}", "{\"\xff\":1}", `{"\ud800":1}`, `{"admin_pass":`, `{[`,
		strings.Repeat("[", 300) + strings.Repeat("]", 300),
	} {
		for _, pointer := range []string{"", "/meta/admin_pass", "/a~1b/m~0n/1", "/0", "//", "/b/0/admin_pass"} {
			f.Add([]byte(body), pointer, "admin_pass", "k")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, pointer, key1, key2 string) {
		var pointers []string
		if pointer != "" {
			pointers = []string{pointer, "/meta/admin_pass"}
		}
		keys := []string{key1, key2}
		a := answerOf(string(body))
		removed, refusal := RedactJSON(a, pointers, keys)
		checked := CheckJSON(answerOf(string(body)))
		if refusal != nil {
			if !bytes.Equal(a.Body, body) || removed != (Removed{}) {
				t.Fatal("changed what it refused")
			}
			if refusal.Reason != "policy_malformed" && code(checked) != code(refusal) {
				t.Fatalf("CheckJSON says %q, RedactJSON %q", code(checked), code(refusal))
			}
			return
		}
		if checked != nil {
			t.Fatalf("took what CheckJSON refuses: %v", checked)
		}
		if !json.Valid(body) || !json.Valid(a.Body) {
			t.Fatalf("no document: %q", a.Body)
		}
		if CheckJSON(a) != nil {
			t.Fatalf("would not take its own output: %q", a.Body)
		}
		before, err := parse(body)
		if err != nil {
			t.Fatal(err)
		}
		after, err := parse(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		if want := before.model("", pointers, keys, &count); !want.equal(after) || removed.Total() != count {
			t.Fatalf("%q became %q, %d removed; want %+v, %d", body, a.Body, removed.Total(), want, count)
		}
		if removed.Total() == 0 && !bytes.Equal(a.Body, body) {
			t.Fatal("changed without a reason")
		}
		if !isSubsequence(a.Body, body) {
			t.Fatalf("%q is not made of parts of %q", a.Body, body)
		}
		again, refusal := RedactJSON(answerOf(string(a.Body)), nil, keys)
		if refusal != nil || again.Total() != 0 {
			t.Fatalf("a second time removes %d more (%v)", again.Total(), refusal)
		}
	})
}

// isSubsequence tells whether part is whole with some bytes left out.
func isSubsequence(part, whole []byte) bool {
	for _, c := range part {
		at := bytes.IndexByte(whole, c)
		if at < 0 {
			return false
		}
		whole = whole[at+1:]
	}
	return true
}

func FuzzRedactListing(f *testing.F) {
	for _, body := range []string{
		"meta_data.json\nuser_data\npassword\nvendor_data.json", "a\r\npassword\r\n", "password", "\n\npassword/\n\r\n", "0=mykey\n1=other",
		"password_0\npassword_9\npassword_", "1\x1c\npassword_", "a\n\npassword", "a\rpassword\vpassword\x1e", "",
	} {
		f.Add([]byte(body), "password", "0")
	}
	f.Fuzz(func(t *testing.T, body []byte, hidden1, hidden2 string) {
		hidden := []string{hidden1, hidden2}
		a := answerOf(string(body))
		removed := RedactListing(a, hidden)
		// The same, in the plainest way.
		lines := func(text string) (all []string) {
			text = strings.ReplaceAll(text, "\r\n", "\n")
			return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\r\n\v\f\x1c\x1d\x1e", r) })
		}
		hides := func(line string) bool {
			name, _, _ := strings.Cut(line, "=")
			name = strings.TrimSuffix(name, "/")
			chunk, stray := strings.CutPrefix(name, "password_")
			if stray && !slices.Contains([]string{"0", "1", "2", "3"}, chunk) {
				return true
			}
			for _, h := range hidden {
				if h = strings.TrimSuffix(h, "/"); h != "" && (h == name || h == line) {
					return true
				}
			}
			return false
		}
		before := lines(string(body))
		want := slices.DeleteFunc(slices.Clone(before), hides)
		after := lines(string(a.Body))
		if !slices.Equal(after, want) || removed.Total() != len(before)-len(want) {
			t.Fatalf("%q became %q, %+v", body, a.Body, removed)
		}
		if removed.Total() == 0 && !bytes.Equal(a.Body, body) {
			t.Fatal("changed without a reason")
		}
		if !isSubsequence(a.Body, body) {
			t.Fatalf("%q is not made of parts of %q", a.Body, body)
		}
		ends := func(text []byte) bool {
			return len(text) > 0 && strings.ContainsRune(lineEnds, rune(text[len(text)-1]))
		}
		if len(want) > 0 && ends(body) != ends(a.Body) {
			t.Fatalf("%q became %q: another end", body, a.Body)
		}
	})
}
