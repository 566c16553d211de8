// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// variables are the values of ${name}. What an answer gave may be a token or a
// password, so no value is ever printed.
type variables struct {
	values map[string]string
	lists  map[string][]string
}

func newVariables(defaults, given map[string]string) *variables {
	v := &variables{values: make(map[string]string), lists: make(map[string][]string)}
	for name, value := range defaults {
		v.values[name] = value
	}
	for name, value := range given {
		v.values[name] = value
	}
	return v
}

var variablePattern = regexp.MustCompile(`\$\{([a-z][a-z0-9_]*)\}`)

func variableNames(text string) []string {
	var names []string
	for _, found := range variablePattern.FindAllStringSubmatch(text, -1) {
		names = append(names, found[1])
	}
	return names
}

// expand puts values in place of names, each through escape. A name without a
// value is an error: the step that should have saved it failed or was left out.
func (v *variables) expand(text string, escape func(string) string) (string, error) {
	var missing error
	expanded := variablePattern.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		value, ok := v.values[name]
		if !ok {
			missing = fmt.Errorf("nothing was saved as %s", name)
			return ""
		}
		return escape(value)
	})
	return expanded, missing
}

// expandTarget expands a path and its query, percent-encoding what comes in: a
// value can neither add a query nor a line.
func (v *variables) expandTarget(target string) (string, error) {
	before, query, found := strings.Cut(target, "?")
	expanded, err := v.expand(before, url.PathEscape)
	if err != nil || !found {
		return expanded, err
	}
	after, err := v.expand(query, url.QueryEscape)
	return expanded + "?" + after, err
}

func plain(value string) string { return value }
