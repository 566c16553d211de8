// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"path"
	"strings"
	"testing"
)

// uwsgiPathInfo is what uWSGI 2.0.21 makes of a raw target: it cuts at ? and #,
// removes dot segments without merging slashes, then decodes once.
func uwsgiPathInfo(raw string) string {
	if i := strings.IndexAny(raw, "?# "); i >= 0 {
		raw = raw[:i]
	}
	var kept []string
	segments := strings.Split(raw, "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "..":
			if len(kept) > 1 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		case segment == "." && last:
			kept = append(kept, "")
		case segment != ".":
			kept = append(kept, segment)
		}
	}
	text := strings.Join(kept, "/")
	var decoded strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			decoded.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			break // an incomplete escape is dropped
		}
		b, ok := unescape(text[i:])
		if !ok {
			b = 0
		}
		decoded.WriteByte(b)
		i += 2
	}
	return decoded.String()
}

// eventletPathInfo is what eventlet makes of a raw target: it cuts at ? and
// decodes once what is well-formed. It takes a target apart at white space
// first, and cuts what stands at the end.
func eventletPathInfo(raw string) string {
	raw = strings.TrimRight(raw, "\t\v\f\x1c\x1d\x1e\x1f ")
	raw, _, _ = strings.Cut(raw, "?")
	var decoded strings.Builder
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b == '%' {
			if plain, ok := unescape(raw[i:]); ok {
				b, i = plain, i+2
			}
		}
		decoded.WriteByte(b)
	}
	return decoded.String()
}

// novaResource is what Nova looks up for a PATH_INFO: posixpath.normpath, then
// an exact look-up. An absolute target's host is cut off by Paste's urlmap.
func novaResource(pathInfo string) string {
	for _, scheme := range []string{"http://", "https://"} {
		if rest, ok := strings.CutPrefix(pathInfo, scheme); ok {
			if slash := strings.IndexByte(rest, '/'); slash >= 0 {
				pathInfo = rest[slash:]
			}
		}
	}
	if !strings.HasPrefix(pathInfo, "/") {
		return "" // an exception
	}
	return path.Clean(pathInfo)
}

// The models must say what the real servers said.
func TestModels(t *testing.T) {
	for _, row := range tableA(t) {
		for _, model := range []struct{ name, said, resource string }{
			{"uWSGI", row.uwsgi, novaResource(uwsgiPathInfo(row.target))},
			{"eventlet", row.eventlet, novaResource(eventletPathInfo(row.target))},
		} {
			if model.said == "400" || model.said == "-" {
				continue // a request line that is no question of the path
			}
			if strings.Contains(row.target, " ") {
				continue
			}
			if served := model.said == "PASSWORD"; served != passwordPaths[model.resource] {
				t.Errorf("%q: %s said %s, its model %s", row.target, model.name, model.said, model.resource)
			}
		}
	}
}

// checkModels holds a canonical request against the models: they must read the
// judged resource in what is forwarded, and, as a second belt, in what the
// client sent.
func checkModels(t interface {
	Helper()
	Errorf(format string, args ...any)
}, raw string, q *Request,
) {
	t.Helper()
	judged := "/" + strings.Join(q.Segments, "/")
	for name, resource := range map[string]string{
		"uWSGI, as forwarded":    novaResource(uwsgiPathInfo(target(q))),
		"eventlet, as forwarded": novaResource(eventletPathInfo(target(q))),
		"uWSGI, as sent":         novaResource(uwsgiPathInfo(raw)),
		"eventlet, as sent":      novaResource(eventletPathInfo(raw)),
	} {
		if resource != judged {
			t.Errorf("%q is judged as %q, but is %q for %s", raw, judged, resource, name)
		}
	}
}
