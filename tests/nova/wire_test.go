// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// hostile are headers that somebody may send to be taken for somebody else, to
// be read in two ways, or to get another answer. Each is sent beside a good
// request. A "refused" one ends the request, others must not matter.
var hostile = []struct {
	name    string
	lines   []string
	refused bool
}{
	{name: "nothing", lines: nil},
	{name: "forwarded host and scheme", lines: []string{"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /x"}},
	{name: "forwarded", lines: []string{"Forwarded: for=10.9.9.9;host=evil.example"}},
	{name: "a second X-Forwarded-For", lines: []string{"X-Forwarded-For: 10.9.9.9"}, refused: true},
	{name: "addresses", lines: []string{"X-Real-IP: 10.9.9.9", "Client-IP: 10.9.9.9", "True-Client-IP: 10.9.9.9", "X-Client-IP: 10.9.9.9"}},
	{name: "a provider", lines: []string{"X-Metadata-Provider: p"}, refused: true},
	{name: "a signed provider", lines: []string{"X-Metadata-Provider: p", "X-Metadata-Provider-Signature: " + signature('3')}, refused: true},
	{name: "a second instance", lines: []string{"X-Instance-ID: " + instanceID('3')}, refused: true},
	{name: "the same instance twice", lines: []string{"x-instance-id: " + instanceID(onTheWire)}, refused: true},
	{name: "a second tenant", lines: []string{"X-Tenant-ID: " + projectID('2')}, refused: true},
	{name: "a second signature", lines: []string{"X-Instance-ID-Signature: " + signature('3')}, refused: true},
	{name: "an instance with an underscore", lines: []string{"X_Instance_ID: " + instanceID('3')}},
	{name: "all with underscores", lines: []string{"X_Instance_ID: " + instanceID('3'), "X_Tenant_ID: " + projectID('3'), "X_Instance_ID_Signature: " + signature('3'), "X_Forwarded_For: 10.9.9.9", "X_Metadata_Provider: p"}},
	{name: "an instance with a dot", lines: []string{"X.Instance.ID: " + instanceID('3')}},
	{name: "an instance with a tilde", lines: []string{"X~Instance~ID: " + instanceID('3')}, refused: true},
	{name: "framing with underscores", lines: []string{"Transfer_Encoding: chunked", "Content_Length: 0"}},
	{name: "hop by hop", lines: []string{"Keep-Alive: timeout=5", "Proxy-Authorization: Basic eHh4eHh4eA==", "Proxy-Connection: keep-alive", "TE: gzip"}},
	{name: "trailers", lines: []string{"TE: trailers", "Trailer: X-Trailer"}},
	{name: "a connection that takes the signature", lines: []string{"Connection: X-Instance-ID-Signature"}, refused: true},
	{name: "a connection that takes the address", lines: []string{"Connection: close, X-Forwarded-For"}, refused: true},
	{name: "a connection that takes the agent", lines: []string{"Connection: User-Agent"}, refused: true},
	{name: "an upgrade", lines: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"}, refused: true},
	{name: "h2c", lines: []string{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"}, refused: true},
	{name: "early data", lines: []string{"Early-Data: 1"}, refused: true},
	{name: "a method override", lines: []string{"X-HTTP-Method-Override: POST"}, refused: true},
	{name: "another method override", lines: []string{"X-Method-Override: POST"}, refused: true},
	{name: "a third method override", lines: []string{"X-HTTP-Method: POST"}, refused: true},
	{name: "other targets", lines: []string{"X-Original-URL: /openstack/latest/password", "X-Rewrite-URL: /openstack/latest/password", "Destination: /x"}},
	{name: "credentials", lines: []string{"Authorization: Bearer eHh4eHh4eHh4", "Cookie: a=eHh4eHh4eHh4", "X-Auth-Token: eHh4eHh4eHh4", "X-aws-ec2-metadata-token: eHh4eHh4eHh4"}},
	{name: "parts and conditions", lines: []string{"Range: bytes=0-1", "If-None-Match: *", "If-Match: x", "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", "If-Range: x"}},
	{name: "encodings", lines: []string{"Accept-Encoding: gzip, br", "Accept-Language: de", "Accept-Charset: utf-16", "Content-Encoding: gzip"}},
	{name: "a retry", lines: []string{"Idempotency-Key: x", "X-Idempotency-Key: x"}},
	{name: "a proxy", lines: []string{"Via: 1.0 evil", "Max-Forwards: 0", "CDN-Loop: x"}},
	{name: "a router", lines: []string{"X-Neutron-Router-ID: x", "X-Neutron-Network-ID: x", "X-OVN-Network-ID: x"}},
	{name: "an expectation", lines: []string{"Expect: 100-continue"}},
	{name: "ours", lines: []string{"X-Metaguard-Decision: x", "Server: x", "Date: x"}},
	{name: "placeholders", lines: []string{"User-Agent: {env.METAGUARD_NEUTRON_SECRET} {http.vars.metaguard.id}", "Accept: {file./etc/hostname}"}},
	{name: "a huge agent", lines: []string{"User-Agent: " + strings.Repeat("x", 4000)}, refused: true},
	{name: "an agent that is no text", lines: []string{"User-Agent: \xff\xfe"}, refused: true},
}

// mayGoUpstream are all headers that ever may, with what is known of their
// values.
var mayGoUpstream = []string{
	"Host", "User-Agent", "Accept", "Content-Type", "Content-Length", "Accept-Encoding", "Connection",
	"X-Forwarded-For", "X-Instance-Id", "X-Tenant-Id", "X-Instance-Id-Signature", "Via",
}

// TestWhatGoesUpstream looks at the wire, whatever clients send: one
// Content-Length where there is a body, no other framing, the three signed
// headers, one X-Forwarded-For, Caddy's Via, and nothing of the client's but
// what is on the list.
func TestWhatGoesUpstream(t *testing.T) {
	t.Parallel()
	need(t)
	stub := harness.NewUpstream(t, func(string) string { return harness.OK("") })
	g := guardBefore(t, stub.Address, setup{password: "write_once off"})
	ways := []struct {
		name, method, target string
		send                 func(header []string) reply
		body                 string
	}{
		{name: "GET", method: "GET", target: "/openstack/latest/user_data", send: func(header []string) reply {
			return send(t, "", g.address, request("GET", "/openstack//latest/%75ser_data?", header, nil))
		}},
		{name: "HEAD", method: "GET", target: "/openstack/latest/user_data", send: func(header []string) reply {
			return send(t, "", g.address, request("HEAD", "/openstack/latest/user_data", header, nil))
		}},
		{name: "POST", method: "POST", target: "/openstack/latest/password", body: "of the wire", send: func(header []string) reply {
			return send(t, "", g.address, request("POST", "//openstack/latest/password", append(header, "Content-Type: text/x"), []byte("of the wire")))
		}},
		{name: "chunked POST", method: "POST", target: "/openstack/latest/password/", body: "of the wire", send: func(header []string) reply {
			return send(t, "", g.address, request("POST", "/openstack/latest/password//", append(header, "Transfer-Encoding: chunked"), nil), chunks("of the wire")...)
		}},
		{name: "chunked POST with a length", method: "POST", target: "/openstack/latest/password", body: "of the wire", send: func(header []string) reply {
			return send(t, "", g.address, request("POST", "/openstack/latest/password", append(header, "Transfer-Encoding: chunked", "Content-Length: 3"), nil), chunks("of the wire")...)
		}},
	}
	for _, way := range ways {
		for _, attack := range hostile {
			what := way.name + " with " + attack.name
			got := way.send(append(signed(onTheWire), attack.lines...))
			requests := g.upstream.take(t)
			if attack.refused {
				if got.status != 400 && got.status != 403 || len(requests) > 0 {
					t.Errorf("%s: %v, and upstream saw %q; want it refused", what, got, requests)
				}
				continue
			}
			if final := strings.TrimPrefix(string(got.raw), "HTTP/1.1 100 Continue\r\n\r\n"); !strings.HasPrefix(final, "HTTP/1.1 200 ") || len(requests) != 1 {
				t.Errorf("%s: %v, and upstream saw %q", what, got, requests)
				continue
			}
			for _, problem := range onWire(requests[0], way.method, way.target, way.body, stub.Address, g.upstream.address()) {
				t.Errorf("%s: %s: %q", what, problem, requests[0])
			}
		}
	}
	g.hide("of the wire", "eHh4eHh4e")
}

// onWire says what is wrong with a request as it went upstream.
func onWire(r sent, method, target, body string, hosts ...string) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.method != method || r.target != target || r.protocol != "HTTP/1.1" || r.body != body {
		complain("not %s %s with %q", method, target, body)
	}
	for _, f := range r.header {
		if !slices.ContainsFunc(mayGoUpstream, func(name string) bool { return strings.EqualFold(name, f.name) }) {
			complain("%s may not go upstream", f.name)
		}
		if len(r.values(f.name)) != 1 {
			complain("%s is there %d times", f.name, len(r.values(f.name)))
		}
	}
	exactly := func(name string, want ...string) {
		if got := r.values(name); !slices.Equal(got, want) {
			complain("%s is %q, want %q", name, got, want)
		}
	}
	exactly("X-Forwarded-For", address(onTheWire))
	exactly("X-Instance-ID", instanceID(onTheWire))
	exactly("X-Tenant-ID", projectID(onTheWire))
	exactly("X-Instance-ID-Signature", signature(onTheWire))
	exactly("Via", "1.1 Caddy")
	exactly("Accept-Encoding", "identity")
	if method == "POST" {
		exactly("Content-Length", fmt.Sprint(len(body)))
	} else {
		exactly("Content-Length")
		exactly("Content-Type")
	}
	if host := r.values("Host"); len(host) != 1 || !slices.Contains(hosts, host[0]) {
		complain("Host is %q", host)
	}
	return problems
}

// TestUnsignedGoesNowhere sends claims that cannot be verified. Nothing of them
// may reach the server, and no answer may tell what would be right.
func TestUnsignedGoesNowhere(t *testing.T) {
	t.Parallel()
	need(t)
	stub := harness.NewUpstream(t, func(string) string { return harness.OK("") })
	g := guardBefore(t, stub.Address, setup{})
	good := signed('2')
	for name, header := range map[string][]string{
		"nothing":                    nil,
		"no instance":                {good[0], good[2], good[3]},
		"no tenant":                  {good[0], good[1], good[3]},
		"no signature":               good[:3],
		"an empty signature":         append(slices.Clone(good[:3]), "X-Instance-ID-Signature:"),
		"a signature in capitals":    append(slices.Clone(good[:3]), "X-Instance-ID-Signature: "+strings.ToUpper(signature('2'))),
		"another's signature":        append(slices.Clone(good[:3]), "X-Instance-ID-Signature: "+signature('3')),
		"half a signature":           append(slices.Clone(good[:3]), "X-Instance-ID-Signature: "+signature('2')[:32]),
		"a longer signature":         append(slices.Clone(good[:3]), "X-Instance-ID-Signature: "+signature('2')+"0"),
		"a signature in other bytes": append(slices.Clone(good[:3]), "X-Instance-ID-Signature: \xc3\xa9"),
		"a provider only":            {"X-Metadata-Provider: " + instanceID('2'), "X-Metadata-Provider-Signature: " + signature('2')},
		"two addresses":              {"X-Forwarded-For: 10.0.0.1, 10.0.0.2", good[1], good[2], good[3]},
		"no address at all":          {"X-Forwarded-For: <b>", good[1], good[2], good[3]},
	} {
		for _, method := range []string{"GET", "POST"} {
			var body []byte
			if method == "POST" {
				body = []byte("unsigned body")
			}
			got := send(t, "", g.address, request(method, "/openstack/latest/password", header, body))
			if (got.status != 403 && got.status != 400) || strings.Contains(string(got.raw), signature('2')) {
				t.Errorf("%s with %s: %v", method, name, got)
			}
		}
	}
	for _, forwarded := range g.upstream.take(t) {
		t.Errorf("went upstream: %q", forwarded)
	}
	g.hide("unsigned body")
}
