// SPDX-License-Identifier: Apache-2.0

// Package canonical makes the one reading of a request that Metaguard judges
// and forwards, or refuses the request. Two servers may read the same bytes in
// two ways; a guard that judges one reading and forwards the bytes guards
// nothing. So the path is not cleaned but held against an allow-list, and what
// goes upstream is rebuilt from the result, never copied from the client.
//
// The functions are pure: no state, no clock, no network. What a dialect and an
// operator add comes in as Rules.
//
// # Rules
//
// Only origin-form targets of at most 1,024 bytes are read, as they stood in
// the request line. The path is percent-decoded once; then every byte must be
// one of A-Za-z0-9._~-/ or of the few that the dialect adds. Encoded slashes,
// bad escapes and the segments "." and ".." in any spelling are refused.
// Repeated slashes become one: every server in front of Nova does the same, and
// clients send them. A trailing slash stays, since a listing may differ, but is
// no part of the resource. A query is refused unless the dialect knows its
// names; a bare "?" is dropped.
//
// Headers go upstream by allow-list: Accept, User-Agent, Content-Type, the
// dialect's own, the operator's forward_headers. Headers that change how
// others are read (Upgrade, Early-Data, method overrides, a Connection header
// that names another one, an identity header that stands there twice or with
// an underscore) end the request.
//
// # What never arrives here
//
// Go's HTTP server and Caddy answer these before any handler runs, so they get
// Go's or Caddy's own answer, and no decision is logged (tests/framing_go_test.go
// has each of them):
//
//   - request lines: no version, a malformed or unknown one (505), a method that
//     is no token, blanks in the target (HTTP/1; in HTTP/2 they arrive), a target
//     that does not begin with a slash (but "*" and absolute targets do arrive,
//     and are refused here), control bytes or a bad escape in the path;
//     "OPTIONS *" gets an empty 200
//   - headers: names that are no tokens, lines without a colon, a folded first
//     line, control bytes in values, no Host in HTTP/1.1, two of them, a Host with
//     bytes that no host has, heads 4 KiB over Caddy's max_header_size (431), and
//     in HTTP/2 the connection headers, extended CONNECT and bad pseudo-headers
//   - framing: two different Content-Lengths (HTTP/1; in HTTP/2 any two arrive),
//     one that is no number, a Transfer-Encoding that is not exactly one chunked
//     (501; in HTTP/1.0 it is ignored, and such a connection is closed), a Trailer
//     that names a framing header, an unknown Expect in HTTP/1 (417), in HTTP/2 a
//     body of another length than was declared
//   - plain HTTP on a TLS port
//
// Go takes a Content-Length away where chunked stands beside it. Caddy drops
// header names with an underscore or a dot, unless the site expects them.
//
// A rewrite that the site makes ahead of Metaguard (rewrite, uri, handle_path,
// method) changes the request line as Go parsed it and as it stood alike, so
// the rewritten request is judged and forwarded. A handler that changes only
// one of the two leaves a request with two readings, which is refused
// (target_mismatch).
package canonical

import (
	"net/http"
	"net/url"

	"github.com/metaguard/metaguard/module/decision"
)

// maxTarget is the longest request target that is read, in bytes, path and
// query together. The longest that Nova knows has less than 100.
const maxTarget = 1024

// maxMethod is the longest method that is passed on to the dialect.
const maxMethod = 32

// Request is the one reading of a request. Nothing in it shares memory that a
// handler could still change with the request that it was made of.
type Request struct {
	// Method is the method that is judged and forwarded, in capital letters:
	// GET for a HEAD request. Whether the resource has it is the dialect's
	// question.
	Method string
	// Head tells that the client sent HEAD and wants no body.
	Head bool
	// Path begins with a slash, holds allowed bytes only and is forwarded as it
	// is: none of them is ever escaped.
	Path string
	// Segments are the parts of Path between the slashes, none of them empty:
	// the resource. There are none for "/".
	Segments []string
	// TrailingSlash tells that Path ends in a slash and is not "/".
	TrailingSlash bool
	// Query is nil where there is none; every name has exactly one value.
	Query url.Values
	// RawQuery is Query as it is forwarded, sorted by name, with everything but
	// A-Za-z0-9._~- escaped.
	RawQuery string
	// Host is the client's Host in lower case, without port, brackets and zone.
	// It is for the policy only and may be empty.
	Host string
	// Protocol is the client's, such as "HTTP/1.1".
	Protocol string
	// Header is what goes upstream of the client's headers: one value to a
	// name, in Go's canonical spelling. It is nil where there are none.
	Header http.Header
	// PolicyHeaders are the same headers with lower-case names, without those
	// whose names say that they hold a secret, such as Authorization: what a
	// policy sees may be logged.
	PolicyHeaders map[string]string
	// HasBody tells that a body was announced, by a length above 0, by chunked
	// encoding or by an open HTTP/2 stream.
	HasBody bool

	// Room for what nearly every request has, to spare allocations.
	segments [8]string
	values   [4]string
}

// Canonicalize makes the one reading of a request as Caddy hands it to a
// handler, or refuses it. It reads nothing of the body and changes nothing in
// r. What is wrong in several ways gets the same code every time.
func (c *Canonicalizer) Canonicalize(r *http.Request) (*Request, *decision.Refusal) {
	request := &Request{Protocol: r.Proto, HasBody: hasBody(r)}
	if p := request.readMethod(r.Method); p != fine {
		return nil, p.refusal()
	}
	if p := c.readTarget(request, r); p != fine {
		return nil, p.refusal()
	}
	if p := c.checkHeaders(r); p != fine {
		return nil, p.refusal()
	}
	if p := c.readHeaders(request, r.Header); p != fine {
		return nil, p.refusal()
	}
	if p := c.readHost(request, r.Host); p != fine {
		return nil, p.refusal()
	}
	if p := c.checkRequired(r.Header); p != fine {
		return nil, p.refusal()
	}
	return request, nil
}

// readMethod takes a method of capital letters only. Servers differ in whether
// "get" is GET.
func (q *Request) readMethod(method string) problem {
	switch method {
	case http.MethodHead:
		q.Method, q.Head = http.MethodGet, true
		return fine
	case http.MethodConnect:
		return methodConnect
	}
	if method == "" || len(method) > maxMethod {
		return methodMalformed
	}
	for i := range len(method) {
		if method[i] < 'A' || method[i] > 'Z' {
			return methodMalformed
		}
	}
	q.Method = method
	return fine
}

// hasBody tells whether a body was announced. HTTP/3 has no mark for "no body"
// in the head, and says -1 for every request without a length.
func hasBody(r *http.Request) bool {
	return r.ContentLength > 0 || len(r.TransferEncoding) > 0 ||
		(r.ContentLength < 0 && r.ProtoMajor != 3)
}
