// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"
	"go.yaml.in/yaml/v3"
)

// maxYAMLMembers is how many members an object in YAML has at most: the parser compares
// each name with every other one, which takes minutes for a few hundred thousand.
const maxYAMLMembers = 50_000

// jsonOfYAML gives YAML as JSON text, as OPA reads it. A second document, and a name that
// stands twice, are errors, with their line.
func jsonOfYAML(content []byte) (text []byte, line int, err error) {
	if line, err := checkYAML(content); err != nil {
		return nil, line, err
	}
	if err := util.Unmarshal(content, (*json.RawMessage)(&text)); err != nil {
		line, err = yamlError(err)
		return nil, line, err
	}
	return text, 0, nil
}

// checkYAML finds what YAML's parsers would take, or take too long for.
func checkYAML(content []byte) (line int, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(content))
	var first, next yaml.Node
	if err := dec.Decode(&first); err == io.EOF { //nolint:errorlint // documented to be io.EOF itself
		return 1, errors.New("the document is empty")
	} else if err != nil {
		return yamlError(err)
	}
	if err := dec.Decode(&next); err == nil {
		return next.Line, errors.New("there is a second document in this file, which would be ignored")
	} else if err != io.EOF { //nolint:errorlint // as above
		return yamlError(err)
	}
	return checkMappings(&first)
}

// checkMappings finds names that stand twice, and objects that are too large.
func checkMappings(node *yaml.Node) (line int, err error) {
	if node.Kind == yaml.MappingNode {
		members := len(node.Content) / 2
		if members > maxYAMLMembers {
			return node.Line, fmt.Errorf("an object has %d members, and in YAML %d are the most: its parser takes too long for more; write it as JSON", members, maxYAMLMembers)
		}
		lines := make(map[string]int, members)
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i]
			if before, twice := lines[name.Value]; twice {
				return name.Line, fmt.Errorf("mapping key %q already defined at line %d", name.Value, before)
			}
			lines[name.Value] = name.Line
		}
	}
	for _, inner := range node.Content {
		if line, err := checkMappings(inner); err != nil {
			return line, err
		}
	}
	return 0, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)

// yamlError takes the line out of an error of the parser.
func yamlError(err error) (line int, _ error) {
	line = 1 // which the parser leaves unnamed
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return line, errors.New("not YAML: " + strings.TrimPrefix(text, "yaml: "))
}

// yamlNode is a file of YAML with its places; nil if it is none.
func (f *file) yamlNode() *yaml.Node {
	var document yaml.Node
	if yaml.Unmarshal(f.bytes, &document) != nil || len(document.Content) == 0 {
		return nil
	}
	return document.Content[0]
}

// locateYAML finds the line of the innermost member of path that is there.
func locateYAML(node *yaml.Node, path []string) (line, col int) {
	if node == nil {
		return 0, 0
	}
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
