// SPDX-License-Identifier: Apache-2.0

package response

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// plainText is the type of an answer that has none. Neutron's agent dies of a
// 200 without Content-Type, and Go's server would guess, which makes HTML of
// what a tenant stored.
const plainText = "text/plain; charset=utf-8"

// passing are the response headers that every dialect passes on. The rest is
// dropped: what frames the answer is Metaguard's own (Content-Length,
// Transfer-Encoding, Trailer, Connection, Date), and what speaks of the server
// or gives the client orders is nobody's business (Server, Via, Set-Cookie,
// Location, Refresh, Alt-Svc, …). Digests would be wrong after redaction.
var passing = map[string]bool{
	"Allow":            true,
	"Cache-Control":    true,
	"Content-Language": true,
	"Content-Type":     true,
	"Etag":             true, // until redaction removes something
	"Expires":          true,
	"Last-Modified":    true, // the same
	"Pragma":           true,
	"Retry-After":      true,
	"Vary":             true,
	"Www-Authenticate": true,
}

// single are the headers that mean something only once.
var single = []string{"Content-Type", "Etag", "Expires", "Last-Modified", "Retry-After"}

// never are the headers that no dialect may add to those that pass.
var never = map[string]bool{
	"Alt-Svc":              true,
	"Connection":           true,
	"Content-Encoding":     true,
	"Content-Length":       true,
	"Content-Location":     true,
	"Content-Range":        true,
	"Keep-Alive":           true,
	"Location":             true,
	"Proxy-Authenticate":   true,
	"Proxy-Connection":     true,
	"Refresh":              true,
	"Server":               true,
	"Set-Cookie":           true,
	"Set-Cookie2":          true,
	"Te":                   true,
	"Trailer":              true,
	"Transfer-Encoding":    true,
	"Upgrade":              true,
	"Via":                  true,
	"X-Accel-Redirect":     true,
	"X-Metaguard-Decision": true,
	"X-Sendfile":           true,
}

// Rules are what a dialect adds to normalising. They are read only.
type Rules struct {
	// Headers are further response headers that pass, in any case, such as
	// "Metadata-Flavor". What frames an answer, sets cookies, redirects or
	// carries Metaguard's decision never does, whatever stands here.
	Headers []string
}

// passes tells whether a header with this canonical name is passed on.
func (r *Rules) passes(name string) bool {
	if passing[name] {
		return true
	}
	// A handler may have set a name in another spelling than net/http's.
	if r == nil || len(r.Headers) == 0 || never[textproto.CanonicalMIMEHeaderKey(name)] {
		return false
	}
	for _, extra := range r.Headers {
		if strings.EqualFold(extra, name) {
			return true
		}
	}
	return false
}

// Normalize gives the answer one well-formed shape: a status that a client can
// act on by itself, headers by allow-list, a Content-Type, and the exact
// Content-Length. rules may be nil. It refuses what a client could not read as
// the whole, plain answer to its question:
//
//	upstream_redirect     redirect: any 3xx but 304; Neutron's agent would follow it with the signed headers
//	response_unreadable   switching_protocols (101), not_modified (304: nobody asked), partial_content (206),
//	                      delta (226), status_invalid (600 and more), content_encoding, body_not_allowed (204, 205),
//	                      header_name (a blank in one), header_control (a control byte in a header that passes),
//	                      header_repeated
//
// None of these counts as response_incomplete: the answer was whole.
func Normalize(a *Answer, rules *Rules) *decision.Refusal {
	if refusal := checkStatus(a); refusal != nil {
		return refusal
	}
	for _, value := range a.Header["Content-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			if coding = textproto.TrimString(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return decision.Refuse(decision.ResponseUnreadable, "content_encoding")
			}
		}
	}
	for name := range a.Header {
		// net/http keeps a blank before the colon as a part of the name, so that
		// "Content-Length : 9" frames nothing and a cut would not show.
		if strings.Contains(name, " ") {
			return decision.Refuse(decision.ResponseUnreadable, "header_name")
		}
	}
	for name, values := range a.Header {
		if !rules.passes(name) || len(values) == 0 {
			delete(a.Header, name)
			continue
		}
		for _, value := range values {
			if !plainValue(value) {
				return decision.Refuse(decision.ResponseUnreadable, "header_control")
			}
		}
	}
	for _, name := range single {
		if !once(a.Header, name) {
			return decision.Refuse(decision.ResponseUnreadable, "header_repeated")
		}
	}
	a.setLength()
	if a.Status == http.StatusNoContent {
		delete(a.Header, "Content-Type")
	} else if textproto.TrimString(a.Header.Get("Content-Type")) == "" {
		a.Header["Content-Type"] = []string{plainText}
	}
	return nil
}

// checkStatus refuses the statuses that are not a whole answer by themselves.
func checkStatus(a *Answer) *decision.Refusal {
	switch status := a.Status; {
	case status == http.StatusSwitchingProtocols:
		return decision.Refuse(decision.ResponseUnreadable, "switching_protocols")
	case status < 200 || status > 599:
		return decision.Refuse(decision.ResponseUnreadable, "status_invalid")
	case status == http.StatusPartialContent:
		return decision.Refuse(decision.ResponseUnreadable, "partial_content")
	case status == http.StatusIMUsed:
		return decision.Refuse(decision.ResponseUnreadable, "delta")
	case status == http.StatusNotModified:
		return decision.Refuse(decision.ResponseUnreadable, "not_modified")
	case status >= 300 && status <= 399:
		return decision.Refuse(decision.UpstreamRedirect, "redirect")
	case (status == http.StatusNoContent || status == http.StatusResetContent) && len(a.Body) > 0:
		return decision.Refuse(decision.ResponseUnreadable, "body_not_allowed")
	default:
		return nil
	}
}

// once leaves one value of a header that means something only once. Repeating
// the same one is harmless; with two it is not clear which one a client takes.
func once(h http.Header, name string) bool {
	values := h[name]
	if len(values) < 2 {
		return true
	}
	for _, value := range values[1:] {
		if value != values[0] {
			return false
		}
	}
	h[name] = values[:1]
	return true
}

// plainValue tells whether a header value has no control byte but tabs
// (RFC 9110, section 5.5).
func plainValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
