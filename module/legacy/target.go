// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"path"
	"strings"
	"unicode/utf8"
)

// This file holds the models of how the servers in front of Nova, and Nova
// itself, read a request target. They are pure functions.

// maxUWSGITarget is the length from which Debian's uWSGI, with the buffer of
// its ini file, may not serve a target: it needs the target, the path once
// more and the rest of the head in 65,535 bytes.
const maxUWSGITarget = (65535 - len("GET  HTTP/1.1\r\n\r\n")) / 2

// maxEventletTarget is eventlet's url_length_limit, which counts the whole
// request line, less the rest of a GET's.
const maxEventletTarget = 8192 - len("GET  HTTP/1.1\r\n")

// UWSGIPath tells which PATH_INFO uWSGI 2.0.21 makes of a raw request target.
// It is a port of http_parse (proto/http.c) and http_url_decode
// (core/utils.c): the target ends at the first blank, ? or #; "." and ".."
// segments are removed from the raw text without merging slashes, so that ".."
// after "//" removes only the empty segment; what stands behind a % is decoded
// once, whatever it is, and dots and slashes that come out of it are not
// treated again; an incomplete % at the end is dropped.
//
// The result holds bytes, not characters. It is not ok when the target may not
// fit into uWSGI's buffer (32,759 bytes) or has a line break in it, which is no
// longer a question of the path.
func UWSGIPath(rawTarget string) (pathInfo string, ok bool) {
	if len(rawTarget) >= maxUWSGITarget || strings.ContainsAny(rawTarget, "\r\n") {
		return "", false
	}
	if i := strings.IndexAny(rawTarget, " ?"); i >= 0 {
		rawTarget = rawTarget[:i]
	}
	return uwsgiDecode(rawTarget), true
}

// The states of uWSGI's decoder.
const (
	atText = iota
	atPercent
	atHexDigit
	atSlash
	atDot
	atDotDot
)

// uwsgiDecode is http_url_decode, state for state. Slashes are written late:
// not when they are seen, but when it is known what follows them.
func uwsgiDecode(raw string) string {
	out := make([]byte, 0, len(raw)+1)
	state, rooted := atText, true
	if raw != "" && raw[0] != '/' {
		state, rooted = atSlash, false
	}
	var high byte
	// text takes a byte that ends a run of slashes and dots.
	text := func(c byte) {
		if c == '%' {
			state = atPercent
			return
		}
		out, state = append(out, c), atText
	}
	for i := 0; i < len(raw) && raw[i] != '#'; i++ {
		c := raw[i]
		switch state {
		case atText:
			if c == '/' {
				state = atSlash
			} else {
				text(c)
			}
		case atPercent:
			if c == '%' { // "%%" is one
				out, state = append(out, '%'), atText
			} else {
				high, state = c, atHexDigit
			}
		case atHexDigit:
			out, state = append(out, uwsgiHex(high, c)), atText
		case atSlash:
			if c == '.' {
				state = atDot
				continue
			}
			if i > 0 || rooted {
				out = append(out, '/')
			}
			if c != '/' {
				text(c)
			}
		case atDot:
			switch c {
			case '.':
				state = atDotDot
			case '/':
				state = atSlash
			default:
				if i > 1 {
					out = append(out, '/')
				}
				out = append(out, '.')
				text(c)
			}
		case atDotDot:
			if c == '/' {
				out, state = out[:max(0, lastSlash(out))], atSlash
				continue
			}
			if i > 2 {
				out = append(out, '/')
			}
			out = append(out, ".."...)
			text(c)
		}
	}
	switch state {
	case atSlash, atDot:
		out = append(out, '/')
	case atDotDot: // unlike in the middle, the slash before it stays
		out = out[:lastSlash(out)+1]
	}
	return string(out)
}

// lastSlash is the place of the last slash, or -1.
func lastSlash(text []byte) int {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '/' {
			return i
		}
	}
	return -1
}

// uwsgiHex is uWSGI's hex2num: what is no hexadecimal number is a NUL.
func uwsgiHex(high, low byte) byte {
	h, okHigh := hexDigit(high)
	l, okLow := hexDigit(low)
	if !okHigh || !okLow {
		return 0
	}
	return h<<4 | l
}

func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// pythonSpace holds what Python's str.split takes for white space among the
// characters of Latin-1.
const pythonSpace = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0"

// EventletPath tells which PATH_INFO eventlet makes of a raw request target,
// in the bytes of Latin-1. Python's http.server splits the request line at
// white space, which for it is more than a blank, so such bytes at either end
// vanish and between others make the request malformed (not ok); it merges
// slashes at the beginning, and only there. Then eventlet (wsgi.py,
// get_environ) cuts at the first ? and decodes once what is well-formed. A
// request line of 8,192 bytes is too long for it (not ok).
func EventletPath(rawTarget string) (pathInfo string, ok bool) {
	if len(rawTarget) >= maxEventletTarget || strings.ContainsAny(rawTarget, "\r\n") {
		return "", false
	}
	rawTarget = trimBytes(rawTarget, pythonSpace)
	if rawTarget == "" || indexByteOf(rawTarget, pythonSpace) >= 0 {
		return "", false
	}
	if strings.HasPrefix(rawTarget, "//") {
		rawTarget = "/" + strings.TrimLeft(rawTarget, "/")
	}
	rawTarget, _, _ = strings.Cut(rawTarget, "?")
	return unquote(rawTarget), true
}

// indexByteOf and trimBytes work on bytes, where those of package strings
// would take \x85 and \xa0 for broken UTF-8.
func indexByteOf(s, set string) int {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			return i
		}
	}
	return -1
}

func trimBytes(s, set string) string {
	for s != "" && strings.IndexByte(set, s[0]) >= 0 {
		s = s[1:]
	}
	for s != "" && strings.IndexByte(set, s[len(s)-1]) >= 0 {
		s = s[:len(s)-1]
	}
	return s
}

// unquote is Python's urllib.parse.unquote: what is no escape stays.
func unquote(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, okHigh := hexDigit(s[i+1])
			low, okLow := hexDigit(s[i+2])
			if okHigh && okLow {
				out = append(out, high<<4|low)
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// HealthPath is what NovaResource says of the health check, which answers
// before anything looks at who asks.
const HealthPath = "/healthcheck"

// NovaResource tells which resource Nova looks up for a PATH_INFO: two
// PATH_INFOs are the same resource exactly when it gives the same text. It
// follows the three that treat the path in turn:
//
//   - Paste's urlmap cuts off "http://host" and "https://host" (this, and no
//     server, is why absolute targets work) and merges slashes;
//   - WebOb decodes it as UTF-8, and the health check compares it;
//   - Nova (base.py, lookup) cleans it with posixpath.normpath and puts /ec2 in
//     front of all that is neither in /ec2 nor in /openstack.
//
// So the text is "/" (the versions, given to anybody), HealthPath, or begins
// with /ec2 or /openstack; "latest" is not resolved. It is empty where one of
// the three raises an exception and nothing is looked up: a path that does not
// begin with a slash, or is not UTF-8.
func NovaResource(pathInfo string) string {
	text, ok := applicationPath(pathInfo)
	if !ok {
		return ""
	}
	if text == HealthPath {
		return HealthPath
	}
	clean := path.Clean("/" + text)
	if clean == "/" {
		if text == "" { // of "http://host": not the handler's "/", but the tree's
			return "/ec2"
		}
		return "/"
	}
	switch first, _, _ := strings.Cut(clean[1:], "/"); first {
	case "ec2", "openstack":
		return clean
	}
	return "/ec2" + clean
}

// PasswordResource tells whether a resource that NovaResource gave is one that
// Nova's password handler serves.
func PasswordResource(resource string) bool {
	version, ok := strings.CutPrefix(resource, "/openstack/")
	if !ok {
		return false
	}
	version, ok = strings.CutSuffix(version, "/password")
	return ok && openstackVersion(version) >= grizzly
}

// applicationPath is the path as Nova's pipeline gets it from Paste and WebOb;
// it is not ok where they raise an exception.
func applicationPath(pathInfo string) (text string, ok bool) {
	if pathInfo != "" && pathInfo[0] != '/' {
		rest, isHTTP := strings.CutPrefix(pathInfo, "http://")
		if !isHTTP {
			if rest, ok = strings.CutPrefix(pathInfo, "https://"); !ok {
				return "", false
			}
		}
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			slash = len(rest)
		}
		pathInfo = rest[slash:]
	}
	var merged strings.Builder
	for i := range len(pathInfo) {
		if pathInfo[i] != '/' || i == 0 || pathInfo[i-1] != '/' {
			merged.WriteByte(pathInfo[i])
		}
	}
	return merged.String(), utf8.ValidString(merged.String())
}
