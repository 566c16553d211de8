// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// row is one line of a dialect's table: a path and what it stands for.
type row struct {
	// pattern is a path without the slash in front. In it
	//
	//	{version}  is one of the table's versions, or any segment if it has none
	//	#          is a number
	//	*          is any segment
	//	**         is one or more segments, at the end
	//
	// A name is preferred to a version, that to a number, that to any segment, and
	// that to several.
	pattern   string
	kind      decision.Kind
	format    Format
	sensitive bool
	// writes lists the methods that write; empty: it is only read.
	writes []string
	// writeOnly tells that it cannot be read.
	writeOnly bool
	// body tells that a write brings one.
	body bool
	// tree is Match.Tree.
	tree bool

	allowed []string // methods, when it is in a table
}

// table holds the paths of a dialect.
type table struct {
	dialect  string
	versions []string // nil: any
	patterns []string // of all rows
	root     *node
}

// node is a segment of the patterns of a table.
type node struct {
	names   map[string]*node
	version *node
	number  *node
	any     *node
	rest    *row
	row     *row
}

// newTable makes a table, or says which row is wrong.
func newTable(dialect string, versions []string, rows []row) (*table, error) {
	t := &table{dialect: dialect, versions: versions, root: &node{}}
	for i := range rows {
		if err := t.add(&rows[i]); err != nil {
			return nil, fmt.Errorf("pattern /%s: %w", rows[i].pattern, err)
		}
		t.patterns = append(t.patterns, rows[i].pattern)
	}
	return t, nil
}

// mustTable is newTable for tables in the code.
func mustTable(dialect string, versions []string, rows []row) *table {
	t, err := newTable(dialect, versions, rows)
	if err != nil {
		panic(err)
	}
	return t
}

func (t *table) add(r *row) error {
	r.allowed = r.methods()
	at := t.root
	segments := splitPattern(r.pattern)
	for i, segment := range segments {
		if segment == "**" {
			if i != len(segments)-1 {
				return errors.New("** stands only at the end")
			}
			if at.rest != nil {
				return errors.New("it is there twice")
			}
			at.rest = r
			return nil
		}
		at = at.child(segment)
	}
	if at.row != nil {
		return errors.New("it is there twice")
	}
	at.row = r
	return nil
}

// child gives the node for the next segment of a pattern, and makes it if need
// be.
func (n *node) child(segment string) *node {
	place := func(at **node) *node {
		if *at == nil {
			*at = &node{}
		}
		return *at
	}
	switch segment {
	case "{version}":
		return place(&n.version)
	case "#":
		return place(&n.number)
	case "*":
		return place(&n.any)
	}
	if n.names == nil {
		n.names = make(map[string]*node)
	}
	named := n.names[segment]
	n.names[segment] = place(&named)
	return n.names[segment]
}

func splitPattern(pattern string) []string {
	return strings.FieldsFunc(pattern, func(r rune) bool { return r == '/' })
}

// walk is one look-up in a table.
type walk struct {
	*table
	segments []string
	version  int // index of the version's segment, -1 without one
}

// find gives the row for a path, and the index of its version's segment, -1
// where it has none. A path that is not in the table has a version if it begins
// like one that has.
func (t *table) find(segments []string) (found *row, version int) {
	w := walk{table: t, segments: segments, version: -1}
	found, version = w.down(t.root, 0, -1)
	if found == nil {
		version = w.version
	}
	return found, version
}

func (w *walk) down(n *node, at, version int) (*row, int) {
	if at == len(w.segments) {
		return n.row, version
	}
	segment := w.segments[at]
	if found, v := w.into(n.names[segment], at, version); found != nil {
		return found, v
	}
	if n.version != nil && (w.versions == nil || slices.Contains(w.versions, segment)) {
		w.version = at
		if found, v := w.into(n.version, at, at); found != nil {
			return found, v
		}
	}
	if isNumber(segment) {
		if found, v := w.into(n.number, at, version); found != nil {
			return found, v
		}
	}
	if found, v := w.into(n.any, at, version); found != nil {
		return found, v
	}
	return n.rest, version
}

func (w *walk) into(next *node, at, version int) (*row, int) {
	if next == nil {
		return nil, version
	}
	return w.down(next, at+1, version)
}

// classify makes the match for a path. The key is what stands below the
// version, or the whole path where there is no version.
func (t *table) classify(r Request) Match {
	found, version := t.find(r.Segments)
	match := Match{
		Resource: decision.Resource{Dialect: t.dialect, Kind: decision.KindUnknown, Action: decision.Read},
		Methods:  readable,
	}
	if version >= 0 {
		match.Resource.Version = r.Segments[version]
	}
	if found == nil {
		return match
	}
	match.Resource.Kind = found.kind
	match.Resource.Key = strings.Join(r.Segments[version+1:], "/")
	match.Resource.Sensitive = found.sensitive
	match.Format = found.format
	match.Tree = found.tree
	match.Methods = found.allowed
	if slices.Contains(found.writes, r.Method) {
		match.Resource.Action = decision.Write
		match.Body = found.body
	}
	return match
}

// methods lists what a row allows.
func (r *row) methods() []string {
	switch {
	case len(r.writes) == 0:
		return readable
	case r.writeOnly:
		return r.writes
	}
	return append(slices.Clip(readable), r.writes...)
}

// below is Trees.Below where a member's path goes on with the names on the way
// to it.
func below(r Request, members []string) Request {
	r.Segments = append(slices.Clip(r.Segments), members...)
	r.TrailingSlash = false
	return r
}
