// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

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

// Truncate implements storage.Store, as OPA's does: it takes the files of a bundle whose old
// content was taken out.
func (s *bundleStore) Truncate(ctx context.Context, txn storage.Transaction, params storage.TransactionParams, files storage.Iterator) error {
	var rules []file
	var data []*storage.Update
	for {
		update, err := files.Next()
		if err == io.EOF { //nolint:errorlint // documented to be io.EOF itself
			break
		}
		if err != nil {
			return err
		}
		if !update.IsPolicy {
			data = append(data, update)
			continue
		}
		id := update.Path.PolicyID()
		rules = append(rules, file{name: bundlePrefix + id, bytes: update.Value})
		if err := s.UpsertPolicy(ctx, txn, id, update.Value); err != nil {
			return err
		}
	}
	p := s.paceOf(ctx, rules)
	merged := map[string]any{}
	for _, update := range data {
		value, err := readBundleData(update.Value, p)
		if err != nil {
			return fmt.Errorf("the data in %s: %w", update.Path, err)
		}
		if value == nil {
			continue
		}
		root := map[string]any{}
		if len(update.Path) > 0 {
			putAt(root, update.Path, value)
		} else if root, _ = objectOf(value); root == nil {
			return errors.New("the data at a bundle's top must be an object")
		}
		if conflict := mergeInto(merged, root, nil); conflict != nil {
			return fmt.Errorf("the data in %s has %s, which another file has, too", update.Path, dataPath(conflict))
		}
	}
	for _, root := range params.BasePaths {
		path, ok := storage.ParsePathEscaped("/" + root)
		if !ok {
			return fmt.Errorf("the root %q is no path", root)
		}
		value, ok := memberAt(merged, path)
		if !ok {
			continue
		}
		if len(path) > 0 {
			if err := storage.MakeDir(ctx, s, txn, path[:len(path)-1]); err != nil {
				return err
			}
		}
		if err := s.Write(ctx, txn, storage.AddOp, path, value); err != nil {
			return err
		}
	}
	return nil
}

// readBundleData reads a data file of a bundle, which may be JSON or YAML and is not read
// as strictly as the operator's own, but as OPA does.
func readBundleData(text []byte, p *pace.Pace) (value any, err error) {
	if value, _, _, err = parseJSON(text, p); err != nil {
		err = util.Unmarshal(text, &value)
	}
	return value, err
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
		return plain(value), nil
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

// sizeOf is about how long a document is as JSON.
func sizeOf(value any) int64 {
	switch value := value.(type) {
	case *table:
		return int64(len(value.own))
	case map[string]any:
		size := int64(2)
		for name, member := range value {
			size += int64(len(name)) + 4 + sizeOf(member)
		}
		return size
	case []any:
		size := int64(2)
		for _, item := range value {
			size += 1 + sizeOf(item)
		}
		return size
	case string:
		return int64(len(value)) + 2
	default:
		return 8
	}
}

// writeJSON writes a document with sorted names, but for those of tables, which it writes
// as they are, piece by piece: what sums all of it up at once cannot be interrupted.
func writeJSON(w hash.Hash, value any) error {
	switch value := value.(type) {
	case *table:
		_, err := io.Copy(w, new(pace.Pace).Reader(bytes.NewReader(value.own)))
		return err
	case map[string]any:
		before := "{"
		for _, name := range sortedKeys(value) {
			quoted, err := json.Marshal(name)
			if err != nil {
				return err
			}
			_, _ = io.WriteString(w, before+string(quoted)+":")
			if err := writeJSON(w, value[name]); err != nil {
				return err
			}
			before = ","
		}
		_, err := io.WriteString(w, strings.TrimPrefix(before, ",")+"}")
		return err
	}
	text, err := json.Marshal(value)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// putAt puts a value at a path of an object.
func putAt(object map[string]any, path storage.Path, value any) {
	for i, name := range path {
		if i == len(path)-1 {
			object[name] = value
			return
		}
		inner, ok := object[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}
}
