// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/module/pace"
)

// document is one data file, parsed and put under its directories' names.
type document struct {
	*file
	root map[string]any
	// yaml is the file as YAML, for places in it.
	yaml func() *yaml.Node
}

// parseData parses a data file. JSON with a name twice and YAML with a second
// document are errors: parsers drop one of the two without a word.
func parseData(f *file, p *pace.Pace, bad *findings) (document, bool) {
	refuse := func(line, col int, message string) (document, bool) {
		bad.add(Finding{File: f.name, Line: line, Col: col, Code: CodeDataInvalid, Message: message})
		return document{}, false
	}
	text := f.bytes
	if !f.isJSON() {
		var line int
		var err error
		if text, line, err = jsonOfYAML(text); err != nil {
			return refuse(line, 0, err.Error())
		}
	}
	value, line, col, err := parseJSON(text, p)
	if err != nil {
		return refuse(line, col, err.Error())
	}
	if kindOf(value) != "an object" {
		return refuse(1, 0, "a data document must be an object at the top, this one is "+kindOf(value))
	}
	for _, name := range slices.Backward(f.prefix) {
		value = map[string]any{name: value}
	}
	root, _ := objectOf(value)
	return document{file: f, root: root, yaml: sync.OnceValue(f.yamlNode)}, true
}

func lineCol(content []byte, offset int64) (line, col int) {
	before := content[:min(offset, int64(len(content)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

// refuse says what is wrong at a place of the document.
func (d document) refuse(bad *findings, code string, path []string, hint, format string, args ...any) {
	finding := Finding{File: d.name, Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}
	if !bad.full() {
		finding.Line, finding.Col = d.locate(path)
	}
	bad.add(finding)
}

// locate finds the line of the member that path leads to in the file itself;
// 0 if it cannot be told.
func (d document) locate(path []string) (line, col int) {
	if len(path) < len(d.prefix) || len(d.bytes) == 0 {
		return 0, 0
	}
	if !d.isJSON() {
		return locateYAML(d.yaml(), path[len(d.prefix):])
	}
	if at, ok := d.tablePlace(path); ok {
		return lineCol(d.bytes, int64(at))
	}
	return locateJSON(d.bytes, path[len(d.prefix):])
}

// tablePlace is where a member stands of a large object, which knows it.
func (d document) tablePlace(path []string) (at uint32, ok bool) {
	var in any = d.root
	for i, name := range path {
		switch object := in.(type) {
		case map[string]any:
			in = object[name]
		case *table:
			if i == len(path)-1 {
				return object.find(name)
			}
			return 0, false
		default:
			return 0, false
		}
	}
	return 0, false
}

func locateJSON(text []byte, path []string) (line, col int) {
	pointer := jsontext.Pointer("")
	for _, name := range path {
		pointer = pointer.AppendToken(name)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return 0, 0
		}
		if dec.StackPointer() == pointer {
			// The decoder stands behind the member's name.
			start := dec.InputOffset()
			if token.Kind() == '"' {
				start -= int64(len(token.String())) + 2
			}
			return lineCol(text, max(start, 0))
		}
	}
}

// merge puts all documents together; two files must not disagree.
func merge(docs []document, bad *findings) map[string]any {
	if len(docs) == 1 {
		return docs[0].root
	}
	merged := map[string]any{}
	for i, doc := range docs {
		conflict := mergeInto(merged, doc.root, nil)
		if conflict == nil {
			continue
		}
		other := ""
		for _, earlier := range docs[:i] {
			if has(earlier.root, conflict) {
				other = earlier.name
				if line, _ := earlier.locate(conflict); line > 0 {
					other += ":" + strconv.Itoa(line)
				}
				break
			}
		}
		doc.refuse(bad, CodeDataConflict, conflict, "only objects are merged; each value belongs in one file",
			"%s is also in %s", dataPath(conflict), other)
	}
	return merged
}

// mergeInto adds b to a, or returns the path of the first value that is in
// both.
func mergeInto(a, b map[string]any, at []string) []string {
	for _, name := range slices.Sorted(maps.Keys(b)) {
		path := append(slices.Clone(at), name)
		old, ok := a[name]
		if !ok {
			a[name] = clone(b[name])
			continue
		}
		oldObject, ok1 := objectOf(old)
		newObject, ok2 := objectOf(b[name])
		if !ok1 || !ok2 {
			return path
		}
		if _, ok := old.(*table); ok { // which gives one value to many names
			oldObject = clone(oldObject).(map[string]any)
			a[name] = oldObject
		}
		if conflict := mergeInto(oldObject, newObject, path); conflict != nil {
			return conflict
		}
	}
	return nil
}

// clone copies the objects that a later merge would write into.
func clone(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	copied := make(map[string]any, len(object))
	for name, member := range object {
		copied[name] = clone(member)
	}
	return copied
}

func has(object map[string]any, path []string) bool {
	value, ok := object[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	inner, ok := objectOf(value)
	return !ok || has(inner, path[1:])
}

// dataPath is data.a.b["c d"] for people.
func dataPath(path []string) string {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, name := range path {
		ref = append(ref, ast.StringTerm(name))
	}
	return ref.String()
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any, *table:
		return "an object"
	}
	return "a number"
}
