// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needLong leaves out what compiles everything anew, or takes a minute, but where it is asked for.
func needLong(t *testing.T) {
	t.Helper()
	if os.Getenv(packagingVariable) != "required" {
		t.Skipf("left out: it takes long; %s=required runs it", packagingVariable)
	}
}

// clone gives the repository as it was committed last, in a directory of its own. A
// checkout without history fails the test: a release says which commit it is.
func clone(t *testing.T, dir string) string {
	t.Helper()
	run(t, "git", "clone", "--quiet", "--no-hardlinks", "../..", dir)
	return dir
}

// build runs build.sh of a clone and gives the path of what it made.
func build(t *testing.T, dir string, environment ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metaguard")
	command := exec.Command(filepath.Join(dir, "cmd/metaguard/packaging/build.sh"), path)
	command.Env = append(os.Environ(), environment...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return path
}

// One commit makes one binary, wherever it lies and whatever the builder has set.
func TestBuildIsReproducible(t *testing.T) {
	needLong(t)
	first := build(t, clone(t, filepath.Join(t.TempDir(), "a")))
	second := build(t, clone(t, filepath.Join(t.TempDir(), "some", "other", "place")),
		"GOFLAGS=-buildvcs=false", "CGO_ENABLED=1", "GOAMD64=v3", "GOARM64=v9.0", "TZ=Asia/Tokyo", "LC_ALL=C")
	if one, two := contents(t, first), contents(t, second); !bytes.Equal(one, two) {
		t.Errorf("two clones make two binaries, of %d and %d bytes", len(one), len(two))
	}

	revision, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(first, "version").Output()
	if err != nil || !strings.Contains(string(said), "revision "+strings.TrimSpace(string(revision))) || strings.Contains(string(said), "dirty") {
		t.Errorf("the version does not say that it is %s: %v\n%s", revision, err, said)
	}
	listed, err := exec.Command(first, "build-info").Output()
	if err != nil || !strings.Contains(string(listed), "github.com/open-policy-agent/opa") {
		t.Errorf("build-info does not list the modules: %v\n%s", err, listed)
	}

	file, err := elf.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, header := range file.Progs {
		if header.Type == elf.PT_INTERP || header.Type == elf.PT_DYNAMIC {
			t.Errorf("it is not static: it has a segment %s", header.Type)
		}
	}
}

// Where Linux servers are, and where operators write policies.
func TestBuildElsewhere(t *testing.T) {
	needLong(t)
	dir := clone(t, filepath.Join(t.TempDir(), "a"))
	for _, target := range []string{"linux/arm64", "darwin/arm64", "windows/amd64"} {
		t.Run(target, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(target, "/")
			info, err := buildinfo.ReadFile(build(t, dir, "GOOS="+goos, "GOARCH="+goarch))
			if err != nil {
				t.Fatal(err)
			}
			settings := make(map[string]string)
			for _, setting := range info.Settings {
				settings[setting.Key] = setting.Value
			}
			if settings["GOOS"] != goos || settings["GOARCH"] != goarch || settings["CGO_ENABLED"] != "0" || settings["vcs.revision"] == "" {
				t.Errorf("it was built with %v", settings)
			}
		})
	}
}

// Without a commit there is no release.
func TestBuildWithoutCommit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "cmd/metaguard/packaging/build.sh"} {
		write(t, filepath.Join(dir, name), string(contents(t, filepath.Join("../..", name))))
	}
	command := exec.Command("bash", filepath.Join(dir, "cmd/metaguard/packaging/build.sh"), filepath.Join(dir, "metaguard"))
	command.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	output, err := command.CombinedOutput()
	if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) || !strings.Contains(string(output), "is no clone of the repository") {
		t.Errorf("%v\n%s", err, output)
	}
}

// The SBOM in package and archive names every module that the binary names, by version and
// in the form that scanners read, with what is known of its licence.
func TestSBOM(t *testing.T) {
	needRoot(t)
	pack(t)
	info, err := buildinfo.ReadFile(filepath.Join(packed, "metaguard"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("tar", "-xzOf", archive(), "--wildcards", "*/sbom.cdx.json").Output()
	if err != nil {
		t.Fatal(err)
	}
	type component struct {
		Name, Version, PURL string
		Evidence            struct{ Licenses []any }
	}
	var sbom struct {
		BOMFormat, SpecVersion string
		Metadata               struct{ Component component }
		Components             []component
	}
	if err := json.Unmarshal(text, &sbom); err != nil {
		t.Fatal(err)
	}
	if sbom.BOMFormat != "CycloneDX" || sbom.SpecVersion != "1.6" ||
		sbom.Metadata.Component.Name != info.Main.Path || sbom.Metadata.Component.Version != version {
		t.Errorf("it is the SBOM of something else: %+v", sbom.Metadata)
	}
	components := make(map[string]component)
	for _, listed := range sbom.Components {
		components[listed.Name] = listed
	}
	if listed := components["std"]; listed.Version != info.GoVersion {
		t.Errorf("Go's own library is %q", listed.Version)
	}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		listed := components[module.Path]
		if listed.Version != module.Version || !strings.HasPrefix(listed.PURL, "pkg:golang/"+module.Path+"@"+module.Version+"?") ||
			len(listed.Evidence.Licenses) == 0 {
			t.Errorf("%s %s is listed as %+v", module.Path, module.Version, listed)
		}
	}

	dir := filepath.Join(t.TempDir(), "package")
	run(t, "dpkg-deb", "-x", debianPackage(), dir)
	if !bytes.Equal(contents(t, filepath.Join(dir, "usr/share/doc/metaguard/sbom.cdx.json")), text) {
		t.Error("the package has another SBOM than the archive")
	}
}

// The same files make the same package and the same archive, whoever packs them, and when.
func TestPackagesAreReproducible(t *testing.T) {
	needLong(t)
	needRoot(t)
	pack(t)
	other := t.TempDir()
	command := exec.Command("sh", "-c", `umask 077; exec "$@"`, "sh",
		filepath.Join(folder, "package.sh"), version, other, filepath.Join(packed, "metaguard"))
	committed := exec.Command("git", "log", "-1", "--format=%cd", "--date=format-local:%H")
	committed.Env = append(os.Environ(), "TZ=UTC")
	hour, err := committed.Output()
	if err != nil {
		t.Fatal(err)
	}
	zone := "Etc/GMT+12" // where the commit is of another day
	if string(hour) >= "12" {
		zone = "Etc/GMT-14"
	}
	command.Env = append(os.Environ(), "TZ="+zone, "LC_ALL=C")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, path := range []string{debianPackage(), archive()} {
		if !bytes.Equal(contents(t, path), contents(t, filepath.Join(other, filepath.Base(path)))) {
			t.Errorf("%s was packed twice, with two results", filepath.Base(path))
		}
	}
}

// contents reads a file.
func contents(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
