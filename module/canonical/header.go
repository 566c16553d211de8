// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http"
	"strings"
)

// The longest values that are forwarded, in bytes: of the three headers that
// every dialect has, and of a dialect's or operator's own, which may be a token.
const (
	maxCommonValue = 1024
	maxOwnValue    = 8192
)

// headerRule says what is wrong with a header that is there, and with one that
// is there more than once.
type headerRule struct {
	once     problem
	doubled  problem
	identity bool
}

// commonRules are those of every dialect and site.
func commonRules() map[string]headerRule {
	return map[string]headerRule{
		"Upgrade":                {once: headerUpgrade},
		"Http2-Settings":         {once: headerUpgrade},
		"X-Http-Method-Override": {once: headerMethodOverride},
		"X-Http-Method":          {once: headerMethodOverride},
		"X-Method-Override":      {once: headerMethodOverride},
		"Early-Data":             {once: headerEarlyData}, // RFC 8470: a proxy in front took it from 0-RTT
		// Go takes Transfer-Encoding away and compares lengths in HTTP/1; in
		// HTTP/2 it reads the first length of several.
		"Transfer-Encoding": {once: headerFraming},
		"Content-Length":    {doubled: headerFraming},
	}
}

// checkHeaders refuses what would give the request a second reading.
func (c *Canonicalizer) checkHeaders(r *http.Request) problem {
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		return tlsEarlyData // can be replayed by whoever saw it
	}
	worst := problems
	for name, values := range r.Header {
		if len(values) == 0 {
			continue
		}
		p := fine
		rule, known := c.headers[name]
		switch {
		case !known:
			if !isPlain(name) && c.isIdentityAlias(name) {
				p = headerIdentityAlias
			}
		case rule.once != fine:
			p = rule.once
		case len(values) > 1:
			p = rule.doubled
		}
		if p == fine && c.refuseForwarded && IsForwarded(name) {
			p = headerForwarded
		}
		if p != fine {
			worst = min(worst, p)
		}
	}
	if p := checkConnection(r.Header["Connection"]); p != fine {
		worst = min(worst, p)
	}
	for name := range r.Trailer {
		if c.isIdentityAlias(name) {
			worst = min(worst, headerIdentityTrailer)
		}
	}
	if worst == problems {
		return fine
	}
	return worst
}

// checkRequired holds a request against require_header. Whoever can make a
// server send a request often cannot choose its headers.
func (c *Canonicalizer) checkRequired(header http.Header) problem {
	for _, required := range c.required {
		values := header[required.Name]
		if len(values) != 1 || !strings.EqualFold(values[0], required.Value) {
			return headerRequired
		}
	}
	return fine
}

// IsForwarded tells whether a header says that a proxy passed the request on: an
// open proxy, which an attacker can make ask for something, mostly adds one of
// these. Caddy lets names with other marks than hyphens through if the site
// expects them.
func IsForwarded(name string) bool {
	if len(name) < len("Forwarded") || len(name) > len("X-Forwarded-For") {
		return false
	}
	plain := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, name)
	return strings.EqualFold(plain, "Forwarded") || strings.EqualFold(plain, "X-Forwarded-For")
}

// checkConnection takes the tokens that name no other header. One that does
// asks the next proxy to remove that header, which may be the one that says
// who calls.
func checkConnection(values []string) problem {
	found := fine
	for _, value := range values {
		for more := true; more; {
			var token string
			token, value, more = strings.Cut(value, ",")
			switch token = strings.Trim(token, " \t"); {
			case token == "",
				strings.EqualFold(token, "keep-alive"),
				strings.EqualFold(token, "close"),
				strings.EqualFold(token, "te"):
			case strings.EqualFold(token, "upgrade"):
				return headerUpgrade
			default:
				found = headerConnection
			}
		}
	}
	return found
}

// isPlain tells whether a name is spelled as Go's server spells it, with
// nothing in it but letters, digits and hyphens.
func isPlain(name string) bool {
	first := true
	for i := range len(name) {
		b := name[i]
		switch {
		case b == '-':
			first = true
			continue
		case !isAlphanumeric(b),
			first && 'a' <= b && b <= 'z',
			!first && 'A' <= b && b <= 'Z':
			return false
		}
		first = false
	}
	return true
}

// isIdentityAlias tells whether a server that makes variables of header names,
// as every WSGI server does, would take this one for an identity header; it
// would take the header's own name, too.
func (c *Canonicalizer) isIdentityAlias(name string) bool {
	var buffer [maxHeaderName]byte
	if len(name) > len(buffer) {
		return false
	}
	_, found := c.identity[string(appendFolded(buffer[:0], name))]
	return found
}

// appendFolded appends what is left of a header name in such a server.
func appendFolded(folded []byte, name string) []byte {
	for i := range len(name) {
		b := name[i]
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
		case !isAlphanumeric(b):
			b = '-'
		}
		folded = append(folded, b)
	}
	return folded
}

// field is a header that goes upstream.
type field struct {
	name   string // in Go's canonical spelling
	sent   string // as it goes upstream; empty: as name
	lower  string // as a policy sees it; empty: it does not
	max    int    // of the value, in bytes
	joined bool   // several lines are one list
}

// readHeaders takes the headers that go upstream. An empty value is the same
// as none.
func (c *Canonicalizer) readHeaders(q *Request, header http.Header) problem {
	for i := range c.forward {
		forward := &c.forward[i]
		values := header[forward.name]
		if len(values) == 0 {
			continue
		}
		value := values[0]
		if len(values) > 1 {
			if !forward.joined {
				return headerDoubled
			}
			value = strings.Join(values, ", ")
		}
		value = strings.Trim(value, " \t")
		if p := checkValue(value, forward.max); p != fine {
			return p
		}
		if value != "" {
			q.addHeader(forward, value)
		}
	}
	return fine
}

func (q *Request) addHeader(forward *field, value string) {
	if q.Header == nil {
		q.Header = make(http.Header, len(q.values))
	}
	name := forward.name
	if forward.sent != "" {
		name = forward.sent
	}
	if n := len(q.Header); n < len(q.values) {
		q.values[n] = value
		q.Header[name] = q.values[n : n+1 : n+1]
	} else {
		q.Header[name] = []string{value}
	}
	if forward.lower == "" {
		return
	}
	if q.PolicyHeaders == nil {
		q.PolicyHeaders = make(map[string]string, len(q.values))
	}
	q.PolicyHeaders[forward.lower] = value
}

// checkValue takes printable ASCII and tabs. Other bytes are no text in JSON,
// so a policy could not see what would be forwarded.
func checkValue(value string, limit int) problem {
	if len(value) > limit {
		return headerTooLong
	}
	for i := range len(value) {
		if b := value[i]; (b < ' ' && b != '\t') || b > '~' {
			return headerValue
		}
	}
	return fine
}
