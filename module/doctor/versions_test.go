// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"regexp"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// What go.mod asks for has no vulnerability of the table.
func TestOwnVersions(t *testing.T) {
	content, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := modfile.Parse("go.mod", content, nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{goLibrary: "v" + parsed.Go.Version}
	for _, required := range parsed.Require {
		versions[required.Mod.Path] = required.Mod.Version
	}
	for _, a := range advisories {
		version := versions[a.module]
		if !semver.IsValid(version) {
			t.Fatalf("go.mod has no version of %s: %q", a.module, version)
		}
		if fixed, is := a.affected(version); is {
			t.Errorf("%s %s has %s, fixed in %s: %s", a.module, version, a.id, fixed, a.what)
		}
	}
}

// The table is well-formed.
func TestAdvisories(t *testing.T) {
	if _, err := time.Parse(time.DateOnly, advisoriesAsOf); err != nil {
		t.Error(err)
	}
	id, alias := regexp.MustCompile(`^(GO-20\d\d-\d{4}|GHSA(-[0-9a-z]{4}){3})$`), regexp.MustCompile(`^(GHSA(-[0-9a-z]{4}){3}|CVE-20\d\d-\d+)$`)
	seen := map[string]bool{}
	for _, a := range advisories {
		if !id.MatchString(a.id) || seen[a.id] || a.what == "" || len(a.affects) == 0 || len(a.aliases) == 0 {
			t.Errorf("%+v", a)
		}
		seen[a.id] = true
		for _, name := range a.aliases {
			if !alias.MatchString(name) {
				t.Errorf("%s: %q", a.id, name)
			}
		}
		for _, s := range a.affects {
			if !semver.IsValid("v"+s.fixed) || s.introduced != "" && semver.Compare("v"+s.introduced, "v"+s.fixed) >= 0 {
				t.Errorf("%s: %+v", a.id, s)
			}
		}
	}
	if len(advisories) < 30 {
		t.Errorf("there are %d only", len(advisories))
	}
}

// A version has what was known of it.
func TestAffected(t *testing.T) {
	count := func(versions map[string]string) (found []string) {
		for _, a := range advisories {
			if _, is := a.affected(versions[a.module]); is {
				found = append(found, a.id)
			}
		}
		return found
	}
	fine := map[string]string{caddyModule: "v2.11.4", opaModule: "v1.4.0", goLibrary: "v1.26.6"}
	if found := count(fine); len(found) > 0 {
		t.Errorf("%q", found)
	}
	for module, test := range map[string]struct{ version, id string }{
		caddyModule: {"v2.11.3", "GO-2026-5346"}, opaModule: {"v1.3.0", "GO-2025-3660"}, goLibrary: {"v1.26.5", "GO-2026-6089"},
	} {
		versions := map[string]string{caddyModule: fine[caddyModule], opaModule: fine[opaModule], goLibrary: fine[goLibrary]}
		versions[module] = test.version
		held := false
		for _, id := range count(versions) {
			held = held || id == test.id
		}
		if !held {
			t.Errorf("%s %s has %s", module, test.version, test.id)
		}
	}
	a := advisory{affects: []span{{"1.26.0-0", "1.26.1"}, {"1.27.0-0", "1.27.0-rc.3"}}}
	for version, want := range map[string]bool{
		"v1.25.9": false, "v1.26.0-rc.1": true, "v1.26.0": true, "v1.26.1": false, "v1.27.0-rc.2": true, "v1.27.0-rc.3": false, "v1.27.0": false,
	} {
		if _, is := a.affected(version); is != want {
			t.Errorf("%s: %v", version, is)
		}
	}
}

func TestVersionsOf(t *testing.T) {
	for text, want := range map[string]string{
		"go1.26.8": "v1.26.8", "go1.26": "v1.26.0", "go1.27rc1": "v1.27.0-rc.1", "go1.27.1beta2": "v1.27.1-beta.2", "go1.26.8 X:jsonv2": "v1.26.8", "devel go1.28-abc": "", "go2": "",
	} {
		if got, ok := goVersion(text); got != want || ok != (want != "") {
			t.Errorf("%s: %q", text, got)
		}
	}
	found := versionsOf(&debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: caddyModule, Version: "v2.11.9", Replace: &debug.Module{Path: "example.com/fork", Version: "v2.11.3"}},
		{Path: opaModule, Version: "v1.22.2"},
		{Path: "example.com/x", Version: "v1.0.0"},
	}})
	if found[caddyModule] != "v2.11.3" || found[opaModule] != "v1.22.2" || found[goLibrary] != "v1.26.8" || len(found) != 3 {
		t.Errorf("%v", found)
	}
}
