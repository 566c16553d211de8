// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/util"
)

// examples lists the worked examples. Each is a team's policy of its own and is
// loaded alone beside the built-in one.
func examples(t testing.TB) []string {
	t.Helper()
	dirs, err := fs.Glob(os.DirFS("."), "examples/*")
	if err != nil || len(dirs) < 7 {
		t.Fatalf("the worked examples are gone: %v, %v", dirs, err)
	}
	return dirs
}

// regoFiles lists the Rego files directly under dirs.
func regoFiles(t testing.TB, dirs ...string) []string {
	t.Helper()
	var files []string
	for _, dir := range dirs {
		found, err := fs.Glob(os.DirFS("."), dir+"/*.rego")
		if err != nil || (len(found) == 0) {
			t.Fatalf("no Rego in %s: %v", dir, err)
		}
		files = append(files, found...)
	}
	return files
}

func parse(t testing.TB, name, text string) *ast.Module {
	t.Helper()
	module, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func parseDirs(t testing.TB, dirs ...string) map[string]*ast.Module {
	t.Helper()
	modules := map[string]*ast.Module{}
	for _, name := range regoFiles(t, dirs...) {
		modules[name] = parse(t, name, string(read(t, name)))
	}
	return modules
}

// embedded parses what is embedded: the built-in policy and the helpers.
func embedded(t testing.TB) map[string]*ast.Module {
	t.Helper()
	modules := map[string]*ast.Module{}
	for dir, files := range map[string]fs.FS{"metaguard": Builtin, "testing": Testing} {
		names, err := fs.Glob(files, dir+"/*.rego")
		if err != nil || len(names) == 0 {
			t.Fatalf("no Rego in %s: %v", dir, err)
		}
		for _, name := range names {
			content, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			modules[name] = parse(t, name, string(content))
		}
	}
	return modules
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func schema(t testing.TB, name string) any {
	t.Helper()
	content, err := fs.ReadFile(Builtin, "schemas/"+name+".json")
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// newCompiler is as strict as the guard's own: strict mode, and the input schema
// over every rule.
func newCompiler(t testing.TB) *ast.Compiler {
	t.Helper()
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema(t, "input"))
	set.Put(ast.Ref{ast.SchemaRootDocument, ast.StringTerm("input")}, schema(t, "input"))
	return ast.NewCompiler().WithStrict(true).WithSchemas(set).WithUseTypeCheckAnnotations(true)
}

func TestEverythingIsEmbedded(t *testing.T) {
	found := map[string]bool{}
	for _, files := range []fs.FS{Builtin, Testing} {
		err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				found[name] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"metaguard", "testing", "schemas"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := path.Join(dir, entry.Name())
			if entry.IsDir() {
				continue // examples are for readers
			}
			if wanted := !strings.HasSuffix(name, "_test.rego"); found[name] != wanted {
				t.Errorf("%s: embedded is %v, want %v", name, found[name], wanted)
			}
		}
	}
}

func TestRego(t *testing.T) {
	t.Run("builtin", func(t *testing.T) { testRego(t, "") })
	for _, example := range examples(t) {
		t.Run(path.Base(example), func(t *testing.T) { testRego(t, example) })
	}
}

// testRego runs all Rego tests, the built-in policy's too, with one example
// loaded, and wants every line of what is no test covered.
func testRego(t *testing.T, example string) {
	dirs := []string{"metaguard", "testing"}
	store := inmem.New()
	if example != "" {
		dirs = append(dirs, example)
		if content, err := os.ReadFile(path.Join(example, "data.json")); err == nil {
			var data map[string]any
			if err := json.Unmarshal(content, &data); err != nil {
				t.Fatal(err)
			}
			store = inmem.NewFromObject(data)
		}
	}
	runRego(t, parseDirs(t, dirs...), store, dirs)
}

// What the README shows is tried: the first rule and its test run as they stand
// there, all other Rego compiles beside the built-in policy, and documents parse.
func TestREADME(t *testing.T) {
	blocks := map[string][]string{}
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```").FindAllStringSubmatch(string(read(t, "README.md")), -1) {
		blocks[block[1]] = append(blocks[block[1]], block[2])
	}
	if len(blocks["rego"]) < 3 || len(blocks["json"]) < 3 || len(blocks["yaml"]) != 1 {
		t.Fatalf("the README has lost its examples: %v", blocks)
	}
	modules := parseDirs(t, "metaguard", "testing")
	for i, name := range []string{"team/team.rego", "team/team_test.rego"} {
		modules[name] = parse(t, name, blocks["rego"][i])
	}
	runRego(t, modules, inmem.New(), []string{"metaguard", "testing", "team"})

	for i, text := range blocks["rego"] {
		formatted, err := format.Source("README.md", []byte(text))
		if err != nil || string(formatted) != text {
			t.Errorf("block %d of Rego is not as opa fmt would write it: %v\n%s", i, err, text)
		}
		modules := embedded(t)
		modules["block.rego"] = parse(t, "block.rego", text)
		compiler := newCompiler(t)
		if compiler.Compile(modules); compiler.Failed() {
			t.Errorf("block %d of Rego: %v\n%s", i, compiler.Errors, text)
		}
	}
	for _, text := range blocks["json"] {
		document(t, text)
	}
	for _, text := range blocks["yaml"] {
		var value map[string]any
		if err := util.Unmarshal([]byte(text), &value); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// The README knows every helper and every example.
func TestREADMEIsComplete(t *testing.T) {
	text := string(read(t, "README.md"))
	for name, module := range parseDirs(t, "testing") {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		for _, rule := range module.Rules {
			helper := rule.Head.Ref()[0].String()
			if strings.HasPrefix(helper, "_") {
				continue
			}
			signature := helper
			if len(rule.Head.Args) > 0 {
				var args []string
				for _, arg := range rule.Head.Args {
					args = append(args, arg.String())
				}
				signature += "(" + strings.Join(args, ", ") + ")"
			}
			if !strings.Contains(text, "| `"+signature+"` |") {
				t.Errorf("the README does not list the helper %s", signature)
			}
		}
	}
	for _, example := range examples(t) {
		if !strings.Contains(text, "]("+example+")") {
			t.Errorf("the README does not link %s", example)
		}
		if content := read(t, path.Join(example, "README.md")); !bytes.HasPrefix(content, []byte("# ")) {
			t.Errorf("%s/README.md has no title", example)
		}
	}
}

// runRego runs all tests and wants some in each of dirs.
func runRego(t *testing.T, modules map[string]*ast.Module, store storage.Store, dirs []string) {
	t.Helper()
	ctx := t.Context()
	coverage := cover.New()
	txn := storage.NewTransactionOrDie(ctx, store, storage.WriteParams)
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().
		SetCompiler(newCompiler(t)).
		SetStore(store).
		SetModules(modules).
		SetCoverageQueryTracer(coverage).
		RaiseBuiltinErrors(true).
		RunTests(ctx, txn)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for result := range results {
		if !result.Pass() {
			t.Errorf("%v: %v", result.Location, result)
		}
		ran[path.Dir(result.Location.File)]++
	}
	for _, dir := range dirs {
		if ran[dir] == 0 {
			t.Errorf("no test of %s ran", dir)
		}
	}
	for file, report := range coverage.Report(modules).Files {
		if report.Coverage != 100 && !strings.HasSuffix(file, "_test.rego") {
			t.Errorf("%s: coverage is %v %%, want 100: not covered are %v", file, report.Coverage, report.NotCovered)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, name := range regoFiles(t, append(examples(t), "metaguard", "testing")...) {
		source := read(t, name)
		formatted, err := format.Source(name, source)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(source, formatted) {
			t.Errorf("%s is not as opa fmt would write it", name)
		}
	}
}

// Every clause of every rule has a title, and every rule of the built-in policy
// and of the helpers a description too.
func TestEveryRuleIsDescribed(t *testing.T) {
	entrypoints := map[string]bool{}
	for name, module := range parseDirs(t, append(examples(t), "metaguard", "testing")...) {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		described := map[string]bool{}
		for _, rule := range module.Rules {
			ref := rule.Head.Ref()[0].String()
			titled := false
			for _, annotations := range rule.Annotations {
				titled = titled || annotations.Title != ""
				described[ref] = described[ref] || annotations.Description != ""
				if annotations.Entrypoint {
					entrypoints[module.Package.Path.String()+"."+ref] = true
				}
			}
			if !titled {
				t.Errorf("%v: this clause of rule %s has no METADATA with a title", rule.Loc(), ref)
			}
		}
		for ref, ok := range described {
			if !ok && !strings.HasPrefix(name, "examples/") {
				t.Errorf("%s: rule %s has no description", name, ref)
			}
		}
	}
	if len(entrypoints) != 1 || !entrypoints["data.metaguard.decision"] {
		t.Errorf("entrypoints are %v, want data.metaguard.decision alone", entrypoints)
	}
}
