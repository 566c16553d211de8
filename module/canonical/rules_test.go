// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http"
	"strings"
	"testing"
)

func TestCompileRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		rules Rules
		want  string
	}{
		"percent in paths":           {Rules{ExtraPathBytes: "%"}, "extra path byte '%'"},
		"question mark in paths":     {Rules{ExtraPathBytes: ":?"}, "extra path byte '?'"},
		"fragment in paths":          {Rules{ExtraPathBytes: "#"}, "extra path byte"},
		"semicolon in paths":         {Rules{ExtraPathBytes: ";"}, "extra path byte"},
		"backslash in paths":         {Rules{ExtraPathBytes: `\`}, "extra path byte"},
		"blank in paths":             {Rules{ExtraPathBytes: " "}, "extra path byte"},
		"what Go escapes in paths":   {Rules{ExtraPathBytes: "!"}, "extra path byte"},
		"not ASCII in paths":         {Rules{ExtraPathBytes: "é"}, "extra path byte"},
		"empty query name":           {Rules{Query: map[string][]string{"": nil}}, `query name ""`},
		"query name with a sign":     {Rules{Query: map[string][]string{"a=b": nil}}, `query name "a=b"`},
		"query name, not ASCII":      {Rules{Query: map[string][]string{"š": nil}}, "query name"},
		"empty identity header":      {Rules{Identity: []string{""}}, "identity header name is empty"},
		"identity with underscores":  {Rules{Identity: []string{"X_ID"}}, "identity header X_ID: with '_' in its name"},
		"dialect's framing header":   {Rules{Headers: []string{"Trailer"}}, "dialect's header Trailer: it says how the body"},
		"operator's identity header": {Rules{Forward: []string{"authorization"}, Identity: []string{"Authorization"}}, "forward_headers: header authorization: this site finds out from it who calls"},
		"operator's written header":  {Rules{Forward: []string{"via"}}, "forward_headers: header via: Metaguard or its transport writes it"},
		"empty host":                 {Rules{Hosts: []string{""}}, "require_host: a host is empty"},
		"host with a path":           {Rules{Hosts: []string{"http://h"}}, `require_host: "http://h" is neither`},
		"host with a pattern":        {Rules{Hosts: []string{"*.example"}}, `require_host: "*.example" is neither`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := test.rules.Compile()
			if err == nil {
				t.Fatal("compiles")
			}
			if c != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q", err, test.want)
			}
		})
	}
}

// Rules are built once and may be shared; compiling must not keep them.
func TestCompileCopies(t *testing.T) {
	rules := Rules{
		Query: map[string][]string{"a": {"1"}}, Headers: []string{"X-A"}, Forward: []string{"X-B"}, Identity: []string{"X-C"}, Hosts: []string{"h"},
	}
	c := compile(t, rules)
	for _, list := range [][]string{rules.Query["a"], rules.Headers, rules.Forward, rules.Identity, rules.Hosts} {
		list[0] = "changed"
	}
	r := request("/?a=1")
	r.Host = "h"
	r.Header = http.Header{"X-A": {"1"}, "X-B": {"2"}, "Changed": {"3"}, "X_c": nil}
	q, refusal := c.Canonicalize(r)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if len(q.Header) != 2 {
		t.Errorf("forwards %v", q.Header)
	}
}

func TestCheckForwardHeader(t *testing.T) {
	for _, name := range []string{
		"Accept", "accept-language", "Content-Type", "X-Request-ID", "Traceparent", "Metadata", "Metadata-Flavor",
		"X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "X-Auth-Token", "Authorization", "Cookie",
		"Cache-Control", "Iffy", "X-Instance", "Content-Language", "Hosts", "X-Tenant", strings.Repeat("a", maxHeaderName),
	} {
		if err := CheckForwardHeader(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"Forwarded":                          tellsCaller,
		"X-Forwarded-For":                    tellsCaller,
		"x-forwarded-proto":                  tellsCaller,
		"X-Forwarded-Host":                   tellsCaller,
		"X-Forwarded":                        tellsCaller,
		"X-Instance-ID":                      tellsCaller,
		"x-instance-id-signature":            tellsCaller,
		"X-Tenant-ID":                        tellsCaller,
		"X-Metadata-Provider":                tellsCaller,
		"X-Metadata-Provider-Signature":      tellsCaller,
		"X-Neutron-Router-ID":                tellsCaller,
		"X-OVN-Network-ID":                   tellsCaller,
		"X-Real-IP":                          tellsCaller,
		"REMOTE-USER":                        tellsCaller,
		"Host":                               isWritten,
		"Via":                                isWritten,
		"X-Metaguard-Decision":               isWritten,
		"Accept-Encoding":                    isWritten,
		"Connection":                         isHopByHop,
		"Keep-Alive":                         isHopByHop,
		"Proxy-Connection":                   isHopByHop,
		"Proxy-Authorization":                isHopByHop,
		"TE":                                 isHopByHop,
		"Upgrade":                            isHopByHop,
		"HTTP2-Settings":                     isHopByHop,
		"Early-Data":                         isHopByHop,
		"Content-Length":                     framesMessage,
		"content-encoding":                   framesMessage,
		"Transfer-Encoding":                  framesMessage,
		"Trailer":                            framesMessage,
		"Expect":                             framesMessage,
		"X-HTTP-Method-Override":             changesTarget,
		"X-HTTP-Method":                      changesTarget,
		"X-Method-Override":                  changesTarget,
		"X-Original-URL":                     changesTarget,
		"X-Rewrite-URL":                      changesTarget,
		"X-Script-Name":                      changesTarget,
		"Idempotency-Key":                    repeats,
		"X-Idempotency-Key":                  repeats,
		"Range":                              asksPart,
		"If-None-Match":                      asksPart,
		"if-modified-since":                  asksPart,
		"":                                   "header name is empty",
		"X_Instance_ID":                      "servers take it for the one with a hyphen",
		"X.Custom":                           "servers take it for the one with a hyphen",
		"X Custom":                           "only letters, digits and hyphens",
		"X-Custom:":                          "only letters, digits and hyphens",
		"X-Custom\n":                         "only letters, digits and hyphens",
		"X-*":                                "only letters, digits and hyphens",
		"+X-Custom":                          "only letters, digits and hyphens",
		"Caf\u00e9":                          "only letters, digits and hyphens",
		strings.Repeat("a", maxHeaderName+1): "header name of 129 bytes",
	} {
		if err := CheckForwardHeader(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	for _, never := range neverForwarded {
		name := strings.TrimSuffix(never.name, "*")
		if canonical := http.CanonicalHeaderKey(name); canonical != name {
			t.Errorf("%s is listed, but would be looked up as %s", name, canonical)
		}
	}
	for name := range commonRules() {
		if http.CanonicalHeaderKey(name) != name {
			t.Errorf("%s would never be found", name)
		}
		if CheckForwardHeader(name) == nil {
			t.Errorf("%s is refused in requests, but may be forwarded", name)
		}
	}
}
