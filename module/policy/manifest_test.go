// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
)

// A directory that is to become a bundle is checked as a server checks the
// bundle.
func TestCheckBundles(t *testing.T) {
	const rule = "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"token\"\n"
	for name, test := range map[string]struct {
		content files
		want    []string // of each finding: where, and what
	}{
		"no bundle":     {files{"team.rego": rule}, nil},
		"a good one":    {files{".manifest": `{"roots": ["metaguard/team", "own"]}`, "team.rego": rule, "data.json": `{"own": {"a": 1}}`, "team_test.rego": "package team_test\n"}, nil},
		"no roots":      {files{".manifest": `{"revision": "x"}`, "team.rego": rule}, []string{".manifest: the bundle declares no roots"}},
		"ours":          {files{".manifest": `{"roots": ["metaguard/granted"]}`}, []string{".manifest: the root metaguard/granted belongs to the built-in policy"}},
		"OPA's":         {files{".manifest": `{"roots": ["system/bundles"]}`}, []string{".manifest: the root system/bundles belongs to OPA itself"}},
		"old Rego":      {files{".manifest": `{"roots": ["metaguard/team"], "rego_version": 0}`, "team.rego": rule}, []string{".manifest: the bundle is written in Rego v0"}},
		"an old file":   {files{".manifest": `{"roots": ["metaguard/team"], "file_rego_versions": {"/a.rego": 0}}`, "team.rego": rule}, []string{".manifest: /a.rego of the bundle is written in Rego v0"}},
		"not JSON":      {files{".manifest": "{\n\"roots\": [}", "team.rego": rule}, []string{".manifest:2"}},
		"not a list":    {files{".manifest": `{"roots": 7}`, "team.rego": rule}, []string{".manifest: the manifest cannot be read"}},
		"rules outside": {files{".manifest": `{"roots": ["metaguard/grants"]}`, "team.rego": rule}, []string{"team.rego:1:1: package metaguard.team lies outside"}},
		"data outside":  {files{".manifest": `{"roots": ["metaguard/team"]}`, "team.rego": rule, "data.json": "{\n\"own\": {\"a\": 1}}"}, []string{"data.json:2:9: data.own.a lies outside"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := CheckBundles(Config{Paths: []string{dir(t, test.content)}})
			if err != nil || len(found) != len(test.want) {
				t.Fatalf("%v %v", err, found)
			}
			for i, want := range test.want {
				if found[i].Code != CodeBundleRefused || !strings.Contains(found[i].String(), want) {
					t.Errorf("%v, want %q", found[i], want)
				}
			}
		})
	}
	// A manifest that cannot be read is none that is not there.
	if found, err := CheckBundles(Config{Paths: []string{dir(t, files{".manifest/x": ""})}}); err != nil || len(found) != 1 || found[0].Code != CodePathUnreadable {
		t.Errorf("%v %v", err, found)
	}
}
