// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"
)

// dataStore is the policy's data for OPA's evaluator, which only reads.
type dataStore struct {
	storage.PolicyNotSupported
	storage.TriggersNotSupported
	storage.WritesNotSupported
	root *branch
}

var _ storage.Store = (*dataStore)(nil)

// errNothing is what OPA takes for undefined.
var errNothing = &storage.Error{Code: storage.NotFoundErr, Message: "there is nothing"}

// reading is the one transaction: what never changes needs no more.
type reading struct{}

// ID implements storage.Transaction.
func (reading) ID() uint64 { return 0 }

// NewTransaction implements storage.Store.
func (*dataStore) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return reading{}, nil
}

// Read implements storage.Store. Its steps are text, as OPA's own store has them: the
// index of an array, and a number as the name of a member.
func (s *dataStore) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	var at any = s.root
	for _, step := range path {
		if array, ok := at.(*ast.Array); ok {
			at = nil
			if i, ok := util.Atoi(step); ok && i >= 0 && i < array.Len() {
				at = array.Elem(i).Value
			}
			continue
		}
		at = memberOf(at, step)
	}
	if value := valueOf(at); value != nil {
		return value, nil
	}
	return nil, errNothing
}

// Commit implements storage.Store.
func (*dataStore) Commit(context.Context, storage.Transaction) error { return nil }

// Abort implements storage.Store.
func (*dataStore) Abort(context.Context, storage.Transaction) {}

// Truncate implements storage.Store.
func (*dataStore) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}
