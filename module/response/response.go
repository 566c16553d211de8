// SPDX-License-Identifier: Apache-2.0

// Package response bounds, normalises and redacts what passes through
// Metaguard. It knows HTTP but no Caddy.
//
// An answer goes through it in this order:
//
//	w := NewWriter(limit, budget)     // the upstream's answer is written into it
//	a, refusal := w.Answer()          // whole, or a refusal
//	refusal = Normalize(a, rules)     // one well-formed shape
//	refusal = CheckJSON(a)            // where the resource is JSON
//	removed, refusal := RedactJSON(a, pointers, keys)   // or RedactListing
//	err := Write(client, a, head)
//	w.Release()                       // the body's memory goes back
//
// # What it relies on
//
// Nothing is ever cut: an answer or a body passes whole or not at all. After a
// refusal the answer must not be sent; parts of it may already be changed.
//
// The body of an answer lies in a pooled buffer that belongs to its Writer.
// It is valid until Release, which wipes it. Redaction works inside that
// buffer, so that an answer never costs more than the budget knows of.
//
// No refusal made here wraps an error of a parser or of a connection that
// could quote the bytes it failed at: those may be a password.
package response

import (
	"fmt"
	"net/http"
	"strconv"
)

// Answer is an upstream's complete answer. It is valid until the Writer that
// it came from is released.
type Answer struct {
	// Status is the HTTP status, 100 to 999 before Normalize.
	Status int
	// Header is the answer's own; nobody else holds it.
	Header http.Header
	// Body is complete. Redaction changes it in place.
	Body []byte
}

// String names status and size. It shows neither headers nor body, which may
// be a secret.
func (a *Answer) String() string {
	if a == nil {
		return "no answer"
	}
	return fmt.Sprintf("answer %d with %d bytes", a.Status, len(a.Body))
}

// GoString is String.
func (a *Answer) GoString() string { return a.String() }

// Replace gives the answer another body, of other memory, instead of its own.
func Replace(a *Answer, body []byte) { a.setBody(body) }

// setBody replaces the body by what is left of it. Validators and expiry of
// the whole would be wrong for the rest.
func (a *Answer) setBody(body []byte) {
	a.Body = body
	delete(a.Header, "Etag")
	delete(a.Header, "Last-Modified")
	a.setLength()
}

// setLength writes the Content-Length that fits the body. A 204 has none
// (RFC 9110, section 8.6).
func (a *Answer) setLength() {
	if a.Status == http.StatusNoContent {
		delete(a.Header, "Content-Length")
		return
	}
	if a.Header == nil {
		a.Header = make(http.Header, 2)
	}
	a.Header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
}

// Removed counts what redaction took out of an answer.
type Removed struct {
	// Keys are JSON members and array elements that the policy hides.
	Keys int
	// Entries are lines of a listing that the policy hides.
	Entries int
	// PasswordKeys are members and lines that begin with "password_" and are
	// none of password_0 to password_3.
	PasswordKeys int
}

// Total is the sum of all.
func (r Removed) Total() int { return r.Keys + r.Entries + r.PasswordKeys }

// PasswordHeaders makes the headers of a successful answer to a password
// request: plain text, so that a browser does not run what an instance stored
// (Nova says text/html), and kept by nobody. Validators go, since they could
// be a hash of the password.
func PasswordHeaders(h http.Header) {
	for _, name := range []string{"Etag", "Last-Modified", "Expires", "Pragma", "Content-Disposition"} {
		delete(h, name)
	}
	h["Content-Type"] = []string{plainText}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
}

// Write sends the answer with its exact Content-Length, without the body if
// head is set. What the answer's header does not name stays in w's header as
// it is. The error is the connection's.
func Write(w http.ResponseWriter, a *Answer, head bool) error {
	a.setLength()
	header := w.Header()
	// Whatever stands there would contradict the exact length.
	delete(header, "Transfer-Encoding")
	delete(header, "Trailer")
	delete(header, "Content-Length")
	for name, values := range a.Header {
		header[name] = values
	}
	w.WriteHeader(a.Status)
	if head || len(a.Body) == 0 {
		return nil
	}
	_, err := w.Write(a.Body)
	return err
}
