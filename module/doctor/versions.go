// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/semver"
)

// The modules that the table of advisories knows. Go's library is "std", as in
// the Go vulnerability database.
const (
	caddyModule = "github.com/caddyserver/caddy/v2"
	opaModule   = "github.com/open-policy-agent/opa"
	goLibrary   = "std"
)

// advisory is one known vulnerability.
type advisory struct {
	module  string
	id      string   // of the Go vulnerability database
	aliases []string // GHSA and CVE
	affects []span
	what    string
}

// span is a range of affected versions: from introduced, or the first, up to but
// without fixed.
type span struct{ introduced, fixed string }

// link is where to read more.
func (a advisory) link() string { return "https://pkg.go.dev/vuln/" + a.id }

// affected gives the version with the fix, if a version is affected.
func (a advisory) affected(version string) (fixed string, is bool) {
	for _, s := range a.affects {
		if (s.introduced == "" || semver.Compare(version, "v"+s.introduced) >= 0) && semver.Compare(version, "v"+s.fixed) < 0 {
			return s.fixed, true
		}
	}
	return "", false
}

// versionsOf gives the versions of the modules in a program.
func versionsOf(build *debug.BuildInfo) map[string]string {
	found := map[string]string{}
	if version, ok := goVersion(build.GoVersion); ok {
		found[goLibrary] = version
	}
	for _, module := range build.Deps {
		used := module
		if module.Replace != nil {
			used = module.Replace
		}
		if module.Path == caddyModule || module.Path == opaModule {
			found[module.Path] = used.Version
		}
	}
	return found
}

var goRelease = regexp.MustCompile(`^go(\d+\.\d+)(\.\d+)?((?:rc|beta)\d+)?`)

// goVersion makes go1.26rc1 into v1.26.0-rc.1.
func goVersion(text string) (string, bool) {
	parts := goRelease.FindStringSubmatch(text)
	if parts == nil {
		return "", false
	}
	version := "v" + parts[1] + parts[2]
	if parts[2] == "" {
		version += ".0"
	}
	if parts[3] != "" {
		version += "-" + strings.NewReplacer("rc", "rc.", "beta", "beta.").Replace(parts[3])
	}
	return version, true
}

// checkVersions finds known vulnerabilities in the running process, or where it
// cannot be seen, in this program.
func checkVersions(_ context.Context, x *examination, f *finder) {
	build, of := (*debug.BuildInfo)(nil), ""
	if x.running != nil && x.running.build != nil {
		build, of = x.running.build, fmt.Sprintf("the running process %d", x.running.pid)
	} else if own, ok := debug.ReadBuildInfo(); ok {
		build, of = own, "this program"
	}
	if build == nil {
		f.unable("", "this program does not say what it is made of")
		return
	}
	versions := versionsOf(build)
	x.report.look(fmt.Sprintf("%s: Caddy %s, OPA %s, Go %s", of, versions[caddyModule], versions[opaModule], versions[goLibrary]))
	for _, module := range []string{caddyModule, opaModule, goLibrary} {
		if version := versions[module]; !semver.IsValid(version) {
			f.unable(module, fmt.Sprintf("%s does not say which version it has", of))
		}
	}
	for _, a := range advisories {
		version := versions[a.module]
		if !semver.IsValid(version) {
			continue
		}
		if fixed, is := a.affected(version); is {
			f.found(of, fmt.Sprintf("%s %s has %s (%s): %s; fixed in %s, see %s", a.module, version, a.id, strings.Join(a.aliases, " "), a.what, fixed, a.link()))
		}
	}
}
