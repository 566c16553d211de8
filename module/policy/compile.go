// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// content is what was read, parsed.
type content struct {
	modules map[string]*ast.Module
	// own holds the names of the operator's modules.
	own map[string]bool
	// system are rules for OPA itself, such as system.log.mask. They see another
	// input than decisions do, and OPA compiles them by itself.
	system   map[string]*ast.Module
	docs     []document
	replaced bool
}

// compile turns what was read into a policy that can decide, or says all
// that is wrong with it. It changes nothing else.
func (s *settings) compile(ctx context.Context, src *source, p *printer) (snap *Policy, err error) {
	defer func() {
		if v := recover(); v != nil {
			snap, err = nil, &Error{Findings: []Finding{{
				Code: CodeInternal, Message: fmt.Sprintf("OPA panicked while compiling: %v", v), Hint: string(debug.Stack()),
			}}}
		}
	}()

	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var bad findings
	if src.size() > maxPolicyBytes {
		bad.add(tooLarge("all of it together"))
		return nil, bad.err()
	}
	b := s.parse(src, &bad)
	data := merge(b.docs, &bad)
	b.checkNames(src.atPace(), &bad)
	b.checkValues(&bad)
	if err := bad.err(); err != nil {
		return nil, err
	}

	compiler := ast.NewCompiler().
		WithCapabilities(s.caps).
		WithStrict(true).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(schemas()).
		WithUseTypeCheckAnnotations(true).
		WithEnablePrintStatements(p != nil).
		SetErrorLimit(maxErrors)
	s.checkSystem(b, src, &bad)
	compiler.Compile(b.modules)
	if compiler.Failed() {
		bad.addOPA(compiler.Errors, s)
		return nil, bad.err()
	}
	s.checkEntrypoint(compiler, b, &bad)
	b.checkShadows(compiler, &bad)
	if bad.count() == 0 && !src.partial {
		s.checkReachable(compiler, b, &bad)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}

	tree, err := newTree(data, src.atPace())
	if err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	makeWhole(compiler, tree, src.atPace())
	var runtime *ast.Term
	if slices.Contains(s.AllowBuiltins, "opa.runtime") {
		runtime = environment()
	}
	query, err := newQuestion(ast.NewExpr(ast.NewTerm(s.query)), compiler, tree, runtime)
	if err != nil {
		bad.addOPA(err, s)
		return nil, bad.err()
	}
	snap = &Policy{
		query:      query,
		entrypoint: s.query,
		compiler:   compiler,
		data:       tree,
		rules:      b.indexRules(),
		print:      p,
		timeout:    s.Timeout,
		revision:   src.revision(),
		identity:   src.identity(),
		system:     b.localSystem(src),
		bundles:    src.bundleRevisions(),
		loaded:     time.Now(),
		files:      src.count(),
		depends:    dependenceOf(compiler),
		sources:    src.rules(),
		replaces:   b.replaced,
	}
	snap.constants = snap.constantsOf(ctx, src.atPace())
	reads := readSetOf(compiler)
	// Claims that cannot be shown are an error, also where no rule reads them.
	snap.view = newInputView(func(part string) bool { return reads[part] != nil || part == claimsPart })
	snap.verdicts.Store(newVerdicts(newVerdictCache(s.Cache, snap.depends.world, newKeyer(reads, tree))))
	snap.warnings = b.unread(data)
	s.tryOut(ctx, snap, src, Accepted(data), &bad)
	return snap, bad.err()
}

// tryOut asks a new policy some questions before it decides in earnest.
func (s *settings) tryOut(ctx context.Context, p *Policy, src *source, accepted []string, bad *findings) {
	switch {
	case src.partial:
		return
	case s.reachesOut:
		p.warnings.add(Finding{
			Code: CodeSmokeTest, Message: "the smoke test was left out, since allow_builtins lets the policy reach out of the process",
		})
		return
	case src.empty() && s.Entrypoint == DefaultEntrypoint:
		return // the built-in policy itself
	}
	p.try(ctx, bad)
	if len(s.Samples) > 0 && bad.count() == 0 {
		p.smokeTest(ctx, s.Samples, src.atPace(), accepted, bad)
	}
}

// parse parses all files. Whether the operator's own package metaguard
// replaces the built-in one is known only then.
func (s *settings) parse(src *source, bad *findings) *content {
	b := &content{modules: map[string]*ast.Module{}, own: map[string]bool{}, system: map[string]*ast.Module{}}
	for i := range src.files {
		f := &src.files[i]
		if !f.isRego() {
			if doc, ok := parseData(f, src.atPace(), bad); ok {
				b.docs = append(b.docs, doc)
			}
			continue
		}
		module, err := s.parseModule(f)
		if err != nil {
			bad.addOPA(err, s)
			continue
		}
		b.add(f.name, module)
		b.replaced = b.replaced || module.Package.Path.Equal(metaguardPackage)
	}
	for i := range src.bundles {
		s.parseBundle(&src.bundles[i], b, bad)
	}
	for _, f := range builtin() {
		module, err := s.parseModule(&f)
		if err != nil {
			bad.addOPA(err, s)
			continue
		}
		if !b.replaced {
			b.modules[f.name] = module
		}
	}
	return b
}

// add takes in one of the operator's modules.
func (b *content) add(name string, module *ast.Module) {
	if module.Package.Path.HasPrefix(systemRef) {
		b.system[name] = module
		return
	}
	b.modules[name], b.own[name] = module, true
}

// localSystem are the operator's own files with rules for OPA itself.
func (b *content) localSystem(src *source) []file {
	var rules []file
	for _, f := range src.files {
		if b.system[f.name] != nil {
			rules = append(rules, f)
		}
	}
	return rules
}

// checkSystem finds what is wrong with rules for OPA itself, which OPA would say
// without file and line, or not at all.
func (s *settings) checkSystem(b *content, src *source, bad *findings) {
	for _, name := range sortedKeys(b.system) {
		if s.OPA == "" && !s.remote && !s.SystemRules && len(s.Served) == 0 {
			bad.at(b.system[name].Package.Loc(), CodePackageUnreached, "OPA reads it where the policy block names its configuration, with `opa <file>`",
				"nothing reads package %s", packageName(b.system[name].Package.Path))
		}
	}
	if len(b.system) == 0 {
		return
	}
	if src.opa != nil && !src.opa.logs && !src.opa.discovers {
		name := sortedKeys(b.system)[0]
		bad.at(b.system[name].Package.Loc(), CodePackageUnreached, "write `decision_logs: {console: false}` into it, or take the rules out",
			"nothing reads package %s: %s has no decision_logs", packageName(b.system[name].Package.Path), src.opa.name)
	}
	local := b.localSystem(src)
	for i := range src.bundles {
		if len(local) > 0 && slices.ContainsFunc(src.bundles[i].roots, isSystemRoot) {
			bad.add(Finding{
				File: bundlePrefix + src.bundles[i].name, Code: CodeBundleRefused,
				Message: "the bundle brings system/log, which would erase the rules in " + local[0].name, Hint: "keep them in one place",
			})
		}
	}
	compiler := ast.NewCompiler().WithCapabilities(s.caps).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1).SetErrorLimit(maxErrors)
	if compiler.Compile(b.system); compiler.Failed() {
		bad.addOPA(compiler.Errors, s)
	}
}

// parseBundle adds what a bundle brings.
func (s *settings) parseBundle(from *loadedBundle, b *content, bad *findings) {
	b.replaced = b.replaced || from.replaces()
	for i := range from.modules {
		f := &from.modules[i]
		module, err := s.parseModule(f)
		if err != nil {
			bad.addOPA(err, s)
			continue
		}
		b.add(f.name, module)
	}
	if len(from.data) > 0 {
		b.docs = append(b.docs, document{file: &file{name: bundlePrefix + from.name}, root: from.data})
	}
}

func (s *settings) parseModule(f *file) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(f.name, util.ByteSliceToString(f.bytes), ast.ParserOptions{
		Capabilities:      s.caps,
		ProcessAnnotation: true,
		RegoVersion:       ast.RegoV1,
	})
	if err != nil {
		return nil, err
	}
	for _, note := range module.Annotations {
		for _, schema := range note.Schemas {
			if schema.Definition != nil && refersElsewhere(*schema.Definition) {
				return nil, ast.NewError(ast.CompileErr, note.Loc(), "a schema may not read files or URLs: its $ref must begin with #")
			}
		}
	}
	return module, nil
}

// refersElsewhere tells a schema that OPA would complete from a file or URL.
func refersElsewhere(schema any) bool {
	switch schema := schema.(type) {
	case map[string]any:
		if ref, ok := schema["$ref"].(string); ok && !strings.HasPrefix(ref, "#") {
			return true
		}
		return slices.ContainsFunc(slices.Collect(maps.Values(schema)), refersElsewhere)
	case []any:
		return slices.ContainsFunc(schema, refersElsewhere)
	}
	return false
}

// ownModules are the operator's modules in the order of their names.
func (b *content) ownModules() []*ast.Module {
	modules := make([]*ast.Module, 0, len(b.own))
	for _, name := range sortedKeys(b.own) {
		modules = append(modules, b.modules[name])
	}
	return modules
}

// environment is what opa.runtime shows where the operator has allowed it.
func environment() *ast.Term {
	env := ast.NewObject()
	for _, pair := range os.Environ() {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env.Insert(ast.StringTerm(name), ast.StringTerm(value))
		}
	}
	return ast.ObjectTerm([2]*ast.Term{ast.StringTerm("env"), ast.NewTerm(env)})
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
