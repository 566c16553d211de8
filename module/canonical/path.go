// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http"
	"strings"
)

// readTarget reads path and query from the request target as it stood in the
// request line, and holds them against what Go made of it.
func (c *Canonicalizer) readTarget(q *Request, r *http.Request) problem {
	target := r.RequestURI
	if len(target) > maxTarget {
		return pathTooLong
	}
	if target == "" || target[0] != '/' {
		return pathNotOriginForm
	}
	path, query, _ := strings.Cut(target, "?")
	// RequestURI and URL are two copies of the same target. Caddy's rewrite
	// changes both. If they differ, some handler made a second reading, and
	// nobody can say which of them was meant.
	if r.URL == nil || r.URL.Opaque != "" || r.URL.RawQuery != query {
		return targetMismatch
	}
	parsed := r.URL.Path
	if parsed == "" { // for which URL.RequestURI says "/"
		parsed = "/"
	}
	if p := c.readPath(q, path, parsed); p != fine {
		return p
	}
	if p := c.readQuery(q, query); p != fine {
		return p
	}
	if len(q.Path)+len("?")+len(q.RawQuery) > maxTarget && q.RawQuery != "" {
		return pathTooLong // escaping can make a query longer
	}
	return fine
}

// readPath decodes a raw path once, checks its bytes and its segments and
// merges its slashes. It is no cleaning: what a cleaner would remove is
// refused, since servers do not agree on what remains. (uWSGI removes "x/.."
// before it merges slashes, Go's path.Clean after.)
func (c *Canonicalizer) readPath(q *Request, raw, parsed string) problem {
	var buffer [maxTarget]byte
	path := buffer[:0]
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b == '%' {
			decoded, ok := unescape(raw[i:])
			if !ok {
				return pathBadEscape
			}
			if decoded == '/' {
				return pathEncodedSlash
			}
			b, i = decoded, i+2
		}
		if p := c.pathBytes[b]; p != fine {
			return p
		}
		path = append(path, b)
	}
	if string(path) != parsed {
		return targetMismatch
	}
	path = mergeSlashes(path)
	if string(path) == raw {
		q.Path = raw
	} else {
		q.Path = string(path)
	}
	q.TrailingSlash = len(q.Path) > 1 && q.Path[len(q.Path)-1] == '/'
	return q.split()
}

// IsSegment tells whether a name could be a segment of a path that is read.
func (c *Canonicalizer) IsSegment(name string) bool {
	if name == "" || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if name[i] == '/' || c.pathBytes[name[i]] != fine {
			return false
		}
	}
	return true
}

// mergeSlashes makes one slash of several, in place.
func mergeSlashes(path []byte) []byte {
	merged := path[:0]
	for _, b := range path {
		if b == '/' && len(merged) > 0 && merged[len(merged)-1] == '/' {
			continue
		}
		merged = append(merged, b)
	}
	return merged
}

// split sets the segments of the path and refuses dot segments.
func (q *Request) split() problem {
	segments := q.segments[:0]
	for rest := q.Path[1:]; rest != ""; {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if segment == "." || segment == ".." {
			return pathDotSegment
		}
		segments = append(segments, segment)
	}
	q.Segments = segments
	return fine
}

// unescape decodes the escape that text begins with.
func unescape(text string) (decoded byte, ok bool) {
	if len(text) < len("%xx") {
		return 0, false
	}
	high, okHigh := hexDigit(text[1])
	low, okLow := hexDigit(text[2])
	return high<<4 | low, okHigh && okLow
}

func hexDigit(b byte) (value byte, ok bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}

// isUnreserved tells whether a byte means the same escaped or not (RFC 3986,
// section 2.3).
func isUnreserved(b byte) bool {
	return isAlphanumeric(b) || b == '.' || b == '_' || b == '~' || b == '-'
}

func isAlphanumeric(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// extraPathBytes are those that a dialect may allow. Each is its own reading in
// every server, and Go writes it in a path as it is: the forwarded path is the
// judged one byte for byte.
const extraPathBytes = "$&+,:=@"

// pathTable says of every byte, decoded or not, what is wrong with it in a path.
func pathTable(extra string) (table [256]problem) {
	for i := range table {
		switch b := byte(i); {
		case isUnreserved(b), b == '/', strings.IndexByte(extra, b) >= 0:
			table[i] = fine
		case b == '#':
			table[i] = pathFragment
		case b == ';':
			table[i] = pathParameter
		case b == '\\':
			table[i] = pathBackslash
		case b < 0x20, b == 0x7f:
			table[i] = pathControl
		case b >= 0x80:
			table[i] = pathNonASCII
		default:
			table[i] = pathByte
		}
	}
	return table
}
