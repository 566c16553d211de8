// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/pace"
)

// largeData has large objects in an object, in a large object and in an array.
func largeData() map[string]any {
	small := func() any { return map[string]any{"x": []any{"a", map[string]any{"y": "b"}}} }
	large := func(first any) map[string]any {
		object := map[string]any{"n0": small(), "n1": first, "n2": small()}
		for i := len(object); i < tableFrom; i++ {
			object[fmt.Sprint("n", i)] = json.Number("7")
		}
		return object
	}
	return map[string]any{"alike": large(small()), "outer": large(large(small())), "array": []any{large(small()), "c"}, "small": small()}
}

// OPA's own store with tables is the same as without, whatever is written and read, and
// an object that many names have is another one for each.
func TestBundleStoreAgrees(t *testing.T) {
	steps := rapid.SliceOfN(rapid.SampledFrom([]string{"alike", "outer", "array", "small", "n1", "n2", "x", "y", "0", "1", "-", "none"}), 1, 6)
	values := []any{"text", json.Number("7"), map[string]any{"x": "z"}, []any{"u"}, largeData()["alike"]}
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		both := []storage.Store{inmem.New(), &bundleStore{
			Store: inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false)),
			paceOf: func(_ context.Context, rules []file) *pace.Pace {
				if len(rules) != 1 || rules[0].name != bundlePrefix+"b/rules.rego" {
					t.Errorf("it comes with %v", rules)
				}
				return new(pace.Pace)
			},
			commit: func(_ context.Context, _ storage.Transaction, _ bool, commit func() error) error { return commit() },
		}}
		transactions := make([]storage.Transaction, 2)
		begin := func() {
			for i, store := range both {
				transactions[i] = storage.NewTransactionOrDie(ctx, store, storage.WriteParams)
			}
		}
		begin()
		each := func(what string, do func(storage.Store, storage.Transaction) (any, error)) {
			outcomes := [2]ast.Value{ast.NullValue, ast.NullValue}
			for i, store := range both {
				value, err := do(store, transactions[i])
				if err == nil {
					value, err = ast.InterfaceToValue(value) // as rules of the decision log see it
				}
				if err != nil {
					outcomes[i] = ast.String(fmt.Sprint("not found: ", storage.IsNotFound(err)))
				} else if value != nil {
					outcomes[i] = value.(ast.Value)
				}
			}
			if ast.Compare(outcomes[0], outcomes[1]) != 0 {
				t.Fatalf("%s: %.300v, with tables %.300v", what, outcomes[0], outcomes[1])
			}
		}
		write := func(op storage.PatchOp, path storage.Path, value any) {
			each(fmt.Sprint("write ", path), func(s storage.Store, txn storage.Transaction) (any, error) {
				copied := value
				if err := util.RoundTrip(&copied); err != nil {
					return nil, err
				}
				return nil, s.Write(ctx, txn, op, path, copied)
			})
		}
		text, err := json.Marshal(map[string]any{"data": largeData(), "elsewhere": 1})
		if err != nil {
			t.Fatal(err)
		}
		each("the files", func(s storage.Store, txn storage.Transaction) (any, error) {
			params := storage.WriteParams
			params.BasePaths = []string{"data", "nothing"}
			return nil, s.Truncate(ctx, txn, params, bundle.NewIterator([]bundle.Raw{
				{Path: "/data.json", Value: text},
				{Path: "/data/alike/none/data.yaml", Value: []byte("x: [1]\n")},
				{Path: "/b/rules.rego", Value: []byte("package b\n")},
			}))
		})
		each("the rules", func(s storage.Store, txn storage.Transaction) (any, error) {
			ids, err := s.ListPolicies(ctx, txn)
			return strings.Join(ids, " "), err
		})
		for range rapid.IntRange(1, 6).Draw(t, "operations") {
			path := append(storage.Path{"data"}, steps.Draw(t, "path")...)
			switch op := rapid.IntRange(0, 5).Draw(t, "operation"); op {
			case 0, 1, 2:
				write([]storage.PatchOp{storage.AddOp, storage.ReplaceOp, storage.RemoveOp}[op], path, values[rapid.IntRange(0, len(values)-1).Draw(t, "value")])
			case 3:
				for i, store := range both {
					if err := store.Commit(ctx, transactions[i]); err != nil {
						t.Fatal(err)
					}
				}
				begin()
			default:
				each(fmt.Sprint("read ", path), func(s storage.Store, txn storage.Transaction) (any, error) { return s.Read(ctx, txn, path) })
			}
		}
		each("all", func(s storage.Store, txn storage.Transaction) (any, error) {
			return s.Read(ctx, txn, storage.Path{"data"})
		})
	})
}

// Files that do not go together, or are no data, are refused with their name.
func TestBundleDataRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		content files
		want    string
	}{
		"conflict":  {files{"data.json": `{"own": {"a": 1}}`, "own/data.json": `{"a": 2}`}, "data.own.a"},
		"no object": {files{"data.json": `[1]`}, "must be object"},
		"no JSON":   {files{"own/data.json": `{"a": `}, "line 1"}, // OPA itself says it
	} {
		t.Run(name, func(t *testing.T) {
			tc.content[".manifest"] = `{"roots": ["own"]}`
			s := newBundleServer(t)
			s.put("own.tar.gz", tarball(t, tc.content))
			e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"own": {"service": "s", "resource": "own.tar.gz"`+fast+`}}`)})
			eventually(t, "the bundle is refused", func() bool { return e.Status().LastError != "" })
			if told := e.Status().LastError; !strings.Contains(told, tc.want) {
				t.Error(told)
			}
		})
	}
}

// Data alone is read gently while requests are served. With a rule that is new, another or
// missing it is read at once.
func TestPaceOfBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}`)})
	eventually(t, "the bundle is live", func() bool { return e.Policy() != nil })
	same := file{name: bundlePrefix + "team/team/team.rego", bytes: e.Policy().sources[0].bytes}
	for name, tc := range map[string]struct {
		rules  []file
		gentle bool
	}{
		"the same": {[]file{same}, true},
		"another":  {[]file{{name: same.name, bytes: []byte("package other")}}, false},
		"more":     {[]file{same, {name: bundlePrefix + "team/more.rego"}}, false},
		"none":     {nil, false},
	} {
		if gentle := e.paceOfBundle(t.Context(), tc.rules).IsGentle(); gentle != tc.gentle {
			t.Errorf("%s: %t", name, gentle)
		}
	}
	// The same through OPA: one activation with other data, and one with another rule.
	paces := make(chan bool, 2)
	e.remote.Load().store.paceOf = func(ctx context.Context, rules []file) *pace.Pace {
		p := e.paceOfBundle(ctx, rules)
		paces <- p.IsGentle()
		return p
	}
	for _, next := range []struct {
		rule   string
		gentle bool
	}{{string(same.bytes), true}, {"package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"network\"\n", false}} {
		s.put("team.tar.gz", tarball(t, files{
			".manifest": `{"roots": ["metaguard/team", "metaguard/grants"]}`, "team/team.rego": next.rule, "data.json": `{"metaguard": {"grants": {}}}`,
		}))
		eventually(t, "the next bundle is read", func() bool { return len(paces) > 0 })
		if gentle := <-paces; gentle != next.gentle {
			t.Errorf("read gently: %t, want %t", gentle, next.gentle)
		}
	}
	reading := e.hurry.channel()
	e.Stop(t.Context())
	select {
	case <-reading:
	default:
		t.Error("the end does not hurry a bundle that is being read")
	}
	if e.paceOfReading(t.Context()).IsGentle() {
		t.Error("a bundle is read gently after the end")
	}
}

// Rules that OPA evaluates itself, over its own store, see what is in tables.
func TestRulesOverTables(t *testing.T) {
	ctx := t.Context()
	stores := []storage.Store{inmem.New(), &bundleStore{
		Store:  inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false)),
		commit: func(_ context.Context, _ storage.Transaction, _ bool, commit func() error) error { return commit() },
	}}
	for _, store := range stores {
		if err := storage.WriteOne(ctx, store, storage.AddOp, storage.Path{"own"}, largeData()); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{
		"data.own.alike.n1", "data.own.alike[input.name]", "data.own.alike.n2.x[1].y", "data.own.outer.n1.n5", "count(data.own.outer)",
		"count(data.own)", "data.own.alike.absent", "[name | data.own.outer.n1[name].x]", "data.own.array[0].n5", "object.get(data.own, [\"outer\", \"n1\", \"n7\"], 0)",
	} {
		var results [2]rego.ResultSet
		for i, store := range stores {
			var err error
			if results[i], err = rego.New(rego.Query(query), rego.Store(store), rego.Input(map[string]any{"name": "n2"})).Eval(ctx); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		}
		if !reflect.DeepEqual(results[0], results[1]) {
			t.Errorf("%s: %.200v, with tables %.200v", query, results[0], results[1])
		}
	}
}
