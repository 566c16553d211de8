// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestHost(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                     "",
		"169.254.169.254":                      "169.254.169.254",
		"169.254.169.254:80":                   "169.254.169.254",
		"169.254.169.254:":                     "169.254.169.254",
		"Metadata.Google.Internal":             "metadata.google.internal",
		"metadata.google.internal.":            "metadata.google.internal",
		"metadata.google.internal.:8080":       "metadata.google.internal",
		"nova_api:8775":                        "nova_api",
		"[fe80::A9FE:a9fe]":                    "fe80::a9fe:a9fe",
		"[fe80:0:0::a9fe:a9fe]:80":             "fe80::a9fe:a9fe",
		"[fe80::a9fe:a9fe%25eth0]:80":          "fe80::a9fe:a9fe",
		"[fe80::a9fe:a9fe%eth0]":               "fe80::a9fe:a9fe",
		"[::1]:65535":                          "::1",
		strings.Repeat("a", maxHost):           strings.Repeat("a", maxHost),
		strings.Repeat("a", maxHost+1):         "!",
		"fe80::a9fe:a9fe":                      "!",
		"[fe80::a9fe:a9fe":                     "!",
		"[fe80::a9fe:a9fe]80":                  "!",
		"[169.254.169.254]":                    "!",
		"[]":                                   "!",
		"[]:80":                                "!",
		"a:b":                                  "!",
		"a:80:80":                              "!",
		"a:123456":                             "!",
		":80":                                  "!",
		".":                                    "!",
		"..":                                   "!",
		"a..":                                  "!",
		"a..:80":                               "!",
		"a b":                                  "!",
		"a,b":                                  "!",
		"user@a":                               "!",
		"a/b":                                  "!",
		"a%00":                                 "!",
		"caf\u00e9":                            "!",
		"169.254.169.254\r\nX-Instance-Id: an": "!",
	} {
		r := request("/")
		r.Host = raw
		q, refusal := compile(t, Rules{}).Canonicalize(r)
		switch {
		case refusal != nil:
			if want != "!" || refusal.Code != "host_malformed" || refusal.Reason != decision.HostRefused {
				t.Errorf("%q: %v", raw, refusal)
			}
		case q.Host != want:
			t.Errorf("%q: got %q, want %q", raw, q.Host, want)
		}
	}
}

func TestRequireHost(t *testing.T) {
	c := compile(t, Rules{Hosts: []string{"169.254.169.254", "Metadata.Example:80", "fe80::A9FE:a9fe", "[::1]"}})
	for host, want := range map[string]string{
		"169.254.169.254":             "",
		"169.254.169.254:8080":        "",
		"METADATA.example.":           "",
		"[FE80::a9fe:a9fe%25eth0]:80": "",
		"[0:0::1]":                    "",
		"":                            "host_unknown",
		"evil.example":                "host_unknown",
		"169.254.169.254.evil":        "host_unknown",
		"2852039166":                  "host_unknown",
		"[::ffff:169.254.169.254]":    "host_unknown",
		"x.metadata.example":          "host_unknown",
		"metadata.example,evil":       "host_malformed",
	} {
		r := request("/")
		r.Host = host
		if got := code(c, r); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}
