// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http"
	"strings"
	"testing"
)

// bare is what costs the least: a clean path and no header that is forwarded.
func bare() *http.Request { return request("/openstack/latest/meta_data.json") }

// usual is a request of cloud-init's that came through Neutron's agent.
func usual() *http.Request {
	r := bare()
	r.Header = http.Header{
		"Accept":                  {"*/*"},
		"Accept-Encoding":         {"gzip, deflate"},
		"Connection":              {"keep-alive"},
		"User-Agent":              {"Cloud-Init/22.4.2"},
		"X-Forwarded-For":         {"10.0.0.5"},
		"X-Instance-Id":           {"5f1c8b2e-4a0e-4d5c-9a67-0a6f3a3f8a11"},
		"X-Instance-Id-Signature": {strings.Repeat("a", 64)},
		"X-Tenant-Id":             {"d6f0c2a7c5f34c1a8d0d9a5f1e2b3c4d"},
	}
	return r
}

func BenchmarkCanonicalize(b *testing.B) {
	full := nova
	full.Query = map[string][]string{"alt": nil, "recursive": nil}
	for name, test := range map[string]struct {
		rules Rules
		r     *http.Request
	}{
		"bare":    {nova, bare()},
		"usual":   {nova, usual()},
		"escapes": {nova, request("//openstack//latest/%70%61%73%73%77%6f%72%64")},
		"query":   {full, request("/computeMetadata/v1/instance/?recursive=true&alt=json")},
		"longest": {nova, request("/" + strings.Repeat("a", maxTarget-1))},
		"refused": {nova, request("/openstack//../latest/password")},
	} {
		b.Run(name, func(b *testing.B) {
			c := compile(b, test.rules)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Canonicalize(test.r)
			}
		})
	}
}

// The request itself is one allocation, and each of its two maps of headers is
// two.
func TestAllocations(t *testing.T) {
	c := compile(t, nova)
	for name, test := range map[string]struct {
		r    *http.Request
		most float64
	}{
		"bare":  {bare(), 1},
		"usual": {usual(), 5},
	} {
		if got := testing.AllocsPerRun(200, func() { _, _ = c.Canonicalize(test.r) }); got > test.most {
			t.Errorf("%s: %v allocations, at most %v", name, got, test.most)
		}
	}
}
