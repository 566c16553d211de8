// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/open-policy-agent/opa/v1/version"

	"github.com/metaguard/metaguard/module/pace"
	"github.com/metaguard/metaguard/policies"
)

// builtinPrefix stands before the names of built-in files in messages.
const builtinPrefix = "built-in:"

// maxDepth bounds how deep directories nest, beside the check for loops.
const maxDepth = 32

// file is one file as it was read. The digest, the parser and the messages all
// use the same bytes, so an edit in between cannot tear them apart.
type file struct {
	// name is the path for people and the name of the module.
	name string
	// rel is the path below the operator's path; digests use it, so that the
	// same policy in another place has the same revision.
	rel string
	// prefix is where data documents belong: the names of the directories.
	prefix []string
	bytes  []byte
}

// isRego tells Rego from data.
func (f *file) isRego() bool { return strings.HasSuffix(f.name, ".rego") }

// isJSON tells JSON from YAML.
func (f *file) isJSON() bool { return strings.HasSuffix(f.name, ".json") }

// isSystemRoot tells a bundle's root that is for OPA itself.
func isSystemRoot(root string) bool {
	return strings.HasPrefix(strings.Trim(root, "/")+"/", "system/")
}

// source is everything that one load has read, in a fixed order.
type source struct {
	files   []file
	bundles []loadedBundle
	opa     *opaConfig
	// partial tells that bundles are still to come: what only the whole can
	// tell is not checked yet.
	partial bool
	// pace is that of the load; nil: at once.
	pace *pace.Pace
	// digest is that of the files, once it was asked for.
	digest string
}

// atPace is the pace of the load.
func (s *source) atPace() *pace.Pace {
	if s.pace == nil {
		return new(pace.Pace)
	}
	return s.pace
}

// empty tells that there is nothing of the operator's.
func (s *source) empty() bool { return len(s.files) == 0 && len(s.bundles) == 0 }

// read reads all that paths hold, at a pace. The error is an *Error.
func read(paths []string, p *pace.Pace) (*source, error) {
	var (
		src  = source{pace: p}
		bad  findings
		seen = map[string]bool{}
		size int64
	)
	for _, root := range paths {
		before := len(src.files)
		skipped := false
		w := walker{
			fail: func(path string, err error) { bad.add(unreadable(path, err)) },
			file: func(path, rel string, prefix []string, info fs.FileInfo) {
				key := strings.Join(prefix, "/") + "\x00" + path
				if seen[key] {
					skipped = true
					return
				}
				seen[key] = true
				if size += info.Size(); size > maxPolicyBytes {
					if size-info.Size() <= maxPolicyBytes { // once
						bad.add(tooLarge(display(path)))
					}
					return
				}
				content, err := readFile(path, info.Size(), p)
				if err != nil {
					bad.add(unreadable(path, err))
					return
				}
				src.files = append(src.files, file{name: display(path), rel: rel, prefix: prefix, bytes: content})
			},
		}
		failed := bad.count()
		w.root(root, &bad)
		if len(src.files) == before && bad.count() == failed && !skipped {
			// An unmounted volume looks like this. Going on without its rules
			// would fall back to the built-in policy without a word.
			bad.add(Finding{
				File: display(root), Code: CodePathEmpty,
				Message: "there is no policy or data in this directory",
				Hint:    "files end in .rego, .json, .yaml or .yml; those that end in _test.rego or begin with a dot do not count",
			})
		}
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return &src, nil
}

func readFile(path string, size int64, p *pace.Pace) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	// A Builder takes its memory as it is. make clears all of it first, and has the
	// system find it at one time, whatever the pace of reading.
	var content strings.Builder
	content.Grow(int(size))
	if _, err := io.Copy(&content, p.Reader(f)); err != nil {
		return nil, err
	}
	return util.StringToByteSlice(content.String()), nil
}

// tooLarge says that this file, or what comes before it and with it, is more
// than a policy may hold.
func tooLarge(name string) Finding {
	return Finding{
		File: name, Code: CodeTooLarge,
		Message: fmt.Sprintf("policy and data are more than %d MiB, which is what one policy may hold", maxPolicyBytes>>20),
		Hint:    "all of it is kept in memory; keep only what decisions need",
	}
}

func unreadable(path string, err error) Finding {
	message := err.Error()
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		message = pathErr.Op + ": " + pathErr.Err.Error() // the path is in the finding already
	}
	return Finding{File: display(path), Code: CodePathUnreadable, Message: message}
}

// display is a path for people.
func display(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return path
	}
	return rel
}

// loadable tells whether a name in a directory is policy or data.
func loadable(name string) bool {
	switch filepath.Ext(name) {
	case ".rego":
		return !strings.HasSuffix(name, "_test.rego")
	case ".json", ".yaml", ".yml":
		return true
	}
	return false
}

// walker visits the files that a path holds, in the order of their names.
// Reading and watching share it, so both see the same files.
type walker struct {
	file func(path, rel string, prefix []string, info fs.FileInfo)
	fail func(path string, err error)
}

// root visits one of the operator's paths.
func (w *walker) root(path string, bad *findings) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		w.fail(path, err)
	case info.IsDir():
		w.dir(path, "", nil, []fs.FileInfo{info})
	case !loadable(filepath.Base(path)):
		if bad != nil {
			bad.add(Finding{
				File: display(path), Code: CodePathUnsupported,
				Message: "this file is neither policy nor data",
				Hint:    "files end in .rego, .json, .yaml or .yml; tests (_test.rego) are not loaded",
			})
		}
	default:
		w.regular(path, filepath.Base(path), nil, info)
	}
}

// dir visits a directory; above holds it and all directories over it.
func (w *walker) dir(path, rel string, prefix []string, above []fs.FileInfo) {
	if len(above) > maxDepth {
		w.fail(path, &fs.PathError{Op: "walk", Path: path, Err: errTooDeep})
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		// Kubernetes keeps the real files of a volume in ..data and
		// ..2026_01_02; the links beside them name each file once. Editors
		// keep their own files under dot names too.
		if strings.HasPrefix(name, ".") {
			continue
		}
		child, childRel := filepath.Join(path, name), filepath.Join(rel, name)
		info, err := os.Stat(child)
		switch {
		case err != nil:
			if loadable(name) {
				w.fail(child, err)
			}
		case info.IsDir():
			if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				w.fail(child, &fs.PathError{Op: "walk", Path: child, Err: errLoop})
				continue
			}
			w.dir(child, childRel, append(slices.Clone(prefix), name), append(slices.Clone(above), info))
		case loadable(name):
			w.regular(child, childRel, prefix, info)
		}
	}
}

// regular visits a file; a pipe or a device would block the reader for ever.
func (w *walker) regular(path, rel string, prefix []string, info fs.FileInfo) {
	if !info.Mode().IsRegular() {
		w.fail(path, &fs.PathError{Op: "read", Path: path, Err: errNotRegular})
		return
	}
	w.file(path, filepath.ToSlash(rel), prefix, info)
}

type constError string

func (e constError) Error() string { return string(e) }

const (
	errLoop       constError = "this link leads back to a directory above it"
	errTooDeep    constError = "directories nest too deep"
	errNotRegular constError = "not a regular file"
)

// revision is a digest of what was read, of the built-in policy and of OPA,
// and of nothing else: replicas with the same policy have the same revision.
func (s *source) revision() string {
	digest := s.filesDigest()
	if len(s.bundles) == 0 {
		return digest
	}
	// What a team calls its bundles says more than a digest.
	if s.bundles[0].served && len(s.files) == 0 {
		return s.bundles[0].revision
	}
	names := make([]string, 0, len(s.bundles)+1)
	for _, b := range s.bundles {
		names = append(names, b.name+"@"+b.revision)
	}
	if len(s.files) > 0 {
		names = append(names, "files@"+digest[:12])
	}
	return strings.Join(names, " ")
}

// filesDigest is a digest of the operator's files, of the built-in policy and of
// OPA.
func (s *source) filesDigest() string {
	if s.digest != "" {
		return s.digest
	}
	h := sha256.New()
	part := func(name string, content []byte) {
		sum := sha256.New()
		_, _ = io.Copy(sum, s.atPace().Reader(bytes.NewReader(content)))
		_, _ = io.WriteString(h, name+"\x00")
		_, _ = h.Write(sum.Sum(nil))
	}
	for _, f := range s.files {
		part(strings.Join(f.prefix, "/")+"\x00"+f.rel, f.bytes)
	}
	part("built-in", builtinDigest())
	part("opa", []byte(version.Version))
	s.digest = hex.EncodeToString(h.Sum(nil))
	return s.digest
}

// size is about how long all files and bundles are, in bytes.
func (s *source) size() (size int64) {
	for _, f := range s.files {
		size += int64(len(f.bytes))
	}
	for _, b := range s.bundles {
		size += b.size
	}
	return size
}

// count is how many files there are, in bundles too; a bundle's data is one.
func (s *source) count() int {
	count := len(s.files)
	for _, b := range s.bundles {
		count += len(b.modules) + min(len(b.data), 1)
	}
	return count
}

// rules are the operator's files with rules, wherever they came from.
func (s *source) rules() []file {
	var rules []file
	for _, f := range s.files {
		if f.isRego() {
			rules = append(rules, f)
		}
	}
	for _, b := range s.bundles {
		rules = append(rules, b.modules...)
	}
	return rules
}

// identity tells contents apart, also where a team calls two of them alike.
func (s *source) identity() string {
	h := sha256.New()
	_, _ = io.WriteString(h, s.filesDigest())
	for _, b := range s.bundles {
		_, _ = io.WriteString(h, "\x00"+b.name+"\x00"+b.revision+"\x00"+b.digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// shortDigest is a name for something long, fit for a directory.
func shortDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}

// key is the digest of the configuration and of what was read.
func (s *settings) key(src *source) string {
	config, err := json.Marshal(s.Config)
	if err != nil {
		panic("policy: configuration cannot be encoded: " + err.Error()) // only strings and numbers
	}
	h := sha256.New()
	_, _ = h.Write(config)
	_, _ = io.WriteString(h, src.revision())
	if src.opa != nil {
		_, _ = h.Write(src.opa.raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// builtin lists the files of the built-in policy, tests left out.
func builtin() []file {
	var files []file
	err := fs.WalkDir(policies.Builtin, "metaguard", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !loadable(d.Name()) {
			return err
		}
		content, err := fs.ReadFile(policies.Builtin, path)
		files = append(files, file{name: builtinPrefix + path, rel: path, bytes: content})
		return err
	})
	if err != nil {
		panic("policy: built-in policy cannot be read: " + err.Error()) // it is part of the binary
	}
	return files
}

func builtinDigest() []byte {
	h := sha256.New()
	for _, f := range builtin() {
		_, _ = io.WriteString(h, f.rel+"\x00"+strconv.Itoa(len(f.bytes))+"\x00")
		_, _ = h.Write(f.bytes)
	}
	return h.Sum(nil)
}

// schemas holds the input schema at the root, where it applies to every rule,
// and all schemas under their names, for annotations.
func schemas() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	for _, name := range []string{"input", "data", "decision"} {
		content, err := fs.ReadFile(policies.Builtin, "schemas/"+name+".json")
		if err != nil {
			continue
		}
		var schema any
		if err := json.Unmarshal(content, &schema); err != nil {
			panic("policy: built-in schema " + name + ": " + err.Error()) // it is part of the binary
		}
		set.Put(ast.Ref{ast.SchemaRootDocument, ast.StringTerm(name)}, schema)
		if name == "input" {
			set.Put(ast.SchemaRootRef, schema)
		}
	}
	return set
}
