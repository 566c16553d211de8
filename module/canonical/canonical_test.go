// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestMethod(t *testing.T) {
	for method, test := range map[string]struct {
		method string
		head   bool
		code   string
	}{
		"GET":                   {method: "GET"},
		"HEAD":                  {method: "GET", head: true},
		"POST":                  {method: "POST"},
		"OPTIONS":               {method: "OPTIONS"}, // the dialect's to refuse
		"TRACE":                 {method: "TRACE"},
		"PROPFIND":              {method: "PROPFIND"},
		strings.Repeat("A", 32): {method: strings.Repeat("A", 32)},
		strings.Repeat("A", 33): {code: "method_malformed"},
		"CONNECT":               {code: "method_connect"},
		"":                      {code: "method_malformed"},
		"get":                   {code: "method_malformed"},
		"Get":                   {code: "method_malformed"},
		"head":                  {code: "method_malformed"},
		"M-SEARCH":              {code: "method_malformed"},
		"PO ST":                 {code: "method_malformed"},
		"GET\n":                 {code: "method_malformed"},
	} {
		t.Run(method, func(t *testing.T) {
			r := request("/")
			r.Method = method
			q, refusal := compile(t, nova).Canonicalize(r)
			if refusal != nil || test.code != "" {
				if refusal == nil || refusal.Code != test.code || refusal.Reason != decision.MethodNotAllowed {
					t.Errorf("got %v, want %s", refusal, test.code)
				}
				return
			}
			if q.Method != test.method || q.Head != test.head {
				t.Errorf("got %s %v", q.Method, q.Head)
			}
		})
	}
}

// On a real connection, since Go's server treats some of these specially.
func TestRequestLines(t *testing.T) {
	addr := guard(t, compile(t, nova))
	for line, want := range map[string]string{
		"GET /x HTTP/1.1":                "GET /x",
		"HEAD /x HTTP/1.1":               "GET /x",
		"GET //x// HTTP/1.0":             "GET /x/",
		"CONNECT h:80 HTTP/1.1":          "method_connect",
		"CONNECT /x HTTP/1.1":            "method_connect",
		"OPTIONS * HTTP/1.1":             "go 200",
		"GET * HTTP/1.1":                 "path_not_origin_form",
		"OPTIONS /x HTTP/1.1":            "OPTIONS /x",
		"get /x HTTP/1.1":                "method_malformed",
		"GET http://h/x HTTP/1.1":        "path_not_origin_form",
		"GET /x  HTTP/1.1":               "go 400",
		"GET  /x HTTP/1.1":               "go 400",
		"GET\t/x HTTP/1.1":               "go 400",
		"GET /x":                         "go 400",
		"GET /x HTTP/2.0":                "go 505",
		"G{T /x HTTP/1.1":                "go 400",
		"GET /openstack/\u00e9 HTTP/1.1": "path_non_ascii",
	} {
		if got := ask(t, addr, line+"\r\nHost: h\r\nConnection: close\r\n\r\n"); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// The package's documentation says what never arrives here; if a new Go lets
// it through, this says so.
func TestRefusedByGo(t *testing.T) {
	addr := guard(t, compile(t, nova))
	for name, test := range map[string]struct{ head, want string }{
		"no Host":                    {"", "go 400"},
		"two Hosts":                  {"Host: h\r\nHost: h\r\n", "go 400"},
		"bad Host":                   {"Host: a/b\r\n", "go 400"},
		"name with a blank":          {"Host: h\r\nX-Instance-ID : a\r\n", "go 400"},
		"control byte":               {"Host: h\r\nUser-Agent: a\x01\r\n", "go 400"},
		"two different lengths":      {"Host: h\r\nContent-Length: 3\r\nContent-Length: 5\r\n", "go 400"},
		"bad length":                 {"Host: h\r\nContent-Length: 5_0\r\n", "go 400"},
		"transfer encoding":          {"Host: h\r\nTransfer-Encoding: gzip, chunked\r\n", "go 501"},
		"transfer encoding, doubled": {"Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "go 501"},
		"unknown Expect":             {"Host: h\r\nExpect: 200-ok\r\n", "go 417"},
		"folded header":              {"Host: h\r\nX-A: a\r\n X-Instance-ID: b\r\n", "POST /x"}, // one value, not forwarded
	} {
		if got := ask(t, addr, "POST /x HTTP/1.1\r\n"+test.head+"Connection: close\r\n\r\n"); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestHasBody(t *testing.T) {
	for name, test := range map[string]struct {
		head string
		want bool
	}{
		"none":           {"", false},
		"length 0":       {"Content-Length: 0\r\n", false},
		"length 1":       {"Content-Length: 1\r\n", true},
		"chunked":        {"Transfer-Encoding: chunked\r\n", true},
		"chunked, empty": {"Transfer-Encoding: chunked\r\n\r\n0\r\n", true},
	} {
		q, refusal := compile(t, nova).Canonicalize(read(t, "GET /x HTTP/1.1\r\nHost: h\r\n"+test.head+"\r\n"))
		if refusal != nil {
			t.Fatal(refusal)
		}
		if q.HasBody != test.want {
			t.Errorf("%s: %v", name, q.HasBody)
		}
	}
	for major, want := range map[int]bool{2: true, 3: false} {
		r := request("/x")
		r.ProtoMajor, r.ContentLength = major, -1
		if q, _ := compile(t, nova).Canonicalize(r); q.HasBody != want {
			t.Errorf("HTTP/%d without a length: %v", major, q.HasBody)
		}
	}
}

// Codes are names for logs and tests: they must be there, differ and stay short.
func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)
	seen := map[string]bool{}
	for p := fine + 1; p < problems; p++ {
		refusal := p.refusal()
		if !form.MatchString(refusal.Code) || seen[refusal.Code] || len(refusal.Code) > 32 {
			t.Errorf("problem %d has the code %q", p, refusal.Code)
		}
		if refusal.Reason.Status() < http.StatusBadRequest || refusal.Reason.Status() >= http.StatusInternalServerError {
			t.Errorf("%s has the reason %q", refusal.Code, refusal.Reason)
		}
		seen[refusal.Code] = true
	}
}
