// SPDX-License-Identifier: Apache-2.0

// Package dialect knows what the paths of a metadata server mean. A dialect is
// mostly a table: which path is which resource, which methods it has, what its
// answer looks like, and which statuses its clients survive. Dialects are
// Caddy guest modules in the namespace metaguard.dialects.
package dialect

import (
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// Dialect reads canonical requests of one kind of metadata server.
// Implementations are immutable after provisioning.
type Dialect interface {
	// Name is the dialect's name in the Caddyfile and in input documents.
	Name() string
	// Traits says how this server and its clients speak HTTP.
	Traits() Traits
	// Samples lists one request for every kind of resource and method that there
	// is.
	Samples() []Sample
	// Classify tells what a canonical request asks for. A request that the
	// dialect does not know is of decision.KindUnknown.
	Classify(Request) Match
}

// Request is the part of a canonical request that a dialect reads.
type Request struct {
	// Method is GET for a HEAD request too.
	Method string
	// Segments holds the decoded path segments, none of them empty.
	Segments []string
	// TrailingSlash tells that the path ended in a slash and is not "/".
	TrailingSlash bool
}

// Match is what a dialect knows about a request.
type Match struct {
	Resource decision.Resource
	// Methods lists what the resource allows, for 405 answers. HEAD is always
	// allowed beside GET.
	Methods []string
	// Body tells whether this method sends a body to this resource.
	Body bool
	// Format is how an answer of the server is to be read.
	Format Format
}

// Allows tells whether the resource has this method.
func (m Match) Allows(method string) bool {
	for _, allowed := range m.Methods {
		if method == allowed {
			return true
		}
	}
	return false
}

// Format is how the body of a successful answer is read when something in it
// must be hidden. Content types say little: Nova calls everything text/plain.
type Format int

// The formats.
const (
	// Text is passed as it is.
	Text Format = iota
	// JSON must parse, and loses hidden keys.
	JSON
	// Listing is one entry a line, and loses hidden entries.
	Listing
)

// Traits are the constants of a dialect.
type Traits struct {
	// ExtraPathBytes are allowed in paths beside A-Za-z0-9._~-/.
	ExtraPathBytes string
	// Query names that the server knows. A query is refused where there are none.
	Query []string
	// RequestHeaders are forwarded beside Accept, User-Agent and Content-Type.
	RequestHeaders []string
	// ResponseHeaders are passed back beside those of every dialect.
	ResponseHeaders []string
	// Cache is how long the server may answer from what it knew before a
	// write. A latch must hold a password at least that long.
	Cache time.Duration
	// MaxPassword is the longest password that the server keeps whole, in
	// bytes; 0 if the dialect has no password resource.
	MaxPassword int
	// Survives lists the statuses beside 200 that its clients take for an
	// answer and go on after. Any other makes them give up or retry for
	// minutes.
	Survives []int
}
