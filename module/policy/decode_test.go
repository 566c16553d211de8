// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// The second argument of decode.
const (
	passwordRead = true
	metadataRead = false
)

func TestDecode(t *testing.T) {
	for text, want := range map[string]decision.Decision{
		`{"allow": true}`:  {Allow: true},
		`{"allow": false}`: {},
		`{"allow": false, "status": 404, "reasons": ["a", "b"]}`: {Status: 404, Reasons: []string{"a", "b"}},
		`{"allow": false, "reasons": {"b", "a"}}`:                {Reasons: []string{"a", "b"}},
		`{"allow": false, "reasons": []}`:                        {},
		`{"allow": false, "reasons": set()}`:                     {},
		`{"allow": true, "redact": {}}`:                          {Allow: true},
		`{"allow": true, "redact": {"json": ["/a/~0~1", "/"], "keys": {"k"}, "listing": ["l"]}}`: {
			Allow: true, Redact: decision.Redact{JSON: []string{"/a/~0~1", "/"}, Keys: []string{"k"}, Listing: []string{"l"}},
		},
	} {
		got, err := decode(ast.MustParseTerm(text).Value, metadataRead)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v %v, want %+v", text, got, err, want)
		}
	}
	if got, err := decode(ast.MustParseTerm(`{"allow": false, "status": 200}`).Value, passwordRead); err != nil || got.Status != 200 {
		t.Errorf("empty password: %+v %v", got, err)
	}
	for _, status := range refusalStatuses {
		value := ast.NewObject([2]*ast.Term{ast.StringTerm("allow"), ast.BooleanTerm(false)}, [2]*ast.Term{ast.StringTerm("status"), ast.IntNumberTerm(status)})
		if got, err := decode(value, metadataRead); err != nil || got.Status != status {
			t.Errorf("%d: %+v %v", status, got, err)
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `false`, `1`, `"allow"`, `[]`, `[true]`, `set()`, `{"allow"}`, `{}`,
		`{"Allow": true}`, `{"ALLOW": true}`, `{"allow": true, "Allow": true}`, `{"allow ": true}`,
		`{"allow": "true"}`, `{"allow": 1}`, `{"allow": null}`, `{"allow": {}}`, `{"allow": []}`,
		`{"allow": true, "extra": 1}`, `{"allow": true, 1: 2}`, `{"allow": true, null: 2}`, `{"allow": true, "reason": ["a"]}`,
		`{"allow": true, "status": 200}`, `{"allow": true, "status": 403}`, `{"allow": true, "Status": 403}`,
		`{"allow": false, "status": 200}`, `{"allow": false, "status": 0}`, `{"allow": false, "status": 500}`,
		`{"allow": false, "status": 302}`, `{"allow": false, "status": 403.0}`, `{"allow": false, "status": 403.5}`, `{"allow": false, "status": 4.03e2}`,
		`{"allow": false, "status": -403}`, `{"allow": false, "status": "403"}`, `{"allow": false, "status": null}`, `{"allow": false, "status": [403]}`,
		`{"allow": false, "status": 99999999999999999999999}`, `{"status": 403}`,
		`{"allow": false, "reasons": "a"}`, `{"allow": false, "reasons": null}`, `{"allow": false, "reasons": [1]}`,
		`{"allow": false, "reasons": [["a"]]}`, `{"allow": false, "reasons": [""]}`, `{"allow": false, "reasons": {"a": "b"}}`,
		`{"allow": false, "redact": {}}`, `{"allow": false, "redact": {"keys": ["a"]}}`,
		`{"allow": true, "redact": null}`, `{"allow": true, "redact": []}`, `{"allow": true, "redact": {"Keys": ["a"]}}`, `{"allow": true, "redact": {"headers": []}}`,
		`{"allow": true, "redact": {"keys": "a"}}`, `{"allow": true, "redact": {"keys": [1]}}`, `{"allow": true, "redact": {"keys": [""]}}`,
		`{"allow": true, "redact": {"json": [""]}}`, `{"allow": true, "redact": {"json": ["a"]}}`, `{"allow": true, "redact": {"json": ["/~"]}}`,
		`{"allow": true, "redact": {"json": ["/~2"]}}`, `{"allow": true, "redact": {"json": ["#/a"]}}`, `{"allow": true, "redact": {"listing": {"a": 1}}}`,
	} {
		if got, err := decode(ast.MustParseTerm(text).Value, metadataRead); err == nil || !reflect.DeepEqual(got, decision.Decision{}) {
			t.Errorf("%s: got %+v %v", text, got, err)
		}
	}
	write := instance(decision.KindPassword, decision.Write)
	if input, err := InputValue(write); err != nil || isPasswordRead(input) {
		t.Errorf("a write is taken for a read: %v", err)
	}
	if input, err := InputValue(instance(decision.KindPassword, decision.Read)); err != nil || !isPasswordRead(input) {
		t.Errorf("a read is not taken for one: %v", err)
	}
	for name, value := range map[string]any{
		"too many": map[string]any{"allow": true, "reasons": slices.Repeat([]any{"a"}, maxItems+1)},
		"too long": map[string]any{"allow": true, "reasons": []any{strings.Repeat("a", maxLength+1)}},
	} {
		if _, err := decode(ast.MustInterfaceToValue(value), metadataRead); err == nil {
			t.Error(name)
		}
	}
}

// FuzzDecode: whatever is decoded obeys the contract, and only what says
// exactly "allow": true allows.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"allow": true}`, `{"allow": false, "status": 404, "reasons": ["a"]}`, `{"Allow": true}`, `{"allow": false, "status": 200}`,
		`{"allow": true, "redact": {"json": ["/meta/admin_pass"], "keys": ["admin_pass"], "listing": ["password"]}}`,
		`{"allow": false, "status": 403.0}`, `[]`, `null`, `{"allow": true, "redact": {"json": ["/~2"]}}`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, isPasswordRead bool) {
		var doc any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if dec.Decode(&doc) != nil {
			t.Skip()
		}
		value, err := ast.InterfaceToValue(doc)
		if err != nil {
			t.Skip()
		}
		got, err := decode(value, isPasswordRead)
		if err != nil {
			if !reflect.DeepEqual(got, decision.Decision{}) {
				t.Fatalf("%v beside %v", got, err)
			}
			return
		}
		object := doc.(map[string]any)
		if got.Allow != (object["allow"] == true) {
			t.Fatalf("allow %v of %s", got.Allow, text)
		}
		for name := range object {
			if !slices.Contains([]string{"allow", "status", "reasons", "redact"}, name) {
				t.Fatalf("%q passed", name)
			}
		}
		switch {
		case got.Allow && got.Status != 0, !got.Allow && !got.Redact.Empty():
			t.Fatalf("%+v", got)
		case got.Status == 200 && !isPasswordRead:
			t.Fatal("200 for something else")
		case got.Status != 0 && got.Status != 200 && !slices.Contains(refusalStatuses, got.Status):
			t.Fatalf("status %d", got.Status)
		}
		for _, pointer := range got.Redact.JSON {
			if !strings.HasPrefix(pointer, "/") {
				t.Fatalf("pointer %q", pointer)
			}
		}
	})
}
