// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// The raw heads go through Go's own parser, as on a connection.
func TestHeadersRefused(t *testing.T) {
	for name, test := range map[string]struct {
		head string
		code string // empty: goes on
	}{
		"nothing":                   {},
		"usual":                     {head: "User-Agent: Cloud-Init/22.4.2\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive\n"},
		"upgrade":                   {head: "Upgrade: websocket\n", code: "header_upgrade"},
		"upgrade to h2c":            {head: "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\n", code: "header_upgrade"},
		"upgrade in Connection":     {head: "Connection: keep-alive,\tUPGRADE\n", code: "header_upgrade"},
		"HTTP2-Settings":            {head: "HTTP2-Settings: AAMAAABk\n", code: "header_upgrade"},
		"override":                  {head: "X-HTTP-Method-Override: POST\n", code: "header_method_override"},
		"override, short":           {head: "X-HTTP-Method: POST\n", code: "header_method_override"},
		"override, other":           {head: "x-method-override: POST\n", code: "header_method_override"},
		"early data":                {head: "Early-Data: 1\n", code: "header_early_data"},
		"identity":                  {head: "X-Instance-ID: a\nX-Tenant-ID: b\nX-Instance-ID-Signature: c\nX-Forwarded-For: 10.0.0.1\n"},
		"identity doubled":          {head: "X-Instance-ID: a\nX-Instance-ID: a\n", code: "header_identity_doubled"},
		"identity doubled by case":  {head: "X-Instance-ID: a\nx-instance-id: b\n", code: "header_identity_doubled"},
		"address doubled":           {head: "X-Forwarded-For: 10.0.0.1\nX-Forwarded-For: 10.0.0.2\n", code: "header_identity_doubled"},
		"identity, underscores":     {head: "X_Instance_ID: a\n", code: "header_identity_alias"},
		"identity, one underscore":  {head: "X-Instance_ID: a\n", code: "header_identity_alias"},
		"identity, capitals":        {head: "X_INSTANCE_ID_SIGNATURE: a\n", code: "header_identity_alias"},
		"identity, dots":            {head: "X.Tenant.ID: a\n", code: "header_identity_alias"},
		"identity, apostrophe":      {head: "X'Tenant'ID: a\n", code: "header_identity_alias"},
		"other underscore":          {head: "Transfer_Encoding: chunked\nContent_Length: 5\n"},
		"long other underscore":     {head: strings.Repeat("x_", maxHeaderName) + ": a\n"},
		"identity in Connection":    {head: "X-Instance-ID: a\nConnection: X-Instance-ID\n", code: "header_connection"},
		"address in Connection":     {head: "Connection: close, x-forwarded-for\n", code: "header_connection"},
		"forwarded in Connection":   {head: "Connection: Content-Type\n", code: "header_connection"},
		"unknown in Connection":     {head: "Connection: X-Whatever\n", code: "header_connection"},
		"framing in Connection":     {head: "Connection: Content-Length\n", code: "header_connection"},
		"Connection, allowed":       {head: "Connection: close, TE, keep-alive,, \nConnection:\n"},
		"Connection, second line":   {head: "Connection: close\nConnection: Host\n", code: "header_connection"},
		"identity in a trailer":     {head: "Transfer-Encoding: chunked\nTrailer: X-Instance-ID\n", code: "header_identity_trailer"},
		"underscores in a trailer":  {head: "Transfer-Encoding: chunked\nTrailer: a, x_tenant_id\n", code: "header_identity_trailer"},
		"other trailer":             {head: "Transfer-Encoding: chunked\nTrailer: X-Checksum\n"},
		"content type doubled":      {head: "Content-Type: text/plain\nContent-Type: text/html\n", code: "header_doubled"},
		"user agent doubled":        {head: "User-Agent: a\nUser-Agent: a\n", code: "header_doubled"},
		"own header doubled":        {head: "Metadata: true\nMetadata: false\n", code: "header_doubled"},
		"other header doubled":      {head: "X-Other: a\nX-Other: b\n"},
		"not ASCII":                 {head: "User-Agent: caf\xc3\xa9\n", code: "header_value"},
		"tab within":                {head: "User-Agent: a\tb\n"},
		"longest":                   {head: "User-Agent: " + strings.Repeat("a", maxCommonValue) + "\n"},
		"too long":                  {head: "User-Agent: " + strings.Repeat("a", maxCommonValue+1) + "\n", code: "header_too_long"},
		"longest own":               {head: "Metadata: " + strings.Repeat("a", maxOwnValue) + "\n"},
		"too long, own":             {head: "Metadata: " + strings.Repeat("a", maxOwnValue+1) + "\n", code: "header_too_long"},
		"too long, not forwarded":   {head: "X-Other: " + strings.Repeat("a", maxOwnValue+1) + "\n"},
		"first of several problems": {head: "Connection: X-A\nX_Instance_ID: a\nX-Tenant-ID: a\nX-Tenant-ID: b\nEarly-Data: 1\nX-HTTP-Method: PUT\n", code: "header_early_data"},
	} {
		t.Run(name, func(t *testing.T) {
			rules := nova
			rules.Headers = []string{"Metadata"}
			c := compile(t, rules)
			head := strings.ReplaceAll(test.head, "\n", "\r\n")
			for range 8 { // whatever order a map has
				q, refusal := c.Canonicalize(read(t, "POST /x HTTP/1.1\r\nHost: h\r\n"+head+"\r\n"))
				if test.code == "" {
					if refusal != nil {
						t.Fatal(refusal)
					}
					continue
				}
				if refusal == nil {
					t.Fatalf("goes on with %v", q.Header)
				}
				if refusal.Code != test.code || refusal.Reason != decision.HeaderRefused {
					t.Fatalf("got %v, want %s", refusal, test.code)
				}
			}
		})
	}
}

// What Go's server never hands over, other handlers or protocols could.
func TestHeadersRefusedBehindHandlers(t *testing.T) {
	for name, test := range map[string]struct {
		header http.Header
		code   string
	}{
		"identity in lower case": {http.Header{"x-instance-id": {"a"}}, "header_identity_alias"},
		"transfer encoding":      {http.Header{"Transfer-Encoding": {"chunked"}}, "header_framing"},
		"two lengths":            {http.Header{"Content-Length": {"5", "3"}}, "header_framing"},
		"line break":             {http.Header{"User-Agent": {"a\r\nX-Instance-ID: b"}}, "header_value"},
		"no value":               {http.Header{"Upgrade": nil, "X-Instance-Id": {}, "Accept": nil}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("/")
			r.Header = test.header
			if got := code(compile(t, nova), r); got != test.code {
				t.Errorf("got %q, want %q", got, test.code)
			}
		})
	}
}

func TestHeadersForwarded(t *testing.T) {
	c := compile(t, Rules{
		Headers:  []string{"metadata-flavor", "X-Custom", "accept"},
		Forward:  []string{"X-Auth-Token", "Authorization", "X-Request-Id", "AUTHORIZATION"},
		Identity: []string{"X-Custom", "X-Instance-ID"},
	})
	for name, test := range map[string]struct {
		head   string
		header http.Header
		policy map[string]string
	}{
		"none": {},
		"all": {
			head: "accept: */*\nUSER-AGENT: curl/8\nContent-Type: text/plain\nMetadata-Flavor: Google\nX-Request-ID: 7\n",
			header: http.Header{
				"Accept": {"*/*"}, "User-Agent": {"curl/8"}, "Content-Type": {"text/plain"},
				"Metadata-Flavor": {"Google"}, "X-Request-Id": {"7"},
			},
			policy: map[string]string{
				"accept": "*/*", "user-agent": "curl/8", "content-type": "text/plain",
				"metadata-flavor": "Google", "x-request-id": "7",
			},
		},
		"secrets are not for policies": {
			head:   "X-Auth-Token: t\nAuthorization: Basic x\n",
			header: http.Header{"X-Auth-Token": {"t"}, "Authorization": {"Basic x"}},
		},
		"two lines of a list": {
			head:   "Accept: text/plain\nAccept: */*;q=0.1\n",
			header: http.Header{"Accept": {"text/plain, */*;q=0.1"}},
			policy: map[string]string{"accept": "text/plain, */*;q=0.1"},
		},
		"empty is none": {head: "Accept:\nUser-Agent: \t\n"},
		"not on the list": {
			head: "X-Instance-ID: a\nX-Custom: a\nX-Forwarded-For: 1\nX-Forwarded-Host: h\nForwarded: for=1\nVia: 1.1 x\n" +
				"Cookie: a\nAccept-Encoding: gzip\nRange: bytes=0-1\nIf-None-Match: x\nTE: trailers\nExpect: 100-continue\n" +
				"X-Metadata-Provider: a\nTransfer_Encoding: chunked\nIdempotency-Key: 1\nX-Original-URL: /y\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(t, "GET /x HTTP/1.1\r\nHost: h\r\n"+strings.ReplaceAll(test.head, "\n", "\r\n")+"\r\n")
			before := r.Header.Clone()
			q, refusal := c.Canonicalize(r)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if !reflect.DeepEqual(q.Header, test.header) {
				t.Errorf("forwarded %v, want %v", q.Header, test.header)
			}
			if !maps.Equal(q.PolicyHeaders, test.policy) {
				t.Errorf("policy sees %v, want %v", q.PolicyHeaders, test.policy)
			}
			if !reflect.DeepEqual(r.Header, before) {
				t.Errorf("the request's own headers are now %v", r.Header)
			}
			// What was judged stays, whatever happens to the request.
			for name := range r.Header {
				r.Header[name][0] = "changed"
			}
			if !reflect.DeepEqual(q.Header, test.header) {
				t.Errorf("the request's headers are shared: %v", q.Header)
			}
			// Appending to one must not reach another.
			for name := range q.Header {
				q.Header.Add(name, "second")
			}
			for name, values := range test.header {
				if q.Header[name][0] != values[0] {
					t.Errorf("%s is now %q", name, q.Header[name])
				}
			}
		})
	}
}

func TestEarlyData(t *testing.T) {
	r := request("/")
	r.TLS = &tls.ConnectionState{}
	if got := code(compile(t, Rules{}), r); got != "tls_early_data" {
		t.Errorf("before the handshake is complete: %q", got)
	}
	r.TLS.HandshakeComplete = true
	if got := code(compile(t, Rules{}), r); got != "" {
		t.Errorf("after it: %q", got)
	}
}

func TestHTTP2(t *testing.T) {
	c := compile(t, nova)
	results := make(chan *Request, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, refusal := c.Canonicalize(r)
		if refusal != nil {
			t.Errorf("%s: %v", r.Proto, refusal)
			q = nil
		}
		results <- q
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, body := range []string{"", "password"} {
		response, err := server.Client().Post(server.URL+"//openstack/%6catest/password", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		q := <-results
		if q == nil || q.Protocol != "HTTP/2.0" || q.Path != "/openstack/latest/password" || q.HasBody != (body != "") || q.Host != "127.0.0.1" {
			t.Errorf("got %+v", q)
		}
	}
}

func TestIsForwarded(t *testing.T) {
	for name, forwarded := range map[string]bool{
		"X-Forwarded-For": true, "x-forwarded-for": true, "X_Forwarded_For": true, "X-Forwarded_for": true, "X.Forwarded.For": true,
		"Forwarded": true, "FORWARDED": true,
		"X-Forwarded": false, "X-Forwarded-Host": false, "Via": false, "X-Real-Ip": false, "Accept": false,
	} {
		if IsForwarded(name) != forwarded {
			t.Errorf("%s: %t", name, !forwarded)
		}
	}
}

// A dialect whose server takes nothing from a proxy.
func TestRefuseForwarded(t *testing.T) {
	c := compile(t, Rules{RefuseForwarded: true})
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X_Forwarded_For"} {
		r := request("/a")
		r.Header[name] = []string{"10.0.0.1"}
		if _, refusal := c.Canonicalize(r); refusal == nil || refusal.Code != "header_forwarded" {
			t.Errorf("%s: %v", name, refusal)
		}
	}
	if _, refusal := c.Canonicalize(request("/a")); refusal != nil {
		t.Error(refusal)
	}
}

// A header that says what is asked for goes upstream in the server's spelling,
// and in no other.
func TestCommand(t *testing.T) {
	const command = "DomU_Request"
	c := compile(t, Rules{Command: command})
	ask := func(header http.Header) (*Request, string) {
		r := request("/")
		r.Header = header
		q, refusal := c.Canonicalize(r)
		if refusal != nil {
			return nil, refusal.Code
		}
		return q, ""
	}
	q, code := ask(http.Header{"Domu_request": {"send_my_password"}})
	if code != "" || !maps.EqualFunc(q.Header, http.Header{command: {"send_my_password"}}, slices.Equal) || q.PolicyHeaders["domu_request"] != "send_my_password" {
		t.Errorf("%s %+v", code, q)
	}
	for _, header := range []http.Header{
		{"Domu-Request": {"send_my_password"}},
		{"Domu.request": {"send_my_password"}},
		{"Domu_request": {"send_my_password"}, "Domu-Request": {"send_my_password"}},
		{"Domu_request": {"send_my_password", "saved_password"}},
	} {
		if q, code := ask(header); code == "" {
			t.Errorf("%v: %+v", header, q)
		}
	}
}
