// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/metaguard/metaguard/module/pace"
)

// bundleStore is where OPA keeps what bundles bring, with tables for large objects. Before a change is
// committed, the engine compiles all that there would be; what it refuses is
// not committed, and OPA reports it as the activation's failure.
type bundleStore struct {
	storage.Store
	commit func(ctx context.Context, txn storage.Transaction, activation bool, commit func() error) error
	// paceOf is the pace at which data is read that comes with these rules.
	paceOf func(ctx context.Context, rules []file) *pace.Pace
	// The one write transaction that can be open; whoever reads them is in it.
	writing atomic.Uint64
	context *storage.Context
}

// NewTransaction notes which transactions write.
func (s *bundleStore) NewTransaction(ctx context.Context, params ...storage.TransactionParams) (storage.Transaction, error) {
	txn, err := s.Store.NewTransaction(ctx, params...)
	if err == nil && len(params) > 0 && params[0].Write {
		// The store allows one at a time, and holds its lock until it ends.
		s.context = params[0].Context
		s.writing.Store(txn.ID())
	}
	return txn, err
}

// Commit lets the engine have its say.
func (s *bundleStore) Commit(ctx context.Context, txn storage.Transaction) error {
	commit := func() error { return s.Store.Commit(ctx, txn) }
	if s.writing.Load() != txn.ID() {
		return commit()
	}
	committed := false
	// OPA sets a compiler when it activates a bundle. Any other commit must not
	// fail: OPA panics then.
	activation := plugins.GetCompilerOnContext(s.context) != nil
	err := s.commit(ctx, txn, activation, func() error { committed = true; return commit() })
	if !committed {
		s.Abort(ctx, txn)
	}
	return err
}

// loadedBundle is a bundle that OPA has activated, as it lies in the store.
type loadedBundle struct {
	name     string
	revision string
	roots    []string
	modules  []file
	data     map[string]any // the store's own: not to be used after the transaction
	size     int64
	digest   string
	served   bool // it is the whole policy of a running server
}

// readBundles reads all bundles out of the store, which is OPA's own: large objects are
// tables in it.
func readBundles(ctx context.Context, store storage.Store, txn storage.Transaction) ([]loadedBundle, error) {
	names, err := bundle.ReadBundleNamesFromStore(ctx, store, txn)
	if err != nil && !storage.IsNotFound(err) {
		return nil, fmt.Errorf("reading the names of bundles: %w", err)
	}
	slices.Sort(names)
	bundles := make([]loadedBundle, 0, len(names))
	for _, name := range names {
		b, err := readBundle(ctx, store, txn, name)
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, b)
	}
	return bundles, checkClaimed(ctx, store, txn, names)
}

// checkClaimed makes sure that every module in the store belongs to exactly one
// bundle: OPA names modules by the bundle's name, and a rule that nobody claims
// would be left out without a word.
func checkClaimed(ctx context.Context, store storage.Store, txn storage.Transaction, names []string) error {
	ids, err := store.ListPolicies(ctx, txn)
	if err != nil {
		return fmt.Errorf("listing the modules of bundles: %w", err)
	}
	for _, id := range ids {
		if strings.HasPrefix(id, localPrefix) {
			continue
		}
		owners := 0
		for _, name := range names {
			if strings.HasPrefix(id, name+"/") {
				owners++
			}
		}
		if owners != 1 {
			return fmt.Errorf("the module %s belongs to %d bundles", id, owners)
		}
	}
	return nil
}

func readBundle(ctx context.Context, store storage.Store, txn storage.Transaction, name string) (loadedBundle, error) {
	b := loadedBundle{name: name, data: map[string]any{}}
	var err error
	if b.roots, err = bundle.ReadBundleRootsFromStore(ctx, store, txn, name); err != nil {
		return b, fmt.Errorf("reading the roots of bundle %s: %w", name, err)
	}
	if err := b.checkManifest(ctx, store, txn); err != nil {
		return b, err
	}
	if b.revision, err = bundle.ReadBundleRevisionFromStore(ctx, store, txn, name); err != nil && !storage.IsNotFound(err) {
		return b, fmt.Errorf("reading the revision of bundle %s: %w", name, err)
	}
	ids, err := store.ListPolicies(ctx, txn)
	if err != nil {
		return b, fmt.Errorf("listing the modules of bundle %s: %w", name, err)
	}
	slices.Sort(ids)
	for _, id := range ids {
		path, ok := strings.CutPrefix(id, name+"/")
		if !ok {
			continue
		}
		content, err := store.GetPolicy(ctx, txn, id)
		if err != nil {
			return b, fmt.Errorf("reading %s: %w", id, err)
		}
		if !loadable(path) {
			if teamRules := regexp.MustCompile(`(?m)^\s*package\s+metaguard\.(team|decision)\b`); teamRules.Match(content) {
				return b, &Error{Findings: []Finding{{
					File: bundlePrefix + id, Code: CodeBundleRefused,
					Message: "rules of the policy are in a file that is taken for a test", Hint: "only tests belong in files that end in _test.rego",
				}}}
			}
			continue
		}
		b.size += int64(len(content))
		b.modules = append(b.modules, file{name: bundlePrefix + id, rel: id, bytes: content})
	}
	for _, root := range b.roots {
		path, ok := storage.ParsePath("/" + strings.Trim(root, "/"))
		if !ok {
			return b, fmt.Errorf("bundle %s has the root %q, which is no path", name, root)
		}
		value, err := store.Read(ctx, txn, path)
		if storage.IsNotFound(err) {
			continue
		}
		if err != nil {
			return b, fmt.Errorf("reading the data of bundle %s: %w", name, err)
		}
		if value, err = withTables(value); err != nil { // a delta leaves none
			return b, fmt.Errorf("reading the data of bundle %s: %w", name, err)
		}
		if b.size += sizeOf(value); b.size > maxPolicyBytes {
			return b, &Error{Findings: []Finding{tooLarge(bundlePrefix + name)}}
		}
		putAt(b.data, path, value)
	}
	if b.digest, err = b.contentDigest(); err == nil && b.revision == "" {
		b.revision = b.digest[:12]
	}
	return b, err
}

// checkManifest refuses roots that are not a team's, and other Rego.
func (b *loadedBundle) checkManifest(ctx context.Context, store storage.Store, txn storage.Transaction) error {
	var bad findings
	if bad.add(b.checkRoots()...); bad.count() > 0 {
		return bad.err()
	}
	manifest, err := store.Read(ctx, txn, bundle.ManifestStoragePath(b.name))
	if err != nil {
		return fmt.Errorf("reading the manifest of bundle %s: %w", b.name, err)
	}
	var versions struct {
		All   *int           `json:"rego_version"`
		Files map[string]int `json:"file_rego_versions"`
	}
	encoded, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("reading the manifest of bundle %s: %w", b.name, err)
	}
	if err := json.Unmarshal(encoded, &versions); err != nil {
		return fmt.Errorf("reading the manifest of bundle %s: %w", b.name, err)
	}
	bad.add(checkVersions(b.name, versions.All, versions.Files)...)
	return bad.err()
}

// checkRoots refuses roots that are not a team's.
func (b *loadedBundle) checkRoots() []Finding {
	refuse := func(hint, format string, args ...any) []Finding {
		return []Finding{{File: bundlePrefix + b.name, Code: CodeBundleRefused, Message: fmt.Sprintf(format, args...), Hint: hint}}
	}
	for _, root := range b.roots {
		segments := strings.Split(strings.Trim(root, "/"), "/")
		switch {
		case segments[0] == "":
			return refuse(`write roots into its .manifest, such as {"roots": ["metaguard/team", "metaguard/grants"]}`,
				"the bundle declares no roots, so that it would erase the built-in policy")
		case segments[0] == "system" && (len(segments) == 1 || segments[1] != "log"):
			return refuse("of OPA's own rules a bundle may bring system/log", "the root %s belongs to OPA itself", root)
		case segments[0] != "metaguard", len(segments) == 1:
		case !slices.Contains(bundleRoots, segments[1]):
			return refuse("a team's roots below metaguard are metaguard/team, metaguard/grants and metaguard/settings; metaguard/decision replaces the built-in policy",
				"the root %s belongs to the built-in policy", root)
		}
	}
	return nil
}

// checkVersions refuses Rego of another version, of the whole bundle or of files.
func checkVersions(name string, all *int, files map[string]int) []Finding {
	refuse := func(format string, args ...any) []Finding {
		return []Finding{{
			File: bundlePrefix + name, Code: CodeBundleRefused, Message: fmt.Sprintf(format, args...),
			Hint: "rewrite its rules with `opa fmt --write --rego-v1` and build it without --v0-compatible",
		}}
	}
	if all != nil && *all != 1 {
		return refuse("the bundle is written in Rego v%d, and Metaguard takes v1", *all)
	}
	for _, pattern := range sortedKeys(files) {
		if version := files[pattern]; version != 1 {
			return refuse("%s of the bundle is written in Rego v%d, and Metaguard takes v1", pattern, version)
		}
	}
	return nil
}

// bundlePrefix stands before the names of files in bundles in messages.
const bundlePrefix = "bundle:"

// bundleRoots are the names below metaguard that a bundle may have as a root.
var bundleRoots = []string{"team", "grants", "settings", "decision"}

// replaces tells that the bundle brings the decision itself.
func (b *loadedBundle) replaces() bool {
	return slices.ContainsFunc(b.roots, func(root string) bool {
		root = strings.Trim(root, "/")
		return root == "metaguard" || root == "metaguard/decision" || strings.HasPrefix(root, "metaguard/decision/")
	})
}

// contentDigest names what is in a bundle, whatever its revision says.
func (b *loadedBundle) contentDigest() (string, error) {
	h := sha256.New()
	for _, f := range b.modules {
		_, _ = io.WriteString(h, f.rel+"\x00")
		_, _ = h.Write(f.bytes)
	}
	if err := writeJSON(h, b.data); err != nil {
		return "", fmt.Errorf("encoding the data of bundle %s: %w", b.name, err)
	}
	_, _ = io.WriteString(h, "\n")
	return hex.EncodeToString(h.Sum(nil)), nil
}

// bundleRevisions are the revisions of all bundles, by name.
func (s *source) bundleRevisions() map[string]string {
	if len(s.bundles) == 0 {
		return nil
	}
	revisions := make(map[string]string, len(s.bundles))
	for _, b := range s.bundles {
		revisions[b.name] = b.revision
	}
	return revisions
}
