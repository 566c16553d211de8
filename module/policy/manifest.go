// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/metaguard/metaguard/module/pace"
)

// CheckBundles finds in directories with a .manifest, which are to become
// bundles, what a server would refuse in the bundle and not in the directory:
// roots that are missing or not a team's, what lies outside of them, and older
// Rego.
func CheckBundles(cfg Config) ([]Finding, error) {
	s, err := cfg.check()
	if err != nil {
		return nil, err
	}
	var bad findings
	for _, path := range s.Paths {
		name := filepath.Join(path, bundle.ManifestExt)
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue // no bundle
		}
		if err != nil {
			bad.add(unreadable(name, err))
			continue
		}
		s.checkBundle(path, display(name), raw, &bad)
	}
	return bad.list(), nil
}

func (s *settings) checkBundle(path, name string, raw []byte, bad *findings) {
	if _, line, col, err := parseJSON(raw, new(pace.Pace)); err != nil {
		bad.add(Finding{File: name, Line: line, Col: col, Code: CodeBundleRefused, Message: err.Error()})
		return
	}
	var manifest struct {
		Roots    *[]string      `json:"roots"`
		Version  *int           `json:"rego_version"`
		Versions map[string]int `json:"file_rego_versions"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		bad.add(Finding{File: name, Code: CodeBundleRefused, Message: fmt.Sprintf("the manifest cannot be read: %v", err)})
		return
	}
	b := loadedBundle{name: filepath.Base(path), roots: []string{""}}
	if manifest.Roots != nil {
		b.roots = *manifest.Roots
	}
	for _, finding := range slices.Concat(b.checkRoots(), checkVersions(b.name, manifest.Version, manifest.Versions)) {
		finding.File = name
		bad.add(finding)
	}
	if bad.count() > 0 {
		return
	}
	src, err := read([]string{path}, new(pace.Pace))
	if err != nil {
		return // the policy's own check says it
	}
	const outside, hint = "%s lies outside of the bundle's roots (%s)", "add a root to .manifest, or take it out"
	roots := strings.Join(b.roots, " ")
	var ignored findings
	parsed := s.parse(src, &ignored) // what does not parse is the policy's own check's
	for _, module := range parsed.ownModules() {
		if path := slashed(module.Package.Path); !b.holds(path) {
			bad.at(module.Package.Location, CodeBundleRefused, hint, outside, "package "+packageName(module.Package.Path), roots)
		}
	}
	for _, doc := range parsed.docs {
		for _, path := range leaves(doc.root, nil) {
			if !b.holds(strings.Join(path, "/")) {
				doc.refuse(bad, CodeBundleRefused, path, hint, outside, dataPath(path), roots)
			}
		}
	}
}

// holds tells whether a path is below one of the roots.
func (b *loadedBundle) holds(path string) bool {
	return slices.ContainsFunc(b.roots, func(root string) bool {
		root = strings.Trim(root, "/")
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// leaves are the paths of all values that are no objects, and of empty ones.
func leaves(object map[string]any, at []string) [][]string {
	var paths [][]string
	for _, name := range sortedKeys(object) {
		path := append(slices.Clone(at), name)
		if inner, ok := objectOf(object[name]); ok && len(inner) > 0 {
			paths = append(paths, leaves(inner, path)...)
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// slashed is a/b/c for data.a.b.c.
func slashed(ref ast.Ref) string {
	names := make([]string, 0, len(ref))
	for _, term := range ref[1:] {
		if name, ok := term.Value.(ast.String); ok {
			names = append(names, string(name))
		}
	}
	return strings.Join(names, "/")
}
