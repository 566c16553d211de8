// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/url"
	"slices"
	"strings"
)

// readQuery reads a raw query. Every pair must have a name that the dialect
// knows, once. A plus is a blank, as in every metadata server's query parser,
// and forwarded as %20, which nobody reads otherwise.
func (c *Canonicalizer) readQuery(q *Request, raw string) problem {
	if raw == "" {
		return fine
	}
	if len(c.query) == 0 {
		return queryUnexpected
	}
	values := make(url.Values, 2)
	for more := true; more; {
		var pair string
		pair, raw, more = strings.Cut(raw, "&")
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, p := unescapeQuery(rawName)
		if p != fine {
			return p
		}
		value, p := unescapeQuery(rawValue)
		if p != fine {
			return p
		}
		if name == "" {
			return queryMalformed
		}
		allowed, known := c.query[name]
		if !known {
			return queryUnexpected
		}
		if len(allowed) > 0 && !containsFold(allowed, value) {
			return queryValue
		}
		if _, repeated := values[name]; repeated {
			return queryRepeated
		}
		values[name] = []string{value}
	}
	q.Query, q.RawQuery = values, encodeQuery(values)
	return fine
}

func containsFold(list []string, wanted string) bool {
	for _, entry := range list {
		if strings.EqualFold(entry, wanted) {
			return true
		}
	}
	return false
}

// queryMarks may stand in a query without an escape beside the unreserved
// bytes. Missing are those on which parsers differ (";" separates pairs for
// some, "[" makes a list, "#" ends the target) and those that no URL has.
const queryMarks = "!$'()*+,/:=?@"

// unescapeQuery decodes a name or a value once. What comes out is printable
// ASCII.
func unescapeQuery(raw string) (string, problem) {
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		switch {
		case b == '%':
			var ok bool
			if b, ok = unescape(raw[i:]); !ok {
				return "", queryBadEscape
			}
			if b < ' ' || b > '~' {
				return "", queryByte
			}
			i += 2
		case b == '+':
			b = ' '
		case !isUnreserved(b) && strings.IndexByte(queryMarks, b) < 0:
			return "", queryByte
		}
		decoded = append(decoded, b)
	}
	return string(decoded), fine
}

// encodeQuery writes a query sorted by name.
func encodeQuery(values url.Values) string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	var text []byte
	for i, name := range names {
		if i > 0 {
			text = append(text, '&')
		}
		text = appendEscaped(text, name)
		text = append(text, '=')
		text = appendEscaped(text, values[name][0])
	}
	return string(text)
}

func appendEscaped(text []byte, plain string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(plain) {
		if b := plain[i]; isUnreserved(b) {
			text = append(text, b)
		} else {
			text = append(text, '%', digits[b>>4], digits[b&15])
		}
	}
	return text
}
