// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// servedPrefix stands before the names of files that came from a running
// Metaguard in messages.
const servedPrefix = "server:"

// WriteBundle writes the operator's part of the policy, rules and data as they
// decide now, as a bundle of OPA. It is for those who may read the policy's
// files.
func (p *Policy) WriteBundle(w io.Writer) error {
	manifest := bundle.Manifest{Revision: p.revision, Metadata: map[string]any{"replaces": p.replaces}}
	manifest.Init()
	version := 1
	manifest.RegoVersion = &version
	written := bundle.Bundle{Manifest: manifest}
	var err error
	if written.Data, err = p.Data(); err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, f := range p.sources {
		name := path.Join("/", strings.NewReplacer(builtinPrefix, "", bundlePrefix, "").Replace(f.name))
		for taken[name] { // a file and a bundle's file can be called alike
			name = path.Join("/another", name)
		}
		taken[name] = true
		written.Modules = append(written.Modules, bundle.ModuleFile{URL: name, Path: name, Raw: f.bytes})
	}
	if err := bundle.NewWriter(w).DisableFormat(true).UseModulePath(true).Write(written); err != nil {
		return fmt.Errorf("writing the policy as a bundle: %w", err)
	}
	return nil
}

// Data is the policy's data as one document, files and bundles together.
func (p *Policy) Data() (map[string]any, error) {
	document, err := jsonOf(p.data)
	if err != nil {
		return nil, err
	}
	return document.(map[string]any), nil
}

// ServedRules are the rules in what [Policy.WriteBundle] wrote, by file.
func ServedRules(content []byte) (map[string][]byte, error) {
	served, err := readServed(content)
	if err != nil {
		return nil, err
	}
	rules := make(map[string][]byte, len(served.modules))
	for _, f := range served.modules {
		rules[f.name] = f.bytes
	}
	return rules, nil
}

// readServed reads what WriteBundle wrote.
func readServed(content []byte) (*loadedBundle, error) {
	read, err := bundle.NewReader(bytes.NewReader(content)).WithSkipBundleVerification(true).WithProcessAnnotations(true).
		WithSizeLimitBytes(maxPolicyBytes).Read()
	if err != nil {
		return nil, fmt.Errorf("reading the policy that a server sent: %w", err)
	}
	replaces, ok := read.Manifest.Metadata["replaces"].(bool)
	if !ok {
		return nil, errors.New("reading the policy that a server sent: this is no bundle of Metaguard")
	}
	served := &loadedBundle{name: "server", revision: read.Manifest.Revision, served: true, data: read.Data}
	if replaces {
		served.roots = []string{"metaguard"}
	}
	for _, module := range read.Modules {
		served.modules = append(served.modules, file{
			name: servedPrefix + strings.TrimPrefix(module.Path, "/"), rel: module.Path, bytes: module.Raw,
		})
	}
	return served, nil
}
