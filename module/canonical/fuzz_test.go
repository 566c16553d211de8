// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bufio"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wide are rules under which as much as possible is taken.
var wide = Rules{
	ExtraPathBytes: extraPathBytes,
	Query:          map[string][]string{"alt": nil, "recursive": nil, "api-version": nil},
	Identity:       nova.Identity,
	Headers:        []string{"Metadata"},
	Forward:        []string{"X-Request-Id", "X-Auth-Token"},
}

type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// checkCanonical asserts what must hold of whatever goes upstream.
func checkCanonical(t reporter, c *Canonicalizer, raw string, q *Request) {
	t.Helper()
	sent := target(q)
	if !strings.HasPrefix(q.Path, "/") || strings.Contains(q.Path, "//") || len(sent) > maxTarget {
		t.Errorf("%q became %q", raw, sent)
	}
	for i := range len(q.Path) {
		if b := q.Path[i]; b != '/' && !isUnreserved(b) && strings.IndexByte(extraPathBytes, b) < 0 {
			t.Errorf("%q became %q with the byte %q", raw, q.Path, b)
		}
	}
	for _, segment := range q.Segments {
		if segment == "" || segment == "." || segment == ".." {
			t.Errorf("%q has the segment %q", raw, segment)
		}
	}
	path := "/" + strings.Join(q.Segments, "/")
	if q.TrailingSlash {
		path += "/"
	}
	if q.Path != path {
		t.Errorf("%q is the path %q and the segments %q", raw, q.Path, q.Segments)
	}
	if uri := (&url.URL{Path: q.Path, RawQuery: q.RawQuery}).RequestURI(); uri != sent {
		t.Errorf("%q became %q, but %q would be sent", raw, sent, uri)
	}
	again, refusal := c.Canonicalize(request(sent))
	if refusal != nil {
		t.Fatalf("%q became %q, which is refused: %v", raw, sent, refusal)
	}
	if again.Path != q.Path || again.RawQuery != q.RawQuery || !reflect.DeepEqual(again.Segments, q.Segments) ||
		!reflect.DeepEqual(again.Query, q.Query) || again.TrailingSlash != q.TrailingSlash {
		t.Errorf("%q became %q, which became %q", raw, sent, target(again))
	}
	checkModels(t, raw, q)
}

func FuzzCanonicalize(f *testing.F) {
	for _, row := range tableA(f) {
		f.Add(row.target)
	}
	for _, target := range []string{
		"/", "//", "/latest/meta-data/", "/a:b=c+d,e@f", "/x?alt=json&recursive=true", "/x?alt=a+b%20c%2b", "/x?alt=%26%3d",
		"/latest/user-data?", "/a?alt", "/$&+,:=@", "/%2e%2E", "/x?%61lt=1",
	} {
		f.Add(target)
	}
	strict, loose := compile(f, nova), compile(f, wide)
	f.Fuzz(func(t *testing.T, raw string) {
		for _, c := range []*Canonicalizer{strict, loose} {
			q, refusal := c.Canonicalize(request(raw))
			if refusal == nil {
				checkCanonical(t, c, raw, q)
			}
		}
	})
}

// Everything, from the request line to the last header, as Go's parser reads it.
func FuzzRequest(f *testing.F) {
	for _, raw := range []string{
		"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nAccept: a\r\nUser-Agent: x\r\n\r\n",
		"POST //openstack/2013-04-04/password HTTP/1.1\r\nHost: [::1]:80\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\na",
		"GET /x?alt=json HTTP/1.0\r\nX_Instance_ID: a\r\nConnection: close, X-A\r\n\r\n",
		"PUT /a:b HTTP/1.1\r\nHost: H.\r\nTransfer-Encoding: chunked\r\nTrailer: X-Tenant-ID\r\nMetadata: true\r\nX-Auth-Token: t\r\n\r\n0\r\n\r\n",
		"CONNECT h:80 HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\nX-Forwarded-For: a\r\nx-forwarded-for: b\r\n\r\n",
	} {
		f.Add(raw)
	}
	c := compile(f, wide)
	allowed := map[string]bool{
		"Accept": true, "User-Agent": true, "Content-Type": true, "Metadata": true, "X-Request-Id": true, "X-Auth-Token": true,
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		q, refusal := c.Canonicalize(r)
		if refusal != nil {
			if q != nil || refusal.Code == "" || !refusal.Reason.Valid() {
				t.Fatalf("%q: %v %v", raw, q, refusal)
			}
			return
		}
		checkCanonical(t, c, r.RequestURI, q)
		for name, values := range q.Header {
			if !allowed[name] || len(values) != 1 || values[0] == "" || checkValue(values[0], maxOwnValue) != fine {
				t.Errorf("forwards %s: %q", name, values)
			}
			lower := strings.ToLower(name)
			if shown, ok := q.PolicyHeaders[lower]; ok == (name == "X-Auth-Token") || (ok && shown != values[0]) {
				t.Errorf("shows %s: %q", lower, shown)
			}
		}
		if len(q.PolicyHeaders) > len(q.Header) {
			t.Errorf("shows %v, forwards %v", q.PolicyHeaders, q.Header)
		}
		for _, name := range wide.Identity {
			if len(r.Header.Values(name)) > 1 {
				t.Errorf("%s stands there twice", name)
			}
		}
		if again, ok := splitHost(q.Host); q.Host != "" && !strings.Contains(q.Host, ":") && (!ok || again != q.Host) {
			t.Errorf("host %q became %q", r.Host, q.Host)
		}
	})
}

// However a client spells a canonical path, with escapes of unreserved bytes
// and repeated slashes, it is read as that path.
func TestSpellings(t *testing.T) {
	c := compile(t, wide)
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.StringMatching(`[A-Za-z0-9._~$&+,:=@-]{1,8}`).Filter(func(s string) bool { return s != "." && s != ".." })
		path := "/" + strings.Join(rapid.SliceOfN(segment, 1, 10).Draw(t, "segments"), "/")
		if rapid.Bool().Draw(t, "trailing slash") {
			path += "/"
		}
		var raw strings.Builder
		for i := range len(path) {
			b := path[i]
			switch {
			case b == '/':
				raw.WriteString(strings.Repeat("/", rapid.IntRange(1, 3).Draw(t, "slashes")))
			case rapid.IntRange(0, 3).Draw(t, "escape") == 0:
				escaped := string(appendHex(nil, b))
				if rapid.Bool().Draw(t, "lower") {
					escaped = strings.ToLower(escaped)
				}
				raw.WriteString(escaped)
			default:
				raw.WriteByte(b)
			}
		}
		q, refusal := c.Canonicalize(request(raw.String()))
		if refusal != nil {
			t.Fatalf("%q: %v", raw.String(), refusal)
		}
		if q.Path != path {
			t.Fatalf("%q became %q, want %q", raw.String(), q.Path, path)
		}
		checkCanonical(t, c, raw.String(), q)
	})
}

func appendHex(text []byte, b byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(text, '%', digits[b>>4], digits[b&15])
}

// Pieces that path tricks are made of, in any order: what is taken at all is
// what the servers read.
func TestTricks(t *testing.T) {
	pieces := []string{
		"/", "//", "/", "openstack", "latest", "password", "meta_data.json", "x", ".", "..", "...", "%2e", "%2E%2e", "%2f", "%5c", `\`,
		"%70assword", "pass%77ord", "%25", "%", "%2", "%zz", "?", "#", ";", ";x=1", "%00", "%0a", " ", "\t", "%20", "%c0%af", "\xff", "http://h", "*", ":", "@",
	}
	strict, loose := compile(t, nova), compile(t, wide)
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		raw := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "pieces"), "")
		for _, c := range []*Canonicalizer{strict, loose} {
			if q, refusal := c.Canonicalize(request(raw)); refusal == nil {
				taken++
				checkCanonical(t, c, raw, q)
			}
		}
	})
	if taken == 0 {
		t.Error("nothing was taken, so nothing was checked")
	}
}

// A query of known names with any printable values is forwarded with the same
// meaning.
func TestQueries(t *testing.T) {
	c := compile(t, wide)
	rapid.Check(t, func(t *rapid.T) {
		want := url.Values{}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(wide.Query))), func(s string) string { return s }).Draw(t, "names") {
			want.Set(name, rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "value"))
		}
		raw := "/x"
		if len(want) > 0 {
			raw += "?" + want.Encode()
		}
		q, refusal := c.Canonicalize(request(raw))
		if refusal != nil {
			t.Fatalf("%s: %v", raw, refusal)
		}
		if len(want) != len(q.Query) || (len(want) > 0 && !reflect.DeepEqual(q.Query, want)) {
			t.Fatalf("%s became %v, want %v", raw, q.Query, want)
		}
		checkCanonical(t, c, raw, q)
	})
}
