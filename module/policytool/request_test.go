// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/metaguard/metaguard/module/canonical"
)

// A path that eval takes is one that a server judges, and in the same segments.
func TestSplitPathReadsAsAServerDoes(t *testing.T) {
	canonicalizer, err := canonical.Rules{}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/", "/openstack", "/openstack/", "/openstack/latest/password", "//openstack//latest", "/a_b~c.d-e/",
		"/./openstack", "/openstack/..", "/openstack/../latest", "/...", "/.well-known", "/a;b", "/a:b", "/a b", "/ä", "/a\\b", "/a#b", "/\x01",
	} {
		r := &http.Request{
			Method: http.MethodGet, RequestURI: path, URL: &url.URL{Path: path}, Host: "169.254.169.254",
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		}
		request, refusal := canonicalizer.Canonicalize(r)
		segments, err := splitPath(path, "")
		switch {
		case (refusal == nil) != (err == nil):
			t.Errorf("%q: a server says %v, eval says %v", path, refusal, err)
		case err == nil && !slices.Equal(segments, request.Segments):
			t.Errorf("%q: a server reads %q, eval reads %q", path, request.Segments, segments)
		}
	}
}
