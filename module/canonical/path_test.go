// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// What is no segment in any path is none, whatever bytes a dialect adds.
func TestIsSegment(t *testing.T) {
	c, err := Rules{ExtraPathBytes: ":"}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"a": true, "...": true, "a:b": true, "AZaz09._~-": true,
		"": false, ".": false, "..": false, "a/b": false, "/": false, "a b": false, "a%2Fb": false, "a,b": false, "\xff": false, "a\x00": false,
	} {
		if got := c.IsSegment(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestPath(t *testing.T) {
	long := "/" + strings.Repeat("a", maxTarget-1)
	for name, test := range map[string]struct {
		extra    string
		target   string
		path     string
		segments []string
		trailing bool
		code     string
	}{
		"root":                   {target: "/", path: "/"},
		"many slashes":           {target: "////", path: "/"},
		"plain":                  {target: "/openstack/latest/meta_data.json", path: "/openstack/latest/meta_data.json", segments: []string{"openstack", "latest", "meta_data.json"}},
		"trailing slash":         {target: "/latest/meta-data/", path: "/latest/meta-data/", segments: []string{"latest", "meta-data"}, trailing: true},
		"trailing slashes":       {target: "/latest/meta-data///", path: "/latest/meta-data/", segments: []string{"latest", "meta-data"}, trailing: true},
		"repeated slashes":       {target: "//openstack///latest", path: "/openstack/latest", segments: []string{"openstack", "latest"}},
		"escapes":                {target: "/%6fpen%73tac%6B/%6C", path: "/openstack/l", segments: []string{"openstack", "l"}},
		"every unreserved byte":  {target: "/AZaz09._~-", path: "/AZaz09._~-", segments: []string{"AZaz09._~-"}},
		"escaped unreserved":     {target: "/%41%5A%61%7a%30%39%2E%5f%7E%2d", path: "/AZaz09._~-", segments: []string{"AZaz09._~-"}},
		"dots in names":          {target: "/...//.x/x./..x", path: "/.../.x/x./..x", segments: []string{"...", ".x", "x.", "..x"}},
		"longest":                {target: long, path: long, segments: []string{long[1:]}},
		"more than room":         {target: "/1/2/3/4/5/6/7/8/9/10", path: "/1/2/3/4/5/6/7/8/9/10", segments: []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}},
		"extra bytes":            {extra: ":=+,@", target: "/a:b=c+d,e@f", path: "/a:b=c+d,e@f", segments: []string{"a:b=c+d,e@f"}},
		"extra bytes escaped":    {extra: ":=+,@", target: "/%3a%3D%2b%2c%40", path: "/:=+,@", segments: []string{":=+,@"}},
		"bare question mark":     {target: "/a?", path: "/a", segments: []string{"a"}},
		"too long":               {target: long + "a", code: "path_too_long"},
		"too long by its query":  {target: "/?" + strings.Repeat("a", maxTarget), code: "path_too_long"},
		"no target":              {target: "", code: "path_not_origin_form"},
		"asterisk":               {target: "*", code: "path_not_origin_form"},
		"absolute":               {target: "http://169.254.169.254/latest", code: "path_not_origin_form"},
		"authority":              {target: "169.254.169.254:80", code: "path_not_origin_form"},
		"relative":               {target: "latest/meta-data", code: "path_not_origin_form"},
		"query only":             {target: "?a", code: "path_not_origin_form"},
		"bare percent":           {target: "/a%", code: "path_bad_escape"},
		"half an escape":         {target: "/a%2", code: "path_bad_escape"},
		"escape cut by query":    {target: "/a%2?5", code: "path_bad_escape"},
		"no hexadecimal digits":  {target: "/a%zz", code: "path_bad_escape"},
		"one hexadecimal digit":  {target: "/a%6g", code: "path_bad_escape"},
		"Microsoft's escape":     {target: "/%u0070", code: "path_bad_escape"},
		"signed escape":          {target: "/%+1a", code: "path_bad_escape"},
		"encoded slash":          {target: "/a%2fb", code: "path_encoded_slash"},
		"encoded slash, capital": {target: "/a%2F", code: "path_encoded_slash"},
		"dot":                    {target: "/a/./b", code: "path_dot_segment"},
		"dot at the end":         {target: "/a/.", code: "path_dot_segment"},
		"dot dot":                {target: "/a/../b", code: "path_dot_segment"},
		"dot dot at the end":     {target: "/a/..", code: "path_dot_segment"},
		"dot dot at the start":   {target: "/../a", code: "path_dot_segment"},
		"dot dot after slashes":  {target: "/openstack//../latest/password", code: "path_dot_segment"},
		"encoded dot":            {target: "/a/%2e/b", code: "path_dot_segment"},
		"encoded dot dot":        {target: "/a/%2e%2E/b", code: "path_dot_segment"},
		"half encoded dot dot":   {target: "/a/.%2e/b", code: "path_dot_segment"},
		"fragment":               {target: "/a#b", code: "path_fragment"},
		"encoded fragment":       {target: "/a%23b", code: "path_fragment"},
		"parameter":              {target: "/a;b", code: "path_parameter"},
		"encoded parameter":      {target: "/a%3Bb", code: "path_parameter"},
		"backslash":              {target: `/a\b`, code: "path_backslash"},
		"encoded backslash":      {target: "/..%5ca", code: "path_backslash"},
		"NUL":                    {target: "/a\x00b", code: "path_control"},
		"encoded NUL":            {target: "/a%00b", code: "path_control"},
		"line break":             {target: "/a%0d%0ab", code: "path_control"},
		"tab":                    {target: "/a\t", code: "path_control"},
		"DEL":                    {target: "/a%7f", code: "path_control"},
		"not ASCII":              {target: "/a\xff", code: "path_non_ascii"},
		"overlong":               {target: "/%c0%ae", code: "path_non_ascii"},
		"wide letter":            {target: "/%ef%bd%90", code: "path_non_ascii"},
		"blank":                  {target: "/a%20b", code: "path_byte"},
		"encoded percent":        {target: "/%2570", code: "path_byte"},
		"encoded question mark":  {target: "/a%3fb", code: "path_byte"},
		"colon without a rule":   {target: "/a:b", code: "path_byte"},
		"plus without a rule":    {target: "/a+b", code: "path_byte"},
		"braces":                 {target: "/{env.HOME}", code: "path_byte"},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, Rules{ExtraPathBytes: test.extra})
			q, refusal := c.Canonicalize(request(test.target))
			if test.code != "" {
				if refusal == nil {
					t.Fatalf("got %s, want %s", q.Path, test.code)
				}
				if refusal.Code != test.code || refusal.Reason != decision.RequestAmbiguous || q != nil {
					t.Fatalf("got %v, want %s", refusal, test.code)
				}
				return
			}
			if refusal != nil {
				t.Fatal(refusal)
			}
			if q.Path != test.path || !slices.Equal(q.Segments, test.segments) || q.TrailingSlash != test.trailing {
				t.Errorf("got %q %q %v, want %q %q %v", q.Path, q.Segments, q.TrailingSlash, test.path, test.segments, test.trailing)
			}
		})
	}
}

// Go's transport must write the judged path byte for byte, whatever bytes a
// dialect may allow.
func TestPathIsForwardedAsItIs(t *testing.T) {
	c := compile(t, Rules{ExtraPathBytes: extraPathBytes})
	for b := range 256 {
		path := "/x" + string([]byte{byte(b)}) + "y"
		if c.pathBytes[b] != fine || b == '/' {
			continue
		}
		if got := (&url.URL{Path: path}).RequestURI(); got != path {
			t.Errorf("%q would be sent as %q", path, got)
		}
	}
}

// A rewrite ahead of Metaguard changes both copies of the target, as Caddy's
// rewrite does; then the rewritten one is judged. A handler that changes one of
// them leaves two readings.
func TestRewrites(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*url.URL)
		both   bool
		path   string
		code   string
	}{
		"nothing":                  {change: func(*url.URL) {}, path: "/md/latest"},
		"both":                     {change: func(u *url.URL) { u.Path = "/latest" }, both: true, path: "/latest"},
		"both, with an escape":     {change: func(u *url.URL) { u.Path = "/a b" }, both: true, code: "path_byte"},
		"both, to nothing":         {change: func(u *url.URL) { u.Path = "" }, both: true, path: "/"},
		"both, not absolute":       {change: func(u *url.URL) { u.Path = "latest" }, both: true, code: "path_not_origin_form"},
		"both, with a query":       {change: func(u *url.URL) { u.RawQuery = "a=1" }, both: true, code: "query_unexpected"},
		"path of the URL":          {change: func(u *url.URL) { u.Path = "/openstack/latest/password" }, code: "target_mismatch"},
		"slashes of the URL":       {change: func(u *url.URL) { u.Path = "/md//latest" }, code: "target_mismatch"},
		"query of the URL":         {change: func(u *url.URL) { u.RawQuery = "a=1" }, code: "target_mismatch"},
		"opaque":                   {change: func(u *url.URL) { u.Opaque = "//x/y" }, code: "target_mismatch"},
		"host, which is not used":  {change: func(u *url.URL) { u.Scheme, u.Host = "http", "x" }, path: "/md/latest"},
		"fragment, which vanishes": {change: func(u *url.URL) { u.Fragment = "x" }, both: true, path: "/md/latest"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("/md/latest")
			test.change(r.URL)
			if test.both {
				r.RequestURI = r.URL.RequestURI()
			}
			q, refusal := compile(t, Rules{}).Canonicalize(r)
			switch {
			case refusal != nil:
				if refusal.Code != test.code {
					t.Errorf("got %v, want %q", refusal, test.code)
				}
			case q.Path != test.path:
				t.Errorf("got %s, want %s%s", q.Path, test.path, test.code)
			}
		})
	}
	r := request("/")
	r.URL = nil
	if got := code(compile(t, Rules{}), r); got != "target_mismatch" {
		t.Errorf("without a URL: %s", got)
	}
}
