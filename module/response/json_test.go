// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// answerOf makes an answer with a body of its own memory.
func answerOf(body string) *Answer {
	return &Answer{Status: http.StatusOK, Header: http.Header{}, Body: []byte(body)}
}

// code is what a refusal is recognised by.
func code(refusal *decision.Refusal) string {
	if refusal == nil {
		return ""
	}
	return string(refusal.Reason) + "/" + refusal.Code
}

func TestRedactJSON(t *testing.T) {
	tests := map[string]struct {
		in       string
		pointers []string
		keys     []string
		want     string
		removed  Removed
	}{
		"nothing to hide": {
			in:   "{ \"a\" : 1.50e+2,\n\t\"b\":[1 , 2],\"a\":\"\\u0041\" } \n",
			want: "{ \"a\" : 1.50e+2,\n\t\"b\":[1 , 2],\"a\":\"\\u0041\" } \n",
		},
		"first": {
			in: `{ "x" : 1 , "b": 2 }`, keys: []string{"x"},
			want: `{ "b": 2 }`, removed: Removed{Keys: 1},
		},
		"middle": {
			in: `{"a":1, "x":2, "b":3}`, keys: []string{"x"},
			want: `{"a":1, "b":3}`, removed: Removed{Keys: 1},
		},
		"last": {
			in: `{"a":1 , "x":2 }`, keys: []string{"x"},
			want: `{"a":1 }`, removed: Removed{Keys: 1},
		},
		"only": {
			in: `{ "x":{"deep":[1,{}]} }`, keys: []string{"x"},
			want: `{  }`, removed: Removed{Keys: 1},
		},
		"all of several": {
			in: `{"x":1,"y":2 ,"x":3}`, keys: []string{"x", "y"},
			want: `{}`, removed: Removed{Keys: 3},
		},
		"first two and last two": {
			in: `{"x":1,"x":2,"a":0,"x":3,"x":4}`, keys: []string{"x"},
			want: `{"a":0}`, removed: Removed{Keys: 4},
		},
		"every other": {
			in: `{"a":0,"x":1,"b":0,"x":2,"c":0}`, keys: []string{"x"},
			want: `{"a":0,"b":0,"c":0}`, removed: Removed{Keys: 2},
		},
		"any depth": {
			in: `{"m":{"x":1,"n":[[{"x":[],"y":2}],{"x":null}]}}`, keys: []string{"x"},
			want: `{"m":{"n":[[{"y":2}],{}]}}`, removed: Removed{Keys: 3},
		},
		"hidden inside hidden counts once": {
			in: `{"x":{"x":1},"a":1}`, keys: []string{"x"},
			want: `{"a":1}`, removed: Removed{Keys: 1},
		},
		"repeated name": {
			in: `{"admin_pass":"a","b":1,"admin_pass":"c"}`, keys: []string{"admin_pass"},
			want: `{"b":1}`, removed: Removed{Keys: 2},
		},
		"escaped spellings": {
			in:      `{"\u0061dmin_pass":1,"admin\u005Fpass":2,"admin_pas\u0073":3,"b":4}`,
			keys:    []string{"admin_pass"},
			want:    `{"b":4}`,
			removed: Removed{Keys: 3},
		},
		"a hidden name with a slash, a quote and a smile": {
			in: `{"a\/b":1,"\"":2,"\ud83d\ude00":3,"😀":4,"k":5}`, keys: []string{"a/b", `"`, "😀"},
			want: `{"k":5}`, removed: Removed{Keys: 4},
		},
		"names are exact": {
			in: `{"Admin_Pass":1,"admin_pass ":2,"admin_passx":3,"xadmin_pass":4}`, keys: []string{"admin_pass"},
			want: `{"Admin_Pass":1,"admin_pass ":2,"admin_passx":3,"xadmin_pass":4}`,
		},
		"a value is no name": {
			in: `{"a":"x","b":["x"]}`, keys: []string{"x"},
			want: `{"a":"x","b":["x"]}`,
		},
		"empty name": {
			in: `{"":1,"a":2}`, keys: []string{""},
			want: `{"a":2}`, removed: Removed{Keys: 1},
		},
		"password keys without a policy": {
			in:      `{"password_0":0,"password_3":3,"password_4":4,"password_":5,"password_00":6,"Password_9":7,"password":8,"\u0070assword_evil":9}`,
			want:    `{"password_0":0,"password_3":3,"Password_9":7,"password":8}`,
			removed: Removed{PasswordKeys: 4},
		},
		"password keys that the policy hides": {
			in: `{"password_0":0,"password_1":1}`, keys: []string{"password_0"},
			want: `{"password_1":1}`, removed: Removed{Keys: 1},
		},
		"pointer to a member": {
			in: `{"meta":{"admin_pass":1,"b":2},"admin_pass":3}`, pointers: []string{"/meta/admin_pass"},
			want: `{"meta":{"b":2},"admin_pass":3}`, removed: Removed{Keys: 1},
		},
		"pointer to an object": {
			in: `{"meta":{"admin_pass":1,"b":2},"c":3}`, pointers: []string{"/meta"},
			want: `{"c":3}`, removed: Removed{Keys: 1},
		},
		"pointer escapes": {
			in: `{"a/b":{"m~n":1,"~1":2,"k":3}}`, pointers: []string{"/a~1b/m~0n", "/a~1b/~01"},
			want: `{"a/b":{"k":3}}`, removed: Removed{Keys: 2},
		},
		"pointer through an escaped name": {
			in: `{"m\u0065ta":{"\u0078":1,"b":2}}`, pointers: []string{"/meta/x"},
			want: `{"m\u0065ta":{"b":2}}`, removed: Removed{Keys: 1},
		},
		"pointer through a repeated name": {
			in: `{"m":{"x":1},"m":{"x":2}}`, pointers: []string{"/m/x"},
			want: `{"m":{},"m":{}}`, removed: Removed{Keys: 2},
		},
		"pointer to an empty name": {
			in: `{"":{"":1,"a":2}}`, pointers: []string{"//"},
			want: `{"":{"a":2}}`, removed: Removed{Keys: 1},
		},
		"elements, counted as they came": {
			in: `{"l":[ 0 , {"x":1} ,[2], "3" ]}`, pointers: []string{"/l/0", "/l/2"},
			want: `{"l":[ {"x":1}, "3" ]}`, removed: Removed{Keys: 2},
		},
		"all elements": {
			in: `[ 1,2 ]`, pointers: []string{"/0", "/1"},
			want: `[  ]`, removed: Removed{Keys: 2},
		},
		"inside an element": {
			in: `[{"x":1},{"x":2},{"x":3}]`, pointers: []string{"/1/x"},
			want: `[{"x":1},{},{"x":3}]`, removed: Removed{Keys: 1},
		},
		"what is no index": {
			in: `[0,1]`, pointers: []string{"/00", "/-", "/2", "/+1", "/1e0", "/01", "/ 1", "/"},
			want: `[0,1]`,
		},
		"a number as a name": {
			in: `{"0":1,"00":2}`, pointers: []string{"/0"},
			want: `{"00":2}`, removed: Removed{Keys: 1},
		},
		"pointer into a scalar": {
			in: `{"a":"b"}`, pointers: []string{"/a/b", "/c"},
			want: `{"a":"b"}`,
		},
		"pointer and key together": {
			in: `{"a":{"x":1,"y":2},"y":3}`, pointers: []string{"/a/x"}, keys: []string{"y"},
			want: `{"a":{}}`, removed: Removed{Keys: 3},
		},
		"more keys than few": {
			in: `{"k0":0,"k5":5,"k19":19,"k20":20}`, keys: numbered(20),
			want: `{"k20":20}`, removed: Removed{Keys: 3},
		},
		"scalars": {in: ` "admin_pass" `, keys: []string{"admin_pass"}, want: ` "admin_pass" `},
		"null":    {in: `null`, want: `null`},
		"numbers untouched": {
			in: `{"a":1e400,"b":-0.0,"c":123456789012345678901234567890,"x":0}`, keys: []string{"x"},
			want: `{"a":1e400,"b":-0.0,"c":123456789012345678901234567890}`, removed: Removed{Keys: 1},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := answerOf(test.in)
			a.Header.Set("ETag", `"1"`)
			a.Header.Set("Last-Modified", "then")
			removed, refusal := RedactJSON(a, test.pointers, test.keys)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if string(a.Body) != test.want || removed != test.removed {
				t.Errorf("got %s %+v, want %s %+v", a.Body, removed, test.want, test.removed)
			}
			changed := test.removed.Total() > 0
			if kept := a.Header.Get("ETag") != "" && a.Header.Get("Last-Modified") != ""; kept == changed {
				t.Errorf("validators kept: %v, body changed: %v", kept, changed)
			}
			if changed && a.Header.Get("Content-Length") != strconv.Itoa(len(test.want)) {
				t.Errorf("Content-Length %q", a.Header.Get("Content-Length"))
			}
			if refusal := CheckJSON(a); refusal != nil {
				t.Errorf("the result is no document: %v", refusal)
			}
		})
	}
}

func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "k" + strconv.Itoa(i)
	}
	return list
}

func TestBadJSON(t *testing.T) {
	const cut, invalid, deep = "response_incomplete/json_cut", "response_unreadable/json_invalid", "response_unreadable/json_too_deep"
	tests := map[string]string{
		"":                                   cut,
		" \r\n":                              cut,
		`{`:                                  cut,
		`{"a"`:                               cut,
		`{"a":`:                              cut,
		`{"a":1`:                             cut,
		`{"a":1,`:                            cut,
		`{"a":"b`:                            cut,
		`{"a":"\u00`:                         cut,
		`{"a":"\ud83d`:                       cut,
		`[tru`:                               cut,
		`[1`:                                 cut,
		`[1,`:                                cut,
		`[-`:                                 cut,
		`[1.`:                                cut,
		`[1e`:                                cut,
		"[\"\xe2\x82":                        cut,
		`{"a":1}}`:                           invalid,
		`{"a":1}{}`:                          invalid,
		`{} x`:                               invalid,
		`{"a":1,}`:                           invalid,
		`{,"a":1}`:                           invalid,
		`[1,]`:                               invalid,
		`[,1]`:                               invalid,
		`[1 2]`:                              invalid,
		`{"a" 1}`:                            invalid,
		`{"a":1 "b":2}`:                      invalid,
		`{a:1}`:                              invalid,
		`{'a':1}`:                            invalid,
		`{1:2}`:                              invalid,
		`{[`:                                 invalid,
		`{f`:                                 cut,
		`{"a":1,{`:                           invalid,
		`{[]:2}`:                             invalid,
		`{null:2}`:                           invalid,
		`[NaN]`:                              invalid,
		`[Infinity]`:                         invalid,
		`[01]`:                               invalid,
		`[+1]`:                               invalid,
		`[1}`:                                invalid,
		`{"a":1]`:                            invalid,
		"\xef\xbb\xbf{}":                     invalid,
		"{\"admin\xffpass\":1}":              invalid,
		`{"\ud800":1}`:                       invalid,
		"[\"\x00\"]":                         invalid,
		"\x00{}":                             invalid,
		`// c` + "\n{}":                      invalid,
		"meta_data.json\nuser_data\n":        invalid,
		strings.Repeat("[", 20000):           deep,
		strings.Repeat(`{"a":`, maxDepth+1):  deep,
		strings.Repeat(`{"x":[`, maxDepth/2): cut,
		`{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + "}": deep,
	}
	for body, want := range tests {
		name := body[:min(len(body), 24)]
		t.Run(name, func(t *testing.T) {
			if got := code(CheckJSON(answerOf(body))); got != want {
				t.Errorf("CheckJSON: got %q, want %q", got, want)
			}
			for _, pointers := range [][]string{nil, {"/0", "/a"}} {
				a := answerOf(body)
				removed, refusal := RedactJSON(a, pointers, []string{"x"})
				if got := code(refusal); got != want {
					t.Errorf("RedactJSON: got %q, want %q", got, want)
				}
				if string(a.Body) != body || removed != (Removed{}) {
					t.Errorf("RedactJSON changed what it refused")
				}
			}
		})
	}
}

func TestDepth(t *testing.T) {
	for _, object := range []bool{false, true} {
		open, middle, shut := "[", "", "]"
		if object {
			open, middle, shut = `{"a":`, "1", "}"
		}
		body := strings.Repeat(open, maxDepth) + middle + strings.Repeat(shut, maxDepth)
		a := answerOf(body)
		if refusal := CheckJSON(a); refusal != nil {
			t.Errorf("CheckJSON at the bound: %v", refusal)
		}
		if _, refusal := RedactJSON(a, nil, nil); refusal != nil {
			t.Errorf("RedactJSON at the bound: %v", refusal)
		}
	}
}

func TestBadPointers(t *testing.T) {
	tests := map[string]string{
		"":           "policy_malformed/redact_pointer_root",
		"admin_pass": "policy_malformed/redact_pointer",
		"#/a":        "policy_malformed/redact_pointer",
		"/a~":        "policy_malformed/redact_pointer",
		"/a~2":       "policy_malformed/redact_pointer",
		"/~~0":       "policy_malformed/redact_pointer",
		"/":          "",
		"/a~01":      "",
	}
	for pointer, want := range tests {
		a := answerOf(`{"a":1}`)
		if _, refusal := RedactJSON(a, []string{"/ok", pointer}, nil); code(refusal) != want {
			t.Errorf("%q: got %q, want %q", pointer, code(refusal), want)
		}
	}
}

// TestRemovalsAreBounded shows that the list of cuts is, and that neighbours
// share one.
func TestRemovalsAreBounded(t *testing.T) {
	each := strings.Repeat(`{"x":0},`, maxCuts)
	if _, refusal := RedactJSON(answerOf("["+each+"0]"), nil, []string{"x"}); refusal != nil {
		t.Errorf("at the bound: %v", refusal)
	}
	_, refusal := RedactJSON(answerOf("["+each+`{"x":0}]`), nil, []string{"x"})
	if got := code(refusal); got != "response_unreadable/json_removals" {
		t.Errorf("over the bound: %q", got)
	}
	neighbours := `{"a":1` + strings.Repeat(`,"x":0`, 3*maxCuts) + "}"
	a := answerOf(neighbours)
	removed, refusal := RedactJSON(a, nil, []string{"x"})
	if refusal != nil || string(a.Body) != `{"a":1}` || removed.Keys != 3*maxCuts {
		t.Errorf("neighbours: %v %+v", refusal, removed)
	}
}

// TestRemovedIsWiped looks behind the end of the body, where the buffer's next
// user would find it.
func TestRemovedIsWiped(t *testing.T) {
	a := answerOf(`{"a":1,"admin_pass":"S3cret"}`)
	whole := a.Body
	if _, refusal := RedactJSON(a, nil, []string{"admin_pass"}); refusal != nil {
		t.Fatal(refusal)
	}
	if bytes.Contains(whole, []byte("S3cret")) {
		t.Errorf("still there: %q", whole)
	}
	b := answerOf("a\npassword_evil\nb")
	whole = b.Body
	RedactListing(b, nil)
	if string(b.Body) != "a\nb" || bytes.Contains(whole, []byte("evil")) {
		t.Errorf("still there: %q", whole)
	}
}

// TestScannersShareNothing runs documents through pooled scanners in every
// order.
func TestScannersShareNothing(t *testing.T) {
	for i := range 200 {
		body := fmt.Sprintf(`{"a%d":[1,{"x":%d}]}`, i, i)
		if i%3 == 0 {
			_ = CheckJSON(answerOf(body[:i%len(body)]))
			continue
		}
		a := answerOf(body)
		removed, refusal := RedactJSON(a, nil, []string{"x"})
		if want := fmt.Sprintf(`{"a%d":[1,{}]}`, i); refusal != nil || string(a.Body) != want || removed.Keys != 1 {
			t.Fatalf("got %s %v %+v", a.Body, refusal, removed)
		}
	}
}

// TestErrorsQuoteNothing plants a secret where a parser stumbles.
func TestErrorsQuoteNothing(t *testing.T) {
	for _, body := range []string{
		`{"S3cret":S3cret}`, `{"S3cret":"S3cret`, `{"a":"S3cret\q"}`, "{\"S3cret\":\"\xffS3cret\"}",
	} {
		a := answerOf(body)
		_, refusal := RedactJSON(a, []string{"/S3cret/b"}, nil)
		if refusal == nil {
			t.Fatalf("%s was taken", body)
		}
		for _, text := range []string{refusal.Error(), fmt.Sprintf("%+v %#v", *refusal, a), a.String()} {
			if strings.Contains(text, "S3cret") {
				t.Errorf("shows the secret: %s", text)
			}
		}
	}
}

// document makes a document of about size bytes that looks like meta_data.json,
// with one hidden key in every entry.
func document(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"uuid": "5f1c", "meta": {"admin_pass": "S3cret"}, "devices": [`)
	for i := 0; b.Len() < size-200; i++ {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{"type": "disk", "bus": "virtio", "serial": "%08d", "tags": ["a", "b\u00e9"], "n": %d, "admin_pass": "x"}`, i, i)
	}
	b.WriteString("]}")
	return b.Bytes()
}

func TestDocument(t *testing.T) {
	body := document(1 << 20)
	a := answerOf(string(body))
	if _, refusal := RedactJSON(a, []string{"/devices/0/serial"}, []string{"admin_pass"}); refusal != nil {
		t.Fatal(refusal)
	}
	var v struct {
		Meta    map[string]string
		Devices []map[string]any
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Meta) != 0 || len(v.Devices) < 1000 || v.Devices[0]["serial"] != nil || v.Devices[1]["serial"] == nil ||
		bytes.Contains(a.Body, []byte("admin_pass")) {
		t.Error("not redacted as it should be")
	}
}
