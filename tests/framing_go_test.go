// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// goAnswers lists what Go's HTTP server and Caddy answer by themselves, before
// any handler runs. The list in module/canonical says the same in words.
var goAnswers = []struct {
	name, send string
	status     int
}{
	// Go: the request line.
	{"no version", "GET /openstack\r\nHost: m\r\n\r\n", 400},
	{"blank in the target", "GET /open stack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"blank before the version", "GET /openstack  HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"blank before the method", " GET /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"tab for a blank", "GET\t/openstack\tHTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"second version", "GET /openstack HTTP/1.1 x HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"no method", "/openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"method that is no token", "G(T /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"no target", "GET  HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"empty line first", "\r\nGET /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"relative target", "GET openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"control byte in the path", "GET /open\x01stack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"tab in the path", "GET /open\tstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"NUL in the path", "GET /openstack\x00 HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"DEL in the path", "GET /open\x7fstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"control byte in the query", "GET /openstack?\x01 HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"bad escape in the path", "GET /open%zzstack HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"half an escape", "GET /openstack%2 HTTP/1.1\r\nHost: m\r\n\r\n", 400},
	{"OPTIONS *, which is no refusal", "OPTIONS * HTTP/1.1\r\nHost: m\r\n\r\n", 200},

	// Go: the version.
	{"HTTP/0.9", "GET /openstack HTTP/0.9\r\nHost: m\r\n\r\n", 505},
	{"HTTP/2.0 in words", "GET /openstack HTTP/2.0\r\nHost: m\r\n\r\n", 505},
	{"HTTP/3.0 in words", "GET /openstack HTTP/3.0\r\nHost: m\r\n\r\n", 505},
	{"HTTP/11.1", "GET /openstack HTTP/11.1\r\nHost: m\r\n\r\n", 400},
	{"HTTP/1.01", "GET /openstack HTTP/1.01\r\nHost: m\r\n\r\n", 400},
	{"HTTP/1", "GET /openstack HTTP/1\r\nHost: m\r\n\r\n", 400},
	{"http/1.1", "GET /openstack http/1.1\r\nHost: m\r\n\r\n", 400},

	// Go: headers.
	{"no Host", "GET /openstack HTTP/1.1\r\nX: y\r\n\r\n", 400},
	{"no headers", "GET /openstack HTTP/1.1\r\n\r\n", 400},
	{"two Hosts", "GET /openstack HTTP/1.1\r\nHost: m\r\nHost: n\r\n\r\n", 400},
	{"two Hosts, the same", "GET /openstack HTTP/1.1\r\nHost: m\r\nHost: m\r\n\r\n", 400},
	{"two Hosts, HTTP/1.0", "GET /openstack HTTP/1.0\r\nHost: m\r\nHost: n\r\n\r\n", 400},
	{"slash in the Host", "GET /openstack HTTP/1.1\r\nHost: m/n\r\n\r\n", 400},
	{"blank in the Host", "GET /openstack HTTP/1.1\r\nHost: m n\r\n\r\n", 400},
	{"not ASCII in the Host", "GET /openstack HTTP/1.1\r\nHost: \u00e4\r\n\r\n", 400},
	{"folded first header", "GET /openstack HTTP/1.1\r\n Host: m\r\n\r\n", 400},
	{"no colon", "GET /openstack HTTP/1.1\r\nHost: m\r\nX\r\n\r\n", 400},
	{"no name", "GET /openstack HTTP/1.1\r\nHost: m\r\n: x\r\n\r\n", 400},
	{"blank in a name", "GET /openstack HTTP/1.1\r\nHost: m\r\nX Y: z\r\n\r\n", 400},
	{"blank before the colon", "GET /openstack HTTP/1.1\r\nHost: m\r\nX : z\r\n\r\n", 400},
	{"slash in a name", "GET /openstack HTTP/1.1\r\nHost: m\r\nX/Y: z\r\n\r\n", 400},
	{"not ASCII in a name", "GET /openstack HTTP/1.1\r\nHost: m\r\n\u00c4: z\r\n\r\n", 400},
	{"control byte in a value", "GET /openstack HTTP/1.1\r\nHost: m\r\nX: a\x01b\r\n\r\n", 400},
	{"CR in a value", "GET /openstack HTTP/1.1\r\nHost: m\r\nX: a\rb\r\n\r\n", 400},
	{"NUL in a value", "GET /openstack HTTP/1.1\r\nHost: m\r\nX: a\x00b\r\n\r\n", 400},
	{"DEL in a value", "GET /openstack HTTP/1.1\r\nHost: m\r\nX: a\x7fb\r\n\r\n", 400},
	{"head of 32 KiB", "GET /openstack HTTP/1.1\r\nHost: m\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431},
	{"target of 32 KiB", "GET /" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\nHost: m\r\n\r\n", 431},

	// Go: framing; TestFramingTransferEncoding and TestFramingContentLength
	// have every spelling.
	{"Transfer-Encoding but chunked", getLine + "Transfer-Encoding: gzip\r\n\r\n", 501},
	{"two Transfer-Encodings", getLine + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501},
	{"Content-Length that is no number", getLine + "Content-Length: x\r\n\r\n", 400},
	{"two Content-Lengths", getLine + "Content-Length: 0\r\nContent-Length: 1\r\n\r\nx", 400},
	{"framing in the trailer's list", getLine + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n", 400},
	{"unknown Expect", getLine + "Expect: 200-maybe\r\n\r\n", 417},
	{"unknown Expect, with a body", postLine + "Expect: x\r\n" + withLength("hello"), 417},

	// Caddy.
	{"empty Host", "GET /openstack HTTP/1.1\r\nHost:\r\n\r\n", 400},
	{"Host of dots", "GET /openstack HTTP/1.1\r\nHost: ..\r\n\r\n", 400},
	{"method of 33 bytes", strings.Repeat("A", 33) + " /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 405},
}

// What Go's server and Caddy answer by themselves has no decision, no line in
// the decision log, and nothing of it arrives at the server.
func TestFramingWhatGoAnswers(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	for _, test := range goAnswers {
		t.Run(test.name, func(t *testing.T) {
			client := harness.Dial(t, f.caller(t), f.address)
			answer := client.Send(test.send).Answer("GET")
			// Go may close before the client has read all of its answer.
			if answer.Status != test.status || answer.Header.Get("X-Metaguard-Decision") != "" {
				t.Errorf("got %d %q %v %v, want %d", answer.Status, answer.Body, answer.Header, answer.Err, test.status)
			}
			if strings.Contains(answer.Body, "decision") {
				t.Errorf("%q", answer.Body)
			}
			if rest, closed := client.End().Rest(); rest != "" || !closed {
				t.Errorf("then %q, closed: %t", rest, closed)
			}
		})
	}
	// One request that does arrive, so that an earlier line would be there too.
	if answer := harness.RawFrom(t, f.caller(t), f.address, getLine+"\r\n"); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if lines := f.decisions(t, 1); len(lines) != 1 {
		t.Errorf("%d decision-log lines, want one: %v", len(lines), lines[0])
	}
	if arrived := f.arrived(); len(arrived) != 1 {
		t.Errorf("the server saw\n%s", shortened(arrived))
	}
}

// What looks as if Go refused it, and does arrive: Metaguard has to judge it.
func TestFramingWhatGoLetsThrough(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	for _, test := range []struct {
		name, send string
		status     int
		reason     string
	}{
		{"*", "GET * HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"absolute target", "GET http://m/openstack HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"CONNECT", "CONNECT m:80 HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"CONNECT with a path", "CONNECT /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"PRI", "PRI /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"method in small letters", "get /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"method of 32 bytes", strings.Repeat("A", 32) + " /openstack HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: m\r\n\r\n", 405, "method_not_allowed"},
		{"not ASCII in the path", "GET /\xff HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"bad escape in the query", "GET /openstack?%zz HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"fragment", "GET /openstack#x HTTP/1.1\r\nHost: m\r\n\r\n", 400, "request_ambiguous"},
		{"not ASCII in a value that goes upstream", "GET /openstack HTTP/1.1\r\nHost: m\r\nAccept: \xe4\r\n\r\n", 400, "header_refused"},
		{"Upgrade: h2c", getLine + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 400, "header_refused"},
		{"HTTP/1.9", "GET /openstack/latest/user_data HTTP/1.9\r\nHost: m\r\n\r\n", 200, ""},
		{"HTTP/1.0 without a Host", "GET /openstack/latest/user_data HTTP/1.0\r\n\r\n", 200, ""},
		{"head of 16 KiB", getLine + "X: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := harness.Dial(t, f.caller(t), f.address).Send(test.send).Answer("GET")
			f.judge(t, answer, framing{status: test.status, reason: test.reason})
			if got := len(f.arrived()); (got == 1) != (test.status == 200) || got > 1 {
				t.Errorf("the server saw %d requests", got)
			}
		})
	}
}
