// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/format"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// tableOf is a dialect's table as testing/dialects.rego reads it.
type tableOf struct {
	Path     string     // what a canonical path looks like
	Versions []string   // what {version} stands for; none: any segment
	Trees    [][]string // the names in front of a version
	Patterns []string
	Rows     []tableRow
}

// tableRow is what a pattern stands for, where that is not as in most rows.
type tableRow struct {
	Kind    decision.Kind              `json:"kind"`
	Secret  bool                       `json:"sensitive,omitempty"`
	KeyFrom *int                       `json:"key_from,omitempty"` // the first segment of the key; else what follows the version
	Exact   bool                       `json:"exact,omitempty"`    // a slash at the end makes it unknown
	Only    []string                   `json:"only_versions,omitempty"`
	Methods map[string]decision.Action `json:"methods,omitempty"`
	Bodies  []string                   `json:"bodies,omitempty"`
}

func tabular(t testing.TB) []dialect.Tabular {
	t.Helper()
	var all []dialect.Tabular
	for _, d := range dialects(t) {
		if d, ok := d.(dialect.Tabular); ok && described[d.Name()] == "" {
			all = append(all, d)
		}
	}
	return all
}

func segmentsOf(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func classifyAs(d dialect.Dialect, method, path string) dialect.Match {
	return d.Classify(dialect.Request{Method: method, Segments: segmentsOf(path), TrailingSlash: path != "/" && strings.HasSuffix(path, "/")})
}

// example is a path that fits a pattern.
func example(pattern, version string) string {
	var segments []string
	for _, part := range segmentsOf(pattern) {
		switch part {
		case "{version}":
			part = version
		case "#":
			part = "7"
		case "*":
			part = "some"
		case "**":
			part = "some/more"
		}
		segments = append(segments, part)
	}
	return "/" + strings.Join(segments, "/")
}

// rowOf finds out what a pattern stands for, by asking the dialect, which may look
// at more than its table.
func rowOf(t testing.TB, d dialect.Tabular, pattern string, versions []string) tableRow {
	t.Helper()
	if len(versions) == 0 {
		versions = []string{"any"}
	}
	var row tableRow
	at := slices.Index(segmentsOf(pattern), "{version}")
	var match dialect.Match
	for _, version := range versions {
		if found := classifyAs(d, "GET", example(pattern, version)); found.Resource.Kind != decision.KindUnknown {
			match = found
			row.Only = append(row.Only, version)
		}
	}
	if at < 0 || len(row.Only) == len(versions) || len(row.Only) == 0 {
		row.Only = nil
	}
	path := example(pattern, versions[0])
	if row.Only != nil {
		path = example(pattern, row.Only[0])
	}
	if match.Methods == nil { // of kind unknown, though it is in the table
		match = classifyAs(d, "GET", path)
	}
	row.Kind, row.Secret = match.Resource.Kind, match.Resource.Sensitive
	row.Exact = row.Kind != decision.KindUnknown && path != "/" && classifyAs(d, "GET", path+"/").Resource.Kind == decision.KindUnknown
	resource := classifyAs(d, "GET", path).Resource
	segments := segmentsOf(path)
	if want := strings.Join(segments[:at+1], "/"); at >= 0 && !strings.HasSuffix(want, resource.Version) {
		t.Fatalf("%s /%s: the version is %q", d.Name(), pattern, resource.Version)
	}
	from := at + 1
	for from < len(segments) && strings.Join(segments[from:], "/") != resource.Key {
		from++
	}
	switch {
	case from == at+1:
	case from == len(segments):
		from = maxSegments // whatever ** stands for
		fallthrough
	default:
		row.KeyFrom = &from
	}
	methods := map[string]decision.Action{}
	for _, method := range match.Methods {
		if method == "HEAD" {
			continue // it arrives as GET
		}
		asked := classifyAs(d, method, path)
		methods[method] = asked.Resource.Action
		if asked.Body {
			row.Bodies = append(row.Bodies, method)
		}
	}
	if len(methods) != 1 || methods["GET"] != decision.Read {
		row.Methods = methods
	}
	return row
}

// maxSegments is more than any path has that is tried.
const maxSegments = 99

// tables makes what testing/tables.rego holds.
func tables(t testing.TB) map[string]tableOf {
	t.Helper()
	all := map[string]tableOf{}
	for _, d := range tabular(t) {
		patterns, versions := d.Patterns()
		table := tableOf{
			Path:     "^/[A-Za-z0-9._~/" + regexp.QuoteMeta(d.Traits().ExtraPathBytes) + "-]*$",
			Versions: append([]string{}, versions...),
			Trees:    [][]string{},
			Patterns: patterns,
		}
		for _, pattern := range patterns {
			table.Rows = append(table.Rows, rowOf(t, d, pattern, versions))
			parts := segmentsOf(pattern)
			at := slices.Index(parts, "{version}")
			if at < 0 {
				continue
			}
			tree := parts[:at:at]
			if !slices.ContainsFunc(table.Trees, func(known []string) bool { return slices.Equal(known, tree) }) {
				table.Trees = append(table.Trees, tree)
			}
		}
		all[d.Name()] = table
	}
	return all
}

// writeTables writes a row to a line.
func writeTables(t testing.TB, text *strings.Builder) {
	t.Helper()
	text.WriteString("_tables := {\n")
	all := tables(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		table := all[name]
		fmt.Fprintf(text, "%q: {\n%q: %s,\n%q: %s,\n%q: %s,\n%q: {\n", name, "path", asText(t, table.Path), "versions", asText(t, table.Versions), "trees", asText(t, table.Trees), "rows")
		for i, row := range table.Rows {
			fmt.Fprintf(text, "%q: %s,\n", table.Patterns[i], asText(t, row))
		}
		text.WriteString("},\n},\n")
	}
	text.WriteString("}\n")
}

// writeSamples writes a sample to a line.
func writeSamples(t testing.TB, text *strings.Builder) {
	t.Helper()
	text.WriteString("_samples := {\n")
	all := samplesFor(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(text, "%q: {\n", name)
		for _, kind := range slices.Sorted(maps.Keys(all[name])) {
			fmt.Fprintf(text, "%q: {\n", kind)
			for _, action := range slices.Sorted(maps.Keys(all[name][kind])) {
				fmt.Fprintf(text, "%q: %s,\n", action, asText(t, all[name][kind][action]))
			}
			text.WriteString("},\n")
		}
		text.WriteString("},\n")
	}
	text.WriteString("}\n")
}

// samplesFor lists the samples that input_for takes, by dialect, kind and action:
// the first of each.
func samplesFor(t testing.TB) map[string]map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]map[string]any{}
	for _, d := range dialects(t) {
		if d.Name() == "openstack" || described[d.Name()] != "" {
			continue
		}
		kinds := map[string]map[string]any{}
		for _, in := range dialect.Samples(d) {
			kind, action := string(in.Resource.Kind), string(in.Resource.Action)
			if kinds[kind] == nil {
				kinds[kind] = map[string]any{}
			}
			if kinds[kind][action] != nil {
				continue
			}
			headers := map[string]string{}
			for name, value := range in.Request.Headers {
				if name != "user-agent" {
					headers[name] = value
				}
			}
			kinds[kind][action] = map[string]any{
				"method": in.Request.Method, "path": in.Request.Path, "headers": headers, "body": in.Request.Body != nil, "resource": in.Resource,
			}
		}
		all[d.Name()] = kinds
	}
	return all
}

// The tables of the helpers are the dialects'.
func TestTablesAreGenerated(t *testing.T) {
	var text strings.Builder
	text.WriteString("# Made of the dialects: go test ./policies -run TestTablesAreGenerated -update\npackage metaguard.testing\n\n")
	text.WriteString("# METADATA\n# title: Tables\n# description: What the paths of each dialect stand for, read by dialects.rego.\n")
	writeTables(t, &text)
	text.WriteString("\n# METADATA\n# title: Samples\n# description: One request of each kind and action, by dialect.\n")
	writeSamples(t, &text)
	formatted, err := format.Source("tables.rego", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	generated(t, "testing/tables.rego", formatted)
}

// pathsOf makes paths of a table: known ones, and of near misses some.
func pathsOf(d dialect.Tabular) []string {
	const misses = 400
	patterns, versions := d.Patterns()
	if len(versions) == 0 {
		versions = []string{"any"}
	}
	known, near := []string{"/", "/nothing"}, map[string]bool{}
	for _, pattern := range patterns {
		path := example(pattern, versions[len(versions)-1])
		known = append(known, path)
		near[path+"/"], near[path+"/nothing"], near[path+"/12/x"], near[example(pattern, versions[0])], near[example(pattern, "9999-01-01")] = true, true, true, true, true
		segments := segmentsOf(path)
		for i := range segments {
			near["/"+strings.Join(segments[:i], "/")] = true
			for _, word := range []string{"nothing", "12", "12a"} {
				other := slices.Clone(segments)
				other[i] = word
				near["/"+strings.Join(other, "/")] = true
			}
		}
	}
	delete(near, "//")
	sorted := slices.Sorted(maps.Keys(near))
	for i := 0; i < len(sorted); i += len(sorted)/misses + 1 {
		known = append(known, sorted[i])
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// request_to reads paths as the dialects do.
func TestRequestsToEveryDialect(t *testing.T) {
	const perQuery = 300
	for _, d := range tabular(t) {
		t.Run(d.Name(), func(t *testing.T) {
			kinds := map[decision.Kind]int{}
			for paths := range slices.Chunk(pathsOf(d), perQuery) {
				requestsTo(t, d, paths, kinds)
			}
			for _, in := range dialect.Samples(d) {
				if kinds[in.Resource.Kind] == 0 && len(in.Request.Headers) == 1 {
					t.Errorf("no path of kind %s was tried", in.Resource.Kind)
				}
			}
			t.Logf("by kind %v", kinds)
		})
	}
}

func requestsTo(t *testing.T, d dialect.Dialect, paths []string, kinds map[decision.Kind]int) {
	t.Helper()
	methods := []string{"GET", "HEAD", "POST", "PUT", "DELETE"}
	results := eval(t, nil, `some path in data.paths
		made := {method: request |
			some method in data.methods
			request := data.metaguard.testing.request_to(data.dialect, data.metaguard.testing.instance("i-1", "p-1"), method, path)
		}`, withData(map[string]any{"paths": paths, "methods": methods, "dialect": d.Name()}))
	if len(results) != len(paths) {
		t.Fatalf("%d answers to %d questions", len(results), len(paths))
	}
	wrong := matches(t, "input")
	for _, result := range results {
		path, made := result.Bindings["path"].(string), result.Bindings["made"].(map[string]any)
		for _, method := range methods {
			arrived := method
			if method == "HEAD" {
				arrived = "GET"
			}
			match := classifyAs(d, arrived, path)
			request, ok := made[method].(map[string]any)
			if ok != (match.Ambiguous == "" && match.Allows(arrived)) {
				t.Errorf("%s %s: the helper makes a request is %v, the dialect allows %v", method, path, ok, match.Methods)
			}
			if !ok {
				continue
			}
			kinds[match.Resource.Kind]++
			if got, want := asText(t, request["resource"]), asText(t, roundTrip(t, match.Resource)); got != want {
				t.Errorf("%s %s: the helper says\n%s, the dialect\n%s", method, path, got, want)
			}
			if hasBody := request["request"].(map[string]any)["body"] != nil; hasBody != match.Body {
				t.Errorf("%s %s: the helper makes a body is %v, the dialect expects one is %v", method, path, hasBody, match.Body)
			}
			if found := wrong(request); found != "" && method == "GET" && len(kinds) < 4 {
				t.Errorf("%s %s: %s", method, path, found)
			}
		}
	}
}
