// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/module/pace"
)

// document is one data file, parsed and put under its directories' names.
type document struct {
	*file
	root map[string]any
}

// parseData parses a data file. JSON with a name twice and YAML with a second
// document are errors: parsers drop one of the two without a word.
func parseData(f *file, p *pace.Pace, bad *findings) (document, bool) {
	var (
		value any
		err   error
	)
	if strings.HasSuffix(f.name, ".json") {
		var line, col int
		if value, line, col, err = parseJSON(f.bytes, p); err != nil {
			*bad = append(*bad, Finding{File: f.name, Line: line, Col: col, Code: CodeDataInvalid, Message: err.Error()})
			return document{}, false
		}
	} else {
		if line, yamlErr := checkYAML(f.bytes); yamlErr != nil {
			*bad = append(*bad, Finding{File: f.name, Line: line, Code: CodeDataInvalid, Message: yamlErr.Error()})
			return document{}, false
		}
		err = util.Unmarshal(f.bytes, &value)
	}
	if err != nil {
		*bad = append(*bad, Finding{File: f.name, Code: CodeDataInvalid, Message: err.Error()})
		return document{}, false
	}
	if kindOf(value) != "an object" {
		*bad = append(*bad, Finding{
			File: f.name, Line: 1, Code: CodeDataInvalid,
			Message: "a data document must be an object at the top, this one is " + kindOf(value),
		})
		return document{}, false
	}
	for _, name := range slices.Backward(f.prefix) {
		value = map[string]any{name: value}
	}
	root, _ := objectOf(value)
	return document{file: f, root: root}, true
}

func lineCol(content []byte, offset int64) (line, col int) {
	before := content[:min(offset, int64(len(content)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)

// checkYAML finds second documents and names that appear twice.
func checkYAML(content []byte) (line int, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(content))
	var first any
	err = dec.Decode(&first)
	if err == nil {
		var next yaml.Node
		if err = dec.Decode(&next); err == io.EOF { //nolint:errorlint // documented to be io.EOF itself
			return 0, nil
		}
		if err == nil {
			return next.Line, errors.New("there is a second document in this file, which would be ignored")
		}
	}
	if err == io.EOF { //nolint:errorlint // as above
		return 1, errors.New("the document is empty")
	}
	// The parser leaves the first line unnamed.
	line = 1
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return line, errors.New("not YAML: " + strings.TrimPrefix(text, "yaml: "))
}

// locate finds the line of the member that path leads to in the file itself;
// 0 if it cannot be told.
func (d document) locate(path []string) (line, col int) {
	if len(path) < len(d.prefix) {
		return 0, 0
	}
	path = path[len(d.prefix):]
	if !strings.HasSuffix(d.name, ".json") {
		var doc yaml.Node
		if yaml.Unmarshal(d.bytes, &doc) != nil || len(doc.Content) == 0 {
			return 0, 0
		}
		return locateYAML(doc.Content[0], path)
	}
	pointer := jsontext.Pointer("")
	for _, name := range path {
		pointer = pointer.AppendToken(name)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(d.bytes))
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
			return lineCol(d.bytes, max(start, 0))
		}
	}
}

func locateYAML(node *yaml.Node, path []string) (line, col int) {
	line, col = node.Line, node.Column
	for _, name := range path {
		found := false
		for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
			if key := node.Content[i]; key.Value == name {
				line, col, node, found = key.Line, key.Column, node.Content[i+1], true
				break
			}
		}
		if !found {
			break
		}
	}
	return line, col
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
		line, col := doc.locate(conflict)
		*bad = append(*bad, Finding{
			File: doc.name, Line: line, Col: col, Code: CodeDataConflict,
			Message: fmt.Sprintf("%s is also in %s", dataPath(conflict), other),
			Hint:    "only objects are merged; each value belongs in one file",
		})
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
