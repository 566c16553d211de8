// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
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
			Store:  inmem.NewWithOpts(inmem.OptRoundTripOnWrite(false)),
			paceOf: func(context.Context, []file) *pace.Pace { return new(pace.Pace) },
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
		write(storage.AddOp, storage.Path{"data"}, largeData())
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
