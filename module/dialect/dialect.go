// SPDX-License-Identifier: Apache-2.0

// Package dialect knows what the paths of a metadata server mean. A dialect is
// mostly a table: which path is which resource, which methods it has, what its
// answer looks like, and which statuses its clients survive. Dialects are
// Caddy guest modules in the namespace metaguard.dialects.
package dialect

import (
	"net/http"
	"net/url"
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
	// Query has the names of Traits.Query only, each with one value; nil where
	// there is none.
	Query url.Values
	// Header holds what is forwarded of the client's headers.
	Header http.Header
}

// Trees is a dialect that has JSON documents whose members are resources of
// their own, such as GCE's recursive answers.
type Trees interface {
	// Below gives the request for one member of the document that r asks for, by
	// the names on the way to it; an element of an array is named by its index.
	Below(r Request, members []string) Request
}

// Match is what a dialect knows about a request.
type Match struct {
	Resource decision.Resource
	// Methods lists what the resource allows, for 405 answers. HEAD is allowed
	// beside GET, but never in a Transaction.
	Methods []string
	// Body tells whether this method sends a body to this resource.
	Body bool
	// Format is how an answer of the server is to be read.
	Format Format
	// Parent is the path whose entries a listing names, where that is not the
	// listing's own.
	Parent []string
	// Tree tells that the answer is a JSON document whose members are resources
	// of their own. The dialect implements Trees then.
	Tree bool
	// Wait is how long the server may keep the answer back, because the client
	// asked it to wait for a change; 0 where it answers at once.
	Wait time.Duration
	// Direct tells that the server refuses the request if it has a header that
	// proxies add, such as X-Forwarded-For. So Metaguard adds none, and refuses the
	// request itself if it came with one.
	Direct bool
	// Empty is the body of the answer that says that there is nothing, for a
	// refusal with status 200.
	Empty string
	// Transaction is what this request is in an exchange of several.
	Transaction Transaction
	// Ambiguous is why the request cannot be judged, as a stable code such as
	// "query_recursive_text"; empty where it can.
	Ambiguous string
}

// Transaction is a request's part in reading a password that the server makes
// and forgets once the reader says that it has it.
type Transaction int

// The parts. An acknowledgement is forwarded only for who has read.
const (
	NoTransaction Transaction = iota
	TransactionRead
	TransactionAcknowledge
)

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
	// Query holds the query names that the server knows, each with the only
	// values that it may have in any case; none means any value. A query is
	// refused where there are no names.
	Query map[string][]string
	// RequestHeaders are forwarded beside Accept, User-Agent and Content-Type.
	RequestHeaders []string
	// ResponseHeaders are passed back beside those of every dialect.
	ResponseHeaders []string
	// Command names a header that says what is asked for, as CloudStack's
	// DomU_Request does, in the spelling that the server knows. It is forwarded.
	Command string
	// Required is a header that every request must have exactly once, and Mark
	// one that every answer of the server has, and then every one of Metaguard's.
	Required, Mark Header
	// RefusesForwarded tells that the server refuses a request that a proxy
	// passed on, so that Metaguard does.
	RefusesForwarded bool
	// RedirectsToSlash tells that the server redirects a directory without a
	// slash at its end to the one that has it.
	RedirectsToSlash bool
	// DenyStatus is the status of a refusal by policy that its clients get along
	// with best, 403 or 404.
	DenyStatus int
	// MaxWait is the longest Match.Wait; 0 where nothing waits.
	MaxWait time.Duration
	// VersionTags tells that the ETag of an answer is a version, which a client
	// gives back to be told of the next one. It stays when something is hidden.
	VersionTags bool
	// Issues tells that the server makes the passwords itself, so that there is
	// nothing written that one could be compared with. An answer is one line of
	// printable text then, a password unless it is empty or one of these words:
	// Nothing says that there is none, Complaints that the request was not
	// understood.
	Issues              bool
	Nothing, Complaints []string
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

// Header is a header with its value. Its zero value is none.
type Header struct{ Name, Value string }
