// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

// What is shared is what was given.
func TestTree(t *testing.T) {
	var data map[string]any
	if err := util.UnmarshalJSON([]byte(`{
		"a": {"x": ["p", "q"], "y": ["p", "q"], "z": ["pq"], "n": [1, "p"], "e": [], "o": {"x": ["p", "q"]}},
		"b": null, "c": 1.5, "d": ["p", ["q"]], "long": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]
	}`), &data); err != nil {
		t.Fatal(err)
	}
	values, err := newTree(data, new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	got, want := valueOf(values), ast.MustInterfaceToValue(data)
	if got.Compare(want) != 0 {
		t.Errorf("%v, want %v", got, want)
	}
	a := values.members["a"].(ast.Object)
	if a.Get(ast.StringTerm("x")).Value.(*ast.Array) != a.Get(ast.StringTerm("y")).Value.(*ast.Array) {
		t.Error("two lists that are alike are kept twice")
	}
}

// BenchmarkGrantsMemory measures what a grant takes, in bytes of heap, and what reading
// it leaves to be collected.
func BenchmarkGrantsMemory(b *testing.B) {
	const count = 200_000
	var text bytes.Buffer
	text.WriteString(`{"metaguard": {"grants": {"instance_id": {`)
	for i := range count {
		fmt.Fprintf(&text, `"5f1c6a6e-1d0a-4b5e-9d53-%012d": ["password:read"], `, i)
	}
	text.WriteString(`"": []}}}}`)
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		data, _, _, err := parseJSON(text.Bytes(), new(pace.Pace))
		if err != nil {
			b.Fatal(err)
		}
		values, err := newTree(data.(map[string]any), new(pace.Pace))
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(text.Len()+int(after.HeapAlloc-before.HeapAlloc))/count, "B/grant")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/count, "allocated-B/grant")
		runtime.KeepAlive(values)
	}
}
