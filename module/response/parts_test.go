// SPDX-License-Identifier: Apache-2.0

package response

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestEntries(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want []string
	}{
		"none":                {"", nil},
		"blank lines":         {"\n\n \r\n\t\n", nil},
		"one, no line end":    {"a", []string{"a"}},
		"a directory":         {"a/\nb", []string{"a/", "b"}},
		"CRLF":                {"a\r\nb\r\n", []string{"a", "b"}},
		"an entry and a name": {"0=mine\n1=a=b\n", []string{"0", "1"}},
		"only a name":         {"=x\na", []string{"a"}},
		"blanks around":       {"  a \n\tb", []string{"  a ", "\tb"}},
		"a slash":             {"/\n/=x\n//", []string{"//"}},
		"twice":               {"a\na\n", []string{"a", "a"}},
		"a path":              {"a/b//c\n../x", []string{"a/b//c", "../x"}},
		"no UTF-8":            {"\xff\na", []string{"\xff", "a"}},
	} {
		a := &Answer{Body: []byte(test.body)}
		if got := slices.Collect(Entries(a)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		for first := range Entries(a) {
			if first != test.want[0] {
				t.Errorf("%s: %q comes first", name, first)
			}
			break
		}
	}
}

// visited lists the members of a document. below tells of which it is asked to go on.
func visited(body string, below func(pointer string) bool) (pointers, names []string, refusal *decision.Refusal) {
	refusal = EachMember(&Answer{Body: []byte(body)}, func(pointer string, way []string) (bool, *decision.Refusal) {
		pointers, names = append(pointers, pointer), append(names, strings.Join(way, " "))
		return below(pointer), nil
	})
	return pointers, names, refusal
}

func everywhere(string) bool { return true }

func TestEachMember(t *testing.T) {
	for name, test := range map[string]struct{ body, pointers, names, code string }{
		"scalar":              {`1`, "", "", ""},
		"nothing in it":       {`{}`, "", "", ""},
		"members":             {`{"b": 1, "a": "x"}`, "/b /a", "b|a", ""},
		"elements":            {`[null, true]`, "/0 /1", "0|1", ""},
		"each before its own": {`{"a": {"b": [1, {"c": 2}]}, "d": 3}`, "/a /a/b /a/b/0 /a/b/1 /a/b/1/c /d", "a|a b|a b 0|a b 1|a b 1 c|d", ""},
		"escapes":             {`{"a/b": 1, "m~n": {"~1": 2}, "\u0078": 3}`, "/a~1b /m~0n /m~0n/~01 /x", "a/b|m~n|m~n ~1|x", ""},
		"no name":             {`{"": {"": 1}}`, "/ //", "| ", ""},
		"twice":               {`{"a": 1, "a": {"b": 2}}`, "/a /a /a/b", "a|a|a b", ""},
		"cut":                 {`{"a": 1`, "", "", "json_cut"},
		"no document":         {`a`, "", "", "json_invalid"},
		"two documents":       {`{} {}`, "", "", "json_invalid"},
		"deep":                {strings.Repeat("[", 300) + strings.Repeat("]", 300), "", "", "json_too_deep"},
	} {
		pointers, names, refusal := visited(test.body, everywhere)
		if test.code != "" {
			if refusal == nil || refusal.Code != test.code || len(pointers) != 0 {
				t.Errorf("%s: %v after %q, want %s before anything is visited", name, refusal, pointers, test.code)
			}
			continue
		}
		if refusal != nil || strings.Join(pointers, " ") != test.pointers || strings.Join(names, "|") != test.names {
			t.Errorf("%s: %q, %q, %v", name, pointers, names, refusal)
		}
	}
}

func TestEachMemberGoesWhereItIsTold(t *testing.T) {
	const body = `{"a": {"b": {"c": 1}}, "d": [{"e": 2}], "f": 3}`
	got, _, refusal := visited(body, func(pointer string) bool { return pointer != "/a" })
	if want := "/a /d /d/0 /d/0/e /f"; refusal != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v, want %s", got, refusal, want)
	}
	stop := decision.Refuse(decision.PolicyError, "stop")
	visits := 0
	refusal = EachMember(&Answer{Body: []byte(body)}, func(string, []string) (bool, *decision.Refusal) {
		if visits++; visits == 2 {
			return true, stop
		}
		return true, nil
	})
	if refusal != stop || visits != 2 {
		t.Errorf("%v after %d visits", refusal, visits)
	}
}

// What is visited stays what it was: names are not written over later.
func TestEachMemberKeepsNames(t *testing.T) {
	var kept [][]string
	_ = EachMember(&Answer{Body: []byte(`{"a": {"b": 1, "c": {"d": {"g": 4, "h": 5}}}, "e": {"f": 3}}`)}, func(_ string, names []string) (bool, *decision.Refusal) {
		kept = append(kept, names)
		return true, nil
	})
	var all []string
	for _, names := range kept {
		all = append(all, strings.Join(names, "/"))
	}
	if got := strings.Join(all, " "); got != "a a/b a/c a/c/d a/c/d/g a/c/d/h e e/f" {
		t.Error(got)
	}
}

// Whatever is visited is named as RedactJSON names it: without it, the document
// is what another parser makes of it without that member.
func FuzzEachMember(f *testing.F) {
	for _, seed := range []string{`{"a": {"b": [1, {"c": 2}]}, "a": 3}`, `[[], {"": {"~/": 1}}]`, `"x"`, `{"\u0061/": 1e400, "a~1": {}}`, `[`} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		pointers, names, refusal := visited(string(body), everywhere)
		if checked := CheckJSON(&Answer{Body: slices.Clone(body)}); (checked == nil) != (refusal == nil) {
			t.Fatalf("CheckJSON says %v, EachMember %v", checked, refusal)
		}
		if refusal != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q was visited", body)
		}
		if members := countMembers(body); members != len(pointers) || len(names) != len(pointers) {
			t.Fatalf("%d visits, %d members", len(pointers), members)
		}
		if len(pointers) == 0 || n < 0 {
			return
		}
		at := n % len(pointers)
		removed := &Answer{Body: slices.Clone(body)}
		count, refusal := RedactJSON(removed, pointers[at:at+1], nil)
		if refusal != nil {
			t.Fatalf("%s: %v", pointers[at], refusal)
		}
		left, _, refusal := visited(string(removed.Body), everywhere)
		if refusal != nil || len(left) >= len(pointers) {
			t.Fatalf("%s was not removed: %+v, %q, %v", pointers[at], count, removed.Body, refusal)
		}
	})
}

// countMembers counts members and elements as encoding/json reads them, those of
// repeated names too.
func countMembers(body []byte) int {
	root, err := parse(body)
	if err != nil {
		return -1
	}
	var count func(n node) int
	count = func(n node) int {
		total := len(n.items)
		for _, item := range n.items {
			total += count(item)
		}
		return total
	}
	return count(root)
}

// What Entries names, RedactListing removes, all of it.
func FuzzEntries(f *testing.F) {
	for _, seed := range []string{"a\nb/\n", "0=x\r\n\r\n=y", " a \v\n/\n", "password\npassword/"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		entries := slices.Collect(Entries(&Answer{Body: body}))
		a := &Answer{Body: slices.Clone(body)}
		RedactListing(a, entries)
		for entry := range Entries(a) {
			t.Fatalf("%q is left of %q", entry, body)
		}
	})
}
