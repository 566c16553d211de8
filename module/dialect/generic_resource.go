// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// GenericResource is what one path, or all paths like it, stand for.
type GenericResource struct {
	// What it is: listing, metadata, password, userdata, vendordata, network,
	// credentials or health.
	Kind decision.Kind `json:"kind,omitempty"`
	// The path, which begins with a slash. `{version}` stands for any segment that
	// names a version, `#` for a number, `*` for any segment, and `**` at the end
	// for one or more.
	Pattern string `json:"pattern,omitempty"`
	// The methods that write it: POST, PUT, PATCH or DELETE. Default: none.
	Write []string `json:"write,omitempty"`
	// It can be written only, not read.
	WriteOnly bool `json:"write_only,omitempty"`
	// What it holds is secret: it is never streamed, and policies see it. Passwords
	// and credentials are in any case.
	Sensitive bool `json:"sensitive,omitempty"`
	// How the answer is read when something in it is hidden: text, which passes
	// as it is, json, listing (one entry a line), or tree, a JSON document whose
	// members are the resources below its path. Default: listing for what is of
	// that kind, and text.
	Format string `json:"format,omitempty"`
}

// Formats of resources.
const (
	genericText    = "text"
	genericJSON    = "json"
	genericListing = "listing"
	genericTree    = "tree"
)

// genericKinds can be described. Tokens are Metaguard's own, and what is unknown
// is what nobody described.
var genericKinds = []decision.Kind{
	decision.KindListing, decision.KindMetadata, decision.KindPassword, decision.KindUserdata,
	decision.KindVendordata, decision.KindNetwork, decision.KindCredentials, decision.KindHealth,
}

// genericWrites are the methods that can write.
var genericWrites = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// check tells what is wrong with a resource.
func (r *GenericResource) check(pathBytes string) error {
	if !slices.Contains(genericKinds, r.Kind) {
		return fmt.Errorf("resource %s %s: the kind is one of %s", r.Kind, r.Pattern, joinKinds(genericKinds))
	}
	if err := checkPattern(r.Pattern, pathBytes); err != nil {
		return fmt.Errorf("resource %s %s: %w", r.Kind, r.Pattern, err)
	}
	if err := r.checkWrite(); err != nil {
		return fmt.Errorf("resource %s %s: %w", r.Kind, r.Pattern, err)
	}
	switch r.Format {
	case "", genericText, genericJSON, genericListing, genericTree:
	default:
		return fmt.Errorf("resource %s %s: format %q: it is text, json, listing or tree", r.Kind, r.Pattern, r.Format)
	}
	if r.Kind == decision.KindPassword && r.Format != "" && r.Format != genericText {
		return fmt.Errorf("resource %s %s: a password is text: it passes as it was written or not at all", r.Kind, r.Pattern)
	}
	return nil
}

func (r *GenericResource) checkWrite() error {
	for i, method := range r.Write {
		switch {
		case !slices.Contains(genericWrites, method):
			return fmt.Errorf("action write %s: a method that writes is one of %s", method, strings.Join(genericWrites, ", "))
		case slices.Contains(r.Write[:i], method):
			return fmt.Errorf("action write %s: it is there twice", method)
		case method == http.MethodDelete && r.Kind == decision.KindPassword:
			return errors.New("action write DELETE: a password is set once, and nothing of it is deleted; `metaguard password reset` forgets it")
		}
	}
	if r.WriteOnly && len(r.Write) == 0 {
		return errors.New("it can neither be read nor written")
	}
	return nil
}

// checkPattern tells what is wrong with a pattern. What no canonical path has
// would never match.
func checkPattern(pattern, pathBytes string) error {
	rest, rooted := strings.CutPrefix(pattern, "/")
	switch {
	case !rooted:
		return errors.New("a path begins with a slash")
	case rest == "":
		return nil // the root
	case strings.HasSuffix(rest, "/"):
		return errors.New("leave the slash at the end out: it never changes what a path stands for")
	}
	segments := strings.Split(rest, "/")
	for i, segment := range segments {
		switch segment {
		case "":
			return errors.New("repeated slashes count as one; write one")
		case ".", "..":
			return errors.New("no path has a dot segment")
		case "{version}":
			if slices.Index(segments, segment) != i {
				return errors.New("{version} is there twice")
			}
			continue
		case "#", "*":
			continue
		case "**":
			if i != len(segments)-1 {
				return errors.New("** stands only at the end")
			}
			continue
		}
		if at := strings.IndexFunc(segment, func(c rune) bool { return !isPathRune(c, pathBytes) }); at >= 0 {
			return fmt.Errorf("%q cannot stand in a path, only A-Za-z0-9._~- and what path_bytes adds; whole segments may be {version}, #, * or **", segment[at:at+1])
		}
	}
	return nil
}

// pathExtras can be added to the bytes of paths (module/canonical, path.go).
const pathExtras = "$&+,:=@"

func isPathRune(c rune, pathBytes string) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.ContainsRune("._~-", c) || strings.ContainsRune(pathBytes, c)
}

// row is the resource as a line of a table.
func (r *GenericResource) row() row {
	made := row{
		pattern:   strings.TrimPrefix(r.Pattern, "/"),
		kind:      r.Kind,
		sensitive: r.Sensitive || r.Kind == decision.KindPassword || r.Kind == decision.KindCredentials,
		writes:    r.Write,
		writeOnly: r.WriteOnly,
		body:      true,
	}
	switch {
	case r.Format == genericJSON:
		made.format = JSON
	case r.Format == genericListing, r.Format == "" && r.Kind == decision.KindListing:
		made.format = Listing
	case r.Format == genericTree:
		made.format, made.tree = JSON, true
	}
	return made
}

func joinKinds(kinds []decision.Kind) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}
