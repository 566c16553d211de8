// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(Generic{})
}

// Generic is a dialect that the operator describes: a home-grown server's paths
// and what they stand for. What is not described is of kind unknown.
//
// Nobody knows its clients, so a refusal by policy says the truth, 403.
type Generic struct {
	// What the server has. Of two patterns that fit a path, the more exact one
	// counts, segment by segment from the left: a name before `{version}`, that
	// before `#`, that before `*`, and that before `**`.
	Resources []GenericResource `json:"resources,omitempty"`
	// How the server keeps passwords; required if a resource is one.
	Passwords *GenericPasswords `json:"passwords,omitempty"`
	// The names that a query may have, each with the only values that it may have
	// in any case; none means any value. Default: a query is refused.
	Query map[string][]string `json:"query,omitempty"`
	// Request headers of the server's own that are forwarded.
	Headers []string `json:"headers,omitempty"`
	// Response headers of the server's own that are passed back.
	AnswerHeaders []string `json:"answer_headers,omitempty"`
	// Bytes that may stand in paths beside `A-Za-z0-9._~-/`: some of `$&+,:=@`.
	PathBytes string `json:"path_bytes,omitempty"`

	table *table
}

// GenericPasswords says how a server keeps passwords.
type GenericPasswords struct {
	// The longest password that the server keeps whole, in bytes.
	MaxSize int `json:"max_size,omitempty"`
	// How long the server may answer from what it knew before a write. 0: it
	// knows at once.
	Cache caddy.Duration `json:"cache,omitempty"`
	// The server makes the passwords itself; none is written.
	Issued bool `json:"issued,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Generic) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.generic",
		New: func() caddy.Module { return new(Generic) },
	}
}

// Provision makes the table.
func (g *Generic) Provision(caddy.Context) error {
	rows := make([]row, 0, len(g.Resources))
	for i := range g.Resources {
		if err := g.Resources[i].check(g.PathBytes); err != nil {
			return fmt.Errorf("dialect generic: %w", err)
		}
		rows = append(rows, g.Resources[i].row())
	}
	var err error
	if g.table, err = newTable("generic", nil, rows); err != nil {
		return fmt.Errorf("dialect generic: %w", err)
	}
	return nil
}

// errNoResource is why a description is none.
var errNoResource = errors.New("dialect generic: no resource: a home-grown server is known only by what its Caddyfile says, such as `resource metadata /v1/metadata`")

// Validate refuses descriptions that say nothing or contradict themselves.
func (g *Generic) Validate() error {
	if len(g.Resources) == 0 {
		return errNoResource
	}
	passwords := g.passwords()
	switch given := g.Passwords; {
	case len(passwords) == 0 && given != nil:
		return errors.New("dialect generic: passwords: no resource is of kind password")
	case len(passwords) > 0 && given == nil:
		return fmt.Errorf("dialect generic: resource password %s: it needs a block `passwords` with max_size, what the server keeps whole, and cache, for how long it may not know of a write", passwords[0].Pattern)
	case given == nil:
		return nil
	case given.MaxSize <= 0:
		return errors.New("dialect generic: passwords: max_size, the longest password that the server keeps whole, is missing")
	case given.Cache < 0:
		return errors.New("dialect generic: passwords: cache is negative")
	}
	for _, resource := range passwords {
		if g.Passwords.Issued && len(resource.Write) > 0 {
			return fmt.Errorf("dialect generic: resource password %s: it is written, and `passwords` says that the server makes them itself (issued)", resource.Pattern)
		}
	}
	return nil
}

func (g *Generic) passwords() (found []GenericResource) {
	for _, resource := range g.Resources {
		if resource.Kind == decision.KindPassword {
			found = append(found, resource)
		}
	}
	return found
}

// Name says "generic".
func (*Generic) Name() string { return "generic" }

// Traits are those that the operator gives.
func (g *Generic) Traits() Traits {
	traits := Traits{
		ExtraPathBytes:  g.PathBytes,
		Query:           g.Query,
		RequestHeaders:  g.Headers,
		ResponseHeaders: g.AnswerHeaders,
		DenyStatus:      http.StatusForbidden,
	}
	if g.Passwords != nil {
		traits.MaxPassword = g.Passwords.MaxSize
		traits.Cache = time.Duration(g.Passwords.Cache)
		traits.Issues = g.Passwords.Issued
	}
	return traits
}

// Classify looks a canonical request up in the table.
func (g *Generic) Classify(r Request) Match {
	return g.table.classify(r)
}

// Below gives the request for a member of a document: its path goes on with the
// members' names and the indexes of arrays.
func (*Generic) Below(r Request, members []string) Request {
	return below(r, members)
}

// Samples holds a request for every resource and method, and one for none.
func (g *Generic) Samples() []Sample {
	var samples []Sample
	for _, resource := range g.Resources {
		path := samplePath(resource.Pattern)
		if !resource.WriteOnly {
			samples = append(samples, Sample{http.MethodGet, path})
		}
		for _, method := range resource.Write {
			samples = append(samples, Sample{method, path})
		}
	}
	return append(samples, Sample{http.MethodGet, "/metaguard-nothing"})
}

// samplePath puts something in the places of a pattern.
func samplePath(pattern string) string {
	segments := splitPattern(pattern)
	for i, segment := range segments {
		switch segment {
		case "{version}":
			segments[i] = "v1"
		case "#":
			segments[i] = "0"
		case "*", "**":
			segments[i] = "sample"
		}
	}
	return "/" + strings.Join(segments, "/")
}

// Interface guards.
var (
	_ Dialect           = (*Generic)(nil)
	_ Trees             = (*Generic)(nil)
	_ caddy.Provisioner = (*Generic)(nil)
	_ caddy.Validator   = (*Generic)(nil)
)
