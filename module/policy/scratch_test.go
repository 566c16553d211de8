// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"
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

// What is read past OPA's cache is what the store has.
func TestDataIsTheStores(t *testing.T) {
	root := dir(t, files{
		"data.json": `{"a": {"b": [{"c": 1}, "x"], "1": true, "null": null}, "system": {"secret": 1}}`,
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if data.a.b[0].c == 2\n",
	})
	p := engine(t, Config{Paths: []string{root}}).Policy()
	for _, text := range []string{
		"data.a", "data.a.b", "data.a.b[0]", "data.a.b[0].c", `data.a.b["0"]`, "data.a.b[1]", "data.a.b[2]", "data.a.b[1.5]",
		"data.a[1]", `data.a["1"]`, "data.a.null", "data.a.null.x", "data.a.none", "data.none.none", "[x | data.a[x]]",
		"data.a[{}]", "data.a[[]]", "data.a[true]", "data.system.secret", "data.a.b with data.a as 1", "data.a with data.a.c as 1",
	} {
		q, err := newQuestion(t.Context(), ast.MustParseExpr(text), p.compiler, p.store, nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got, err := ask(t.Context(), q.about(nil, p.loaded))
		q.data = dataView{ast.NewObject()} // finds nothing, so that the store is asked
		want, wantErr := ask(t.Context(), q.about(nil, p.loaded))
		if (err == nil) != (wantErr == nil) || (got == nil) != (want == nil) || got != nil && got.Compare(want) != 0 {
			t.Errorf("%s is %v (%v), the store has %v (%v)", text, got, err, want, wantErr)
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
