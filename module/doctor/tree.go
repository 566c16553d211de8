// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// node is an object of the JSON configuration and the way to it.
type node struct {
	path   string
	object map[string]any
	above  []*node // outermost first
}

// handler is the name of the HTTP handler that the object is, or empty.
func (n *node) handler() string {
	name, _ := n.object["handler"].(string)
	return name
}

// walk visits every object, in a stable order, until visit says not to go
// below one.
func walk(value any, visit func(*node) bool) { walkFrom(value, "", nil, visit) }

func walkFrom(value any, path string, above []*node, visit func(*node) bool) {
	switch value := value.(type) {
	case map[string]any:
		n := &node{path, value, above}
		if !visit(n) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			walkFrom(value[name], join(path, name), append(slices.Clip(above), n), visit)
		}
	case []any:
		for i, element := range value {
			walkFrom(element, fmt.Sprintf("%s[%d]", path, i), above, visit)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// texts visits every string below a value, with its name in the object that
// holds it.
func texts(value any, path, name string, visit func(path, name, text string)) {
	switch value := value.(type) {
	case string:
		visit(path, name, value)
	case map[string]any:
		for _, member := range slices.Sorted(maps.Keys(value)) {
			texts(value[member], join(path, member), member, visit)
		}
	case []any:
		for i, element := range value {
			texts(element, fmt.Sprintf("%s[%d]", path, i), name, visit)
		}
	}
}

// at is the value at a path of names, or nil.
func at(value any, names ...string) any {
	for _, name := range names {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[name]
	}
	return value
}

func textAt(value any, names ...string) string {
	text, _ := at(value, names...).(string)
	return text
}

func listAt(value any, names ...string) []string {
	list, _ := at(value, names...).([]any)
	var found []string
	for _, element := range list {
		if text, ok := element.(string); ok {
			found = append(found, text)
		}
	}
	return found
}

// server is one HTTP server of the configuration.
type server struct {
	name, path string
	object     map[string]any
}

// servers are all HTTP servers, by name.
func servers(tree any) []*server {
	all, _ := at(tree, "apps", "http", "servers").(map[string]any)
	var found []*server
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if object, ok := all[name].(map[string]any); ok {
			found = append(found, &server{name, "apps.http.servers." + name, object})
		}
	}
	return found
}

// below tells whether a path is that of this server or of something in it.
func (s *server) below(path string) bool { return strings.HasPrefix(path+".", s.path+".") }

// listen are the addresses that it listens on.
func (s *server) listen() []string { return listAt(s.object, "listen") }
