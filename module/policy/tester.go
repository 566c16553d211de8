// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/metaguard/metaguard/module/pace"
	"github.com/metaguard/metaguard/policies"
)

// Files is how many of the operator's files the policy was made of.
func (p *Policy) Files() int { return p.files }

// Tests is a policy with its tests, parsed, as OPA's tester takes them.
type Tests struct {
	// Modules are the policy, the helpers of package metaguard.testing and the
	// tests, by file.
	Modules map[string]*ast.Module
	// Counted are the modules whose coverage counts: the operator's, without
	// tests, or the built-in ones where he has none.
	Counted map[string]*ast.Module
	// Store holds the data.
	Store storage.Store
	// Runtime is what opa.runtime shows; nil if it is not allowed.
	Runtime *ast.Term

	settings *settings
}

// LoadTests reads a policy with its tests, which are in files that end in
// _test.rego. Without paths these are the built-in policy and its own tests.
// The policy must be one that a server would take; the tests need only
// compile. Errors in either are an *Error.
func LoadTests(ctx context.Context, cfg Config) (*Tests, error) {
	s, err := cfg.check()
	if err != nil {
		return nil, err
	}
	roots, files, err := s.readTests()
	if err != nil {
		return nil, err
	}
	src, err := read(roots, new(pace.Pace))
	if err != nil {
		return nil, err
	}
	if err := s.addServed(src); err != nil {
		return nil, err
	}
	files = s.takeHelpers(src, files)
	if _, err := s.compile(ctx, src, nil); err != nil {
		return nil, err
	}

	var bad findings
	b := s.parse(src, &bad)
	t := &Tests{Modules: b.modules, Counted: map[string]*ast.Module{}, settings: s}
	for name, module := range b.modules {
		if b.own[name] || len(s.Paths) == 0 {
			t.Counted[name] = module
		}
	}
	for _, f := range files {
		module, err := s.parseModule(&f)
		if err != nil {
			bad.addOPA(err, s)
			continue
		}
		t.Modules[f.name] = module
	}
	data := merge(b.docs, &bad)
	if err := bad.err(); err != nil {
		return nil, err
	}
	t.Store = inmem.NewFromObjectWithOpts(plain(data).(map[string]any), inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	if slices.Contains(s.AllowBuiltins, "opa.runtime") {
		t.Runtime = environment()
	}
	return t, nil
}

// Compiler is a new compiler for the modules. It is less strict than the one
// for policies, since the same tests run under `opa test` too. With values, a
// failed test can show what it compared.
func (t *Tests) Compiler(values bool) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(t.settings.caps).
		WithDefaultRegoVersion(ast.RegoV1).
		WithUseTypeCheckAnnotations(true).
		WithEnablePrintStatements(true).
		WithRewriteTestRules(values).
		SetErrorLimit(maxErrors)
}

// Explain gives an error of that compiler as an *Error.
func (t *Tests) Explain(err error) error {
	var list ast.Errors
	if !errors.As(err, &list) {
		return err
	}
	var bad findings
	bad.addOPA(list, t.settings)
	return bad.err()
}

// readTests reads the tests and their helpers, and tells which of the
// operator's paths hold anything else.
func (s *settings) readTests() (roots []string, files []file, err error) {
	if files, err = embedded(policies.Testing); err != nil {
		return nil, nil, err
	}
	if len(s.Paths) == 0 {
		tests, err := embedded(policies.Tests)
		return nil, append(files, tests...), err
	}
	for _, root := range s.Paths {
		_, err := read([]string{root}, new(pace.Pace))
		if err == nil {
			roots = append(roots, root)
		} else if !holdsNothing(err) {
			return nil, nil, err
		}
		names, filterErr := loader.FilteredPaths([]string{root}, notTest)
		if filterErr != nil {
			return nil, nil, filterErr
		}
		if err != nil && len(names) == 0 {
			return nil, nil, err
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				return nil, nil, err
			}
			files = append(files, file{name: display(name), rel: filepath.Base(name), bytes: content})
		}
	}
	return roots, files, nil
}

// testingPackage is that of the helpers for tests.
var testingPackage = metaguardPackage.Append(ast.StringTerm("testing"))

// takeHelpers takes helpers for tests out of a policy, where nobody reads
// them. They replace the built-in ones: whoever works on these runs them so.
func (s *settings) takeHelpers(src *source, files []file) []file {
	var helpers []file
	src.files = slices.DeleteFunc(src.files, func(f file) bool {
		if !f.isRego() {
			return false
		}
		module, err := s.parseModule(&f)
		if err != nil || !module.Package.Path.Equal(testingPackage) {
			return false
		}
		helpers = append(helpers, f)
		return true
	})
	if len(helpers) == 0 {
		return files
	}
	files = slices.DeleteFunc(files, func(f file) bool {
		return strings.HasPrefix(f.name, builtinPrefix) && !strings.HasSuffix(f.name, "_test.rego")
	})
	return append(files, helpers...)
}

// notTest leaves out all files but tests.
func notTest(path string, info fs.FileInfo, depth int) bool {
	name := filepath.Base(path)
	return depth > 0 && strings.HasPrefix(name, ".") || !info.IsDir() && !strings.HasSuffix(name, "_test.rego")
}

// holdsNothing tells the error for a path without policy and data.
func holdsNothing(err error) bool {
	var bad *Error
	return errors.As(err, &bad) && !slices.ContainsFunc(bad.Findings, func(f Finding) bool {
		return f.Code != CodePathEmpty && f.Code != CodePathUnsupported
	})
}

// embedded reads the Rego of a part of the binary.
func embedded(from fs.FS) ([]file, error) {
	var files []file
	err := fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, path)
		files = append(files, file{name: builtinPrefix + path, rel: path, bytes: content})
		return err
	})
	return files, err
}
