// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

// OPA's store takes any value for what it is, and looks into its own kinds of objects only.
// Where a path leads into a table, it is followed here.

// Write implements storage.Store. Large objects are kept as tables, which the policy shares;
// one into which a patch goes is an ordinary object from then on.
func (s *bundleStore) Write(ctx context.Context, txn storage.Transaction, op storage.PatchOp, path storage.Path, value any) error {
	if t, depth := s.tableOn(ctx, txn, path); t != nil {
		if err := s.Store.Write(ctx, txn, storage.AddOp, path[:depth], plain(t)); err != nil {
			return err
		}
	}
	value, err := withTables(value)
	if err != nil {
		return err
	}
	return s.Store.Write(ctx, txn, op, path, value)
}

// Read implements storage.Store. What it gives can hold tables, which become JSON.
func (s *bundleStore) Read(ctx context.Context, txn storage.Transaction, path storage.Path) (any, error) {
	value, err := s.Store.Read(ctx, txn, path)
	if t, ok := tableOf(value); ok {
		return t.object(), nil
	}
	if storage.IsNotFound(err) {
		if t, depth := s.tableOn(ctx, txn, path); t != nil {
			if found, ok := memberAt(t, path[depth:]); ok {
				return found, nil
			}
		}
	}
	return value, err
}

// tableOn gives the table that a path leads into, and how long the path is until there.
func (s *bundleStore) tableOn(ctx context.Context, txn storage.Transaction, path storage.Path) (t *table, depth int) {
	for depth := 1; depth < len(path); depth++ {
		value, err := s.Store.Read(ctx, txn, path[:depth])
		if err != nil {
			return nil, 0
		}
		if t, ok := tableOf(value); ok {
			return t, depth
		}
	}
	return nil, 0
}

// tableOf is what was written as a table: OPA's store keeps what a pointer leads to.
func tableOf(value any) (*table, bool) {
	if t, ok := value.(table); ok {
		return &t, true
	}
	t, ok := value.(*table)
	return t, ok
}

// memberAt is what a value has at a path.
func memberAt(value any, path storage.Path) (any, bool) {
	for _, step := range path {
		var ok bool
		switch in := value.(type) {
		case *table:
			var at uint32
			if at, ok = in.find(step); ok {
				value = in.value(at)
			}
		case map[string]any:
			value, ok = in[step]
		case []any:
			var i int
			if i, ok = util.Atoi(step); ok && 0 <= i && i < len(in) {
				value = in[i]
			} else {
				ok = false
			}
		}
		if !ok {
			return nil, false
		}
	}
	return value, true
}

// withTables is value with tables for its large objects, but for those in arrays. A patch
// in an array means another place.
func withTables(value any) (any, error) {
	if t, ok := tableOf(value); ok {
		return t, nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return value, nil
	}
	if len(object) >= tableFrom {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("encoding a bundle's data: %w", err)
		}
		value, _, _, err = parseJSON(text, new(pace.Pace))
		return value, err
	}
	members := make(map[string]any, len(object))
	for name, member := range object {
		member, err := withTables(member)
		if err != nil {
			return nil, err
		}
		members[name] = member
	}
	return members, nil
}
