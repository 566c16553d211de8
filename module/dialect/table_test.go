// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// tableRows has every sort of pattern.
var tableRows = []row{
	{pattern: "", kind: decision.KindListing, format: Listing},
	{pattern: "health", kind: decision.KindHealth},
	{pattern: "{version}", kind: decision.KindListing, format: Listing},
	{pattern: "{version}/named", kind: decision.KindMetadata, format: JSON, tree: true},
	{pattern: "{version}/#", kind: decision.KindNetwork},
	{pattern: "{version}/#/deep", kind: decision.KindVendordata},
	{pattern: "{version}/*", kind: decision.KindUserdata},
	{pattern: "{version}/*/deep/er", kind: decision.KindListing},
	{pattern: "{version}/**", kind: decision.KindCredentials, sensitive: true},
	{pattern: "{version}/password", kind: decision.KindPassword, sensitive: true, writes: []string{http.MethodPost}, body: true},
	{pattern: "{version}/token", kind: decision.KindToken, writes: []string{http.MethodPut}, writeOnly: true},
	{pattern: "latest/fixed", kind: decision.KindMetadata},
	{pattern: "content/*", kind: decision.KindUserdata},
}

func tableClassify(t testing.TB, table *table, method, path string) Match {
	t.Helper()
	return table.classify(Request{Method: method, Segments: splitPattern(path)})
}

func TestTable(t *testing.T) {
	versions := mustTable("some", []string{"1.0", "latest"}, tableRows)
	for path, want := range map[string]decision.Resource{
		"/":                    {Kind: decision.KindListing},
		"/health":              {Kind: decision.KindHealth, Key: "health"},
		"/health/x":            {Kind: decision.KindUnknown},
		"/latest":              {Kind: decision.KindListing, Version: "latest"},
		"/1.0":                 {Kind: decision.KindListing, Version: "1.0"},
		"/2.0":                 {Kind: decision.KindUnknown},
		"/2.0/named":           {Kind: decision.KindUnknown},
		"/1.0/named":           {Kind: decision.KindMetadata, Version: "1.0", Key: "named"},
		"/1.0/12":              {Kind: decision.KindNetwork, Version: "1.0", Key: "12"},
		"/1.0/12a":             {Kind: decision.KindUserdata, Version: "1.0", Key: "12a"},
		"/1.0/Named":           {Kind: decision.KindUserdata, Version: "1.0", Key: "Named"},
		"/1.0/12/deep":         {Kind: decision.KindVendordata, Version: "1.0", Key: "12/deep"},
		"/1.0/12/other":        {Kind: decision.KindCredentials, Version: "1.0", Key: "12/other", Sensitive: true},
		"/1.0/12/deep/er":      {Kind: decision.KindListing, Version: "1.0", Key: "12/deep/er"}, // # leads nowhere, * does
		"/1.0/named/deep/er":   {Kind: decision.KindListing, Version: "1.0", Key: "named/deep/er"},
		"/1.0/named/x":         {Kind: decision.KindCredentials, Version: "1.0", Key: "named/x", Sensitive: true},
		"/1.0/a/b/c/d":         {Kind: decision.KindCredentials, Version: "1.0", Key: "a/b/c/d", Sensitive: true},
		"/latest/fixed":        {Kind: decision.KindMetadata, Key: "latest/fixed"}, // a name is preferred to a version
		"/latest/named":        {Kind: decision.KindMetadata, Version: "latest", Key: "named"},
		"/content/latest":      {Kind: decision.KindUserdata, Key: "content/latest"},
		"/content":             {Kind: decision.KindUnknown},
		"/content/a/b":         {Kind: decision.KindUnknown},
		"/{version}/named":     {Kind: decision.KindUnknown},
		"/1.0/password":        {Kind: decision.KindPassword, Version: "1.0", Key: "password", Sensitive: true},
		"/1.0/password/hidden": {Kind: decision.KindCredentials, Version: "1.0", Key: "password/hidden", Sensitive: true},
	} {
		want.Dialect, want.Action = "some", decision.Read
		if got := tableClassify(t, versions, http.MethodGet, path).Resource; got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

// A path that begins with a version and is not in the table is unknown, with
// that version and no key.
func TestTableUnknownUnderAVersion(t *testing.T) {
	table := mustTable("some", []string{"latest"}, []row{
		{pattern: "{version}/a/b", kind: decision.KindMetadata},
		{pattern: "ec2/{version}/a", kind: decision.KindMetadata},
	})
	for path, version := range map[string]string{"/latest": "latest", "/latest/x": "latest", "/latest/a": "latest", "/latest/a/b/c": "latest", "/ec2/latest/x": "latest", "/ec2/x/a": "", "/x": "", "/": ""} {
		got := tableClassify(t, table, http.MethodGet, path).Resource
		if got.Kind != decision.KindUnknown || got.Version != version || got.Key != "" || got.Sensitive {
			t.Errorf("%s: %+v, want version %q", path, got, version)
		}
	}
	free := mustTable("some", nil, []row{{pattern: "{version}/a", kind: decision.KindMetadata}})
	if got := tableClassify(t, free, http.MethodGet, "/v9/a").Resource; got.Version != "v9" || got.Key != "a" {
		t.Errorf("any version: %+v", got)
	}
}

func TestTableMethods(t *testing.T) {
	table := mustTable("some", nil, tableRows)
	for path, want := range map[string]string{
		"/v/named": "GET HEAD", "/v/password": "GET HEAD POST", "/v/token": "PUT", "/v": "GET HEAD", "/health/x/y/z/": "GET HEAD",
	} {
		if got := strings.Join(tableClassify(t, table, http.MethodGet, path).Methods, " "); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for method, action := range map[string]decision.Action{"GET": decision.Read, "POST": decision.Write, "PUT": decision.Read, "DELETE": decision.Read} {
		match := tableClassify(t, table, method, "/v/password")
		if match.Resource.Action != action || match.Body != (action == decision.Write) {
			t.Errorf("%s: %+v", method, match)
		}
	}
	token := tableClassify(t, table, http.MethodPut, "/v/token")
	if token.Resource.Action != decision.Write || token.Body {
		t.Errorf("a write without a body: %+v", token)
	}
	if !slices.Equal(readable, []string{"GET", "HEAD"}) {
		t.Errorf("the methods of all were changed: %v", readable)
	}
	if named := tableClassify(t, table, "GET", "/v/named"); named.Format != JSON || !named.Tree {
		t.Errorf("%+v", named)
	}
}

func TestTableRefusesPatterns(t *testing.T) {
	for name, rows := range map[string][]row{
		"a path that is there twice":      {{pattern: "a/b"}, {pattern: "/a//b/"}},
		"the root twice":                  {{pattern: ""}, {pattern: "/"}},
		"a version that is there twice":   {{pattern: "{version}"}, {pattern: "{version}"}},
		"any segment twice":               {{pattern: "a/*"}, {pattern: "a/*"}},
		"several segments twice":          {{pattern: "a/**"}, {pattern: "a/**"}},
		"several segments in the middle":  {{pattern: "a/**/b"}},
		"several segments, and then some": {{pattern: "**/**"}},
	} {
		_, err := newTable("some", nil, rows)
		if err == nil || !strings.Contains(err.Error(), "pattern /") {
			t.Errorf("%s: %v", name, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("mustTable took a wrong row")
		}
	}()
	mustTable("some", nil, []row{{pattern: "**/a"}})
}

// A name, a number and any segment stand beside each other in any order.
func TestTableOrderOfRowsDoesNotMatter(t *testing.T) {
	backwards := slices.Clone(tableRows)
	slices.Reverse(backwards)
	versions := []string{"1.0", "latest"}
	one, other := mustTable("some", versions, tableRows), mustTable("some", versions, backwards)
	words := []string{"", "health", "1.0", "latest", "named", "12", "deep", "er", "password", "token", "fixed", "content", "x"}
	for _, a := range words {
		for _, b := range words {
			for _, c := range words {
				path := "/" + a + "/" + b + "/" + c
				if got, want := tableClassify(t, other, "GET", path), tableClassify(t, one, "GET", path); got.Resource != want.Resource {
					t.Errorf("%s: %+v and %+v", path, got.Resource, want.Resource)
				}
			}
		}
	}
}
