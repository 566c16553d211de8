// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// wordsOfDialect gives every name that stands in the dialect's source, so that
// a row that is added there and not in the Rego table makes the test fail.
func wordsOfDialect(t testing.TB) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../module/dialect/openstack.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"": true}
	var words []string
	ast.Inspect(file, func(node ast.Node) bool {
		if _, ok := node.(*ast.ImportSpec); ok {
			return false
		}
		literal, ok := node.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range append(strings.Split(text, "/"), text) {
			word = strings.Trim(strings.ReplaceAll(word, "#", "12"), "/")
			if !seen[word] && !strings.ContainsAny(word, ` %"`) {
				seen[word] = true
				words = append(words, word)
			}
		}
		return true
	})
	return append(words, "2099-01-01", "12a", "nothing")
}

// pathsOfDialect makes paths of these words: known ones, and near misses.
func pathsOfDialect(t testing.TB) []string {
	t.Helper()
	words := wordsOfDialect(t)
	paths := []string{"/", "/healthcheck/", "/openstack/", "/openstack/latest/", "/openstack/latest/password/"}
	for _, word := range words {
		paths = append(paths, "/"+word, "/ec2/"+word, "/openstack/"+word, "/healthcheck/"+word)
	}
	for _, tree := range []string{"/openstack", "/ec2", ""} {
		for _, version := range words {
			for _, name := range []string{"meta-data", "user-data", "password", "vendor_data2.json", "nothing"} {
				paths = append(paths, tree+"/"+version+"/"+name)
			}
		}
		for _, version := range []string{"latest", "2012-08-10", "2013-10-17", "2009-04-04", "content"} {
			for _, name := range words {
				below := tree + "/" + version + "/"
				paths = append(paths, below+name, below+name+"/12", below+"meta-data/"+name,
					below+"meta-data/"+name+"/12", below+"meta-data/"+name+"/12/openssh-key", below+"meta-data/"+name+"/ebs0/12")
			}
		}
	}
	return paths
}

// The helpers read paths as the guard does: their table is the dialect's.
func TestRequestsAreClassifiedAsTheDialectDoes(t *testing.T) {
	modules := parseDirs(t, "testing")
	compiler := newCompiler(t)
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	paths := pathsOfDialect(t)
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE"}
	store := inmem.NewFromObject(map[string]any{"paths": paths, "methods": methods})
	results, err := rego.New(rego.Compiler(compiler), rego.Store(store), rego.Query(`
		some path in data.paths
		made := [[method, request.resource, request.request.body] |
			some method in data.methods
			request := data.metaguard.testing.request(data.metaguard.testing.anonymous, method, path)
		]`)).Eval(t.Context())
	if err != nil || len(results) != len(paths) {
		t.Fatal(len(results), err)
	}
	kinds := map[decision.Kind]int{}
	for _, result := range results {
		path := result.Bindings["path"].(string)
		made := map[string][]any{}
		for _, row := range result.Bindings["made"].([]any) {
			row := row.([]any)
			made[row[0].(string)] = row[1:]
		}
		for _, method := range methods {
			arrived := method
			if method == "HEAD" {
				arrived = "GET"
			}
			match := dialect.OpenStack{}.Classify(dialect.Request{
				Method:        arrived,
				Segments:      strings.FieldsFunc(path, func(r rune) bool { return r == '/' }),
				TrailingSlash: path != "/" && strings.HasSuffix(path, "/"),
			})
			row, ok := made[method]
			if ok != match.Allows(arrived) {
				t.Errorf("%s %s: the helper makes a request is %v, the dialect has the method is %v", method, path, ok, match.Allows(arrived))
			}
			if !ok {
				continue
			}
			kinds[match.Resource.Kind]++
			if got, want := asText(t, row[0]), asText(t, roundTrip(t, match.Resource)); got != want {
				t.Errorf("%s %s: the helper says\n%s, the dialect\n%s", method, path, got, want)
			}
			if hasBody := row[1] != nil; hasBody != match.Body {
				t.Errorf("%s %s: the helper makes a body is %v, the dialect expects one is %v", method, path, hasBody, match.Body)
			}
		}
	}
	// Nothing of this would be worth much if the paths were all unknown.
	for _, kind := range []decision.Kind{
		decision.KindListing, decision.KindMetadata, decision.KindPassword, decision.KindUserdata,
		decision.KindVendordata, decision.KindNetwork, decision.KindHealth, decision.KindUnknown,
	} {
		if kinds[kind] == 0 {
			t.Errorf("no path of kind %s was tried", kind)
		}
	}
	t.Logf("%d paths, by kind %v", len(paths), kinds)
}
