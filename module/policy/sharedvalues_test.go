// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

// What is shared is what was given.
func TestStorable(t *testing.T) {
	var data map[string]any
	if err := util.UnmarshalJSON([]byte(`{
		"a": {"x": ["p", "q"], "y": ["p", "q"], "z": ["pq"], "n": [1, "p"], "e": [], "o": {"x": ["p", "q"]}},
		"b": null, "c": 1.5, "d": ["p", ["q"]], "long": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]
	}`), &data); err != nil {
		t.Fatal(err)
	}
	values, err := storable(data, new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	got, want := ast.MustInterfaceToValue(values), ast.MustInterfaceToValue(data)
	if got.Compare(want) != 0 {
		t.Errorf("%v, want %v", got, want)
	}
	a := values["a"].(ast.Object)
	if a.Get(ast.StringTerm("x")).Value.(*ast.Array) != a.Get(ast.StringTerm("y")).Value.(*ast.Array) {
		t.Error("two lists that are alike are kept twice")
	}
}

// BenchmarkGrantsMemory measures what a grant takes, in bytes of heap.
func BenchmarkGrantsMemory(b *testing.B) {
	const count = 200_000
	for b.Loop() {
		grants := make(map[string]any, count)
		for i := range count {
			grants[fmt.Sprintf("5f1c6a6e-1d0a-4b5e-9d53-%012d", i)] = []any{"password:read"}
		}
		data := map[string]any{"metaguard": map[string]any{"grants": map[string]any{"instance_id": grants}}}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		values, err := storable(data, new(pace.Pace))
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "B/grant")
		runtime.KeepAlive(values)
		runtime.KeepAlive(data)
	}
}
