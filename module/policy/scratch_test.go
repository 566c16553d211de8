// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/pace"
)

// The list of answers says what OPA's own cache of them says, in any order of questions
// about any number of inputs, used again and again, and whatever becomes of the
// evaluator's reference.
func TestRuleCacheIsOPAs(t *testing.T) {
	names := []*ast.Term{ast.VarTerm("data"), ast.StringTerm("a"), ast.StringTerm("b"), ast.InternedTerm(1), ast.ArrayTerm(ast.StringTerm("x"))}
	var ours ruleCache
	rapid.Check(t, func(t *rapid.T) {
		ours.reset()
		ours.Push()
		opas := topdown.NewVirtualCache()
		depth := 1
		known := map[string]bool{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			ref := make(ast.Ref, rapid.IntRange(1, 5).Draw(t, "length"))
			for i := range ref {
				// Equal terms need not be the same ones.
				ref[i] = ast.NewTerm(rapid.SampledFrom(names).Draw(t, "term").Value)
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				ours.Push()
				opas.Push()
				depth++
			case 1:
				if depth > 1 {
					ours.Pop()
					opas.Pop()
					depth--
				}
			case 2, 3, 4, 5, 6:
				if value, undefined := opas.Get(ref); value != nil || undefined {
					continue // the evaluator does not ask a rule twice
				}
				var value *ast.Term
				if rapid.Bool().Draw(t, "defined") {
					value = ast.InternedTerm(len(known))
				}
				opas.Put(ref.Copy(), value)
				ours.Put(ref, value)
				known[ref.String()] = true
				clear(ref) // as the evaluator does
				continue
			}
			want, wantUndefined := opas.Get(ref)
			got, gotUndefined := ours.Get(ref)
			if got != want || gotUndefined != wantUndefined {
				t.Fatalf("%v is %v, %t; OPA says %v, %t", ref, got, gotUndefined, want, wantUndefined)
			}
			if want, got := len(opas.Keys()), len(ours.Keys()); got != want {
				t.Fatalf("%d keys, OPA has %d", got, want)
			}
		}
	})
	ours.reset()
	for _, term := range ours.terms[:cap(ours.terms)] {
		if term != nil {
			t.Fatal("it holds on to values")
		}
	}
}

// noCache remembers nothing, so that the store is asked.
type noCache struct{}

func (noCache) Get(ast.Ref) ast.Value  { return nil }
func (noCache) Put(ast.Ref, ast.Value) {}

// What is read of the data, in tables or not, by a view of it or by the store, is what
// OPA's own store has.
func TestDataIsTheStores(t *testing.T) {
	text := []byte(`{"a": {"b": [{"c": 1}, "x"], "1": true, "null": null, "q\"\u00e9": {"x": 1, "y": {"z": [2]}}}, "system": {"secret": 1}, "b": "x"}`)
	root := dir(t, files{
		"data.json": string(text),
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if data.a.b[0].c == 2\ndeny contains \"x\" if data.b == 2\n",
	})
	p := engine(t, Config{Paths: []string{root}}).Policy()
	whole, _, _, err := parseJSON(text, new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	theirs := inmem.NewFromObjectWithOpts(whole.(map[string]any), inmem.OptReturnASTValuesOnRead(true))
	reads, err := theirs.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tableFrom := range []int{1, 2, 4, tableFrom} {
		data, _, _, err := parseJSONTables(text, new(pace.Pace), tableFrom)
		if err != nil {
			t.Fatal(err)
		}
		object, _ := objectOf(data)
		tree, err := newTree(object, new(pace.Pace))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			"data.a", "data.a.b", "data.a.b[0]", "data.a.b[0].c", `data.a.b["0"]`, "data.a.b[1]", "data.a.b[2]", "data.a.b[1.5]", "data.b.x", "data.b",
			"data.a[1]", `data.a["1"]`, "data.a.null", "data.a.null.x", "data.a.none", "data.none.none", "[x | data.a[x]]", "data.a.b[-1]", `data.a.b["01"]`,
			"data.a[{}]", "data.a[[]]", "data.a[true]", "data.system.secret", "data.a.b with data.a as 1", "data.a with data.a.c as 1",
			`data.a["q\"é"]`, `data.a["q\"é"].y.z`, `data.a["q\\"]`, `data.a["b\":"]`, "[x | data.a[_][x]]", "[x | x := count(data.a)]", "[x | walk(data.a, x)]", "data.a[_].y",
			`data.a.b["1.0"]`, `data.a.b["1."]`, `data.a.b["."]`, "data.a.b[1.0]", `data.a.b["00000000000000000000000"]`, `data.a.b["+1"]`,
		} {
			q, err := newQuestion(ast.MustParseExpr(text), p.compiler, tree, nil)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			want, wantErr := ask(t.Context(), q.about(nil, p.loaded).WithStore(theirs).WithTransaction(reads).WithBaseCache(noCache{}))
			for name, cache := range map[string]topdown.BaseCache{"view": dataView{tree}, "store": noCache{}} {
				got, err := ask(t.Context(), q.about(nil, p.loaded).WithBaseCache(cache))
				if (err == nil) != (wantErr == nil) || (got == nil) != (want == nil) || got != nil && got.Compare(want) != 0 {
					t.Errorf("tables from %d: %s is %v (%v) for the %s, OPA's store has %v (%v)", tableFrom, text, got, err, name, want, wantErr)
				}
			}
		}
	}
}

// Two outputs are one verdict only if they are read alike.
func TestIdentical(t *testing.T) {
	texts := []string{
		`{"status": 404}`, `{"status": 404.0}`, `{"status": 4.04e2}`, `{"a": ["x"]}`, `{"a": {"x"}}`, `{"a": ["x", "y"]}`, `{"a": ["y", "x"]}`,
		`{"a": "x"}`, `{"b": ["x"]}`, `{}`, `[]`, `set()`, `{"a": ["x"], "b": 1}`, `{"a": {"b": 1}}`, `{"a": {"b": 1.0}}`, `true`, `"true"`, `1`, `1.0`, `null`,
	}
	for _, a := range texts {
		for _, b := range texts {
			if got := identical(ast.MustParseTerm(a).Value, ast.MustParseTerm(b).Value); got != (a == b) {
				t.Errorf("%s, %s: %t", a, b, got)
			}
		}
	}
}
