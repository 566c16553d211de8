// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lay puts files into a new directory.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const closed = `package metaguard.team

deny contains "closed" if input.resource.kind == "userdata"
`

func TestLoadTests(t *testing.T) {
	const tests = "package team_test\n\ntest_nothing if 1 == 1\n"
	tests1 := map[string]string{
		"policy/team.rego": closed, "policy/team_test.rego": tests, "policy/.hidden_test.rego": "nothing",
		"tests/a_test.rego": tests, "helpers/testing.rego": "package metaguard.testing\n\nnobody := {}\n", "empty/notes.txt": "",
	}
	dir := lay(t, tests1)
	for _, test := range []struct {
		name    string
		paths   []string
		counted []string
		others  []string // the ends of names of modules that do not count
		code    string
	}{
		{name: "built-in", counted: []string{"access.rego", "answer.rego", "caller.rego", "decision.rego"}, others: []string{"testing/testing.rego", "decision_test.rego"}},
		{name: "beside", paths: []string{"policy"}, counted: []string{"team.rego"}, others: []string{"policy/team_test.rego", "metaguard/access.rego", "testing/testing.rego"}},
		{name: "tests alone", paths: []string{"tests"}, others: []string{"tests/a_test.rego"}},
		{name: "one file", paths: []string{"policy/team.rego", "tests/a_test.rego"}, counted: []string{"team.rego"}, others: []string{"tests/a_test.rego"}},
		{name: "own helpers", paths: []string{"policy", "helpers"}, counted: []string{"team.rego"}, others: []string{"helpers/testing.rego"}},
		{name: "nothing", paths: []string{"empty"}, code: CodePathEmpty},
		{name: "nowhere", paths: []string{"nowhere"}, code: CodePathUnreadable},
	} {
		t.Run(test.name, func(t *testing.T) {
			var cfg Config
			for _, path := range test.paths {
				cfg.Paths = append(cfg.Paths, filepath.Join(dir, path))
			}
			loaded, err := LoadTests(context.Background(), cfg)
			if test.code != "" {
				var bad *Error
				if !errors.As(err, &bad) || bad.Findings[0].Code != test.code {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var counted []string
			for name := range loaded.Counted {
				counted = append(counted, filepath.Base(name))
			}
			slices.Sort(counted)
			if !slices.Equal(counted, test.counted) {
				t.Errorf("coverage counts %v", counted)
			}
			for _, end := range test.others {
				if !slices.ContainsFunc(sortedKeys(loaded.Modules), func(name string) bool { return strings.HasSuffix(name, end) }) {
					t.Errorf("%s is missing in %v", end, sortedKeys(loaded.Modules))
				}
			}
			if test.name == "own helpers" && loaded.Modules[builtinPrefix+"testing/testing.rego"] != nil {
				t.Error("the built-in helpers stand beside the operator's own")
			}
			compiler := loaded.Compiler(true)
			if compiler.Compile(loaded.Modules); compiler.Failed() {
				t.Error(loaded.Explain(compiler.Errors))
			}
		})
	}
}

func TestFormat(t *testing.T) {
	formatted, err := Format("a.rego", []byte("package  a\nb if {1==1}"))
	if err != nil || string(formatted) != "package a\n\nb if 1 == 1\n" {
		t.Errorf("%q, %v", formatted, err)
	}
	var bad *Error
	if _, err := Format("a.rego", []byte("package a\n\nb {\n")); !errors.As(err, &bad) || bad.Findings[0].File != "a.rego" || bad.Findings[0].Line < 3 {
		t.Errorf("%v", err)
	}
}
