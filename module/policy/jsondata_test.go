// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

// FuzzParseJSON holds what is read against OPA's own reader: either it is refused, or it
// is the same.
func FuzzParseJSON(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, 1.0, -0, 1e400, "x\u00e9\ud83d\ude00", true, false, null, {}, []], "b": {"c": {"": 1}}}`, `[]`, `"x"`, `1`, ` null `,
		`{"a": 1, "a": 2}`, `{"a": 1} {}`, `{"a": 1`, `{"a"}`, "{\"a\": \"\xff\"}", `[1,]`, ``, `{"a": "\ud800"}`, `{"\u0061": 1}`,
		`{"a": 1, "\u0062" : {"c": [1, "}"]}, "c":[], "d": -1.5e3 , "e\"": "\\"}`, `{"a": 1, "b": 2, "c": 3, "a": 4}`, `{"a": 1, "b": 2, "c": {"d": 1, "d": 2}}`, `{"a":1,"b":2,"c" 3}`, `{"a":1,"b":2,"c":}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, line, col, err := parseJSON(text, new(pace.Pace))
		tables, _, _, tablesErr := parseJSONTables(text, new(pace.Pace), 2)
		if (err == nil) != (tablesErr == nil) {
			t.Fatalf("%q: %v, and with tables %v", text, err, tablesErr)
		}
		if err != nil {
			if got != nil || line < 1 || col < 1 {
				t.Fatalf("%q: %v at %d:%d, and yet %v", text, err, line, col, got)
			}
			return
		}
		var want any
		if err := util.UnmarshalJSON(text, &want); err != nil {
			t.Fatalf("%q: OPA says %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %#v, OPA says %#v", text, got, want)
		}
		if got := plain(tables); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is with tables %#v, OPA says %#v", text, got, want)
		}
	})
}

// A large object is the same as one that is made at once.
func TestLargeObject(t *testing.T) {
	members := map[string]any{}
	for i := range 3 * maxAtOnce {
		members[string(rune(0x4e00+i%maxAtOnce))+string(rune('a'+i/maxAtOnce))] = []any{"password:read"}
	}
	values, err := newTree(map[string]any{"large": members}, new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := valueOf(values), ast.MustInterfaceToValue(map[string]any{"large": members}); got.Compare(want) != 0 || got.Hash() != want.Hash() {
		t.Error("it is another one")
	}
}
