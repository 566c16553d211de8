// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestNormalizeStatus(t *testing.T) {
	refused := map[int]string{
		100: "response_unreadable/status_invalid",
		101: "response_unreadable/switching_protocols",
		206: "response_unreadable/partial_content",
		226: "response_unreadable/delta",
		304: "response_unreadable/not_modified",
	}
	for status := 100; status <= 999; status++ {
		want := refused[status]
		switch {
		case want != "":
		case status < 200 || status > 599:
			want = "response_unreadable/status_invalid"
		case status >= 300 && status < 400:
			want = "upstream_redirect/redirect"
		}
		for _, header := range []http.Header{{}, {"Location": {"http://evil.example/"}}} {
			a := &Answer{Status: status, Header: header}
			if got := code(Normalize(a, nil)); got != want {
				t.Errorf("%d: got %q, want %q", status, got, want)
			}
			if a.Header.Get("Location") != "" && want == "" {
				t.Errorf("%d: Location stays", status)
			}
		}
	}
	for _, status := range []int{204, 205} {
		a := answerOf("x")
		a.Status = status
		if got := code(Normalize(a, nil)); got != "response_unreadable/body_not_allowed" {
			t.Errorf("%d with a body: %q", status, got)
		}
	}
}

func TestNormalizeHeaders(t *testing.T) {
	tests := map[string]struct {
		status int
		in     http.Header
		rules  *Rules
		want   http.Header
		code   string
	}{
		"Nova's": {
			in:   http.Header{"Content-Type": {"text/plain; charset=UTF-8"}},
			want: http.Header{"Content-Type": {"text/plain; charset=UTF-8"}, "Content-Length": {"5"}},
		},
		"no header at all": {want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}}},
		"no type":          {in: http.Header{"Content-Type": {" "}}, want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}}},
		"null type":        {in: http.Header{"Content-Type": nil}, want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}}},
		"no type on an error": {
			status: 404, want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}},
		},
		"what passes": {
			in: http.Header{
				"Etag": {`"1"`}, "Last-Modified": {"x"}, "Cache-Control": {"no-cache", "private"}, "Expires": {"0"}, "Allow": {"GET"},
				"Retry-After": {"1"}, "Vary": {"Accept"}, "Content-Type": {"a/b"}, "Content-Language": {"en"}, "Pragma": {"x"}, "Www-Authenticate": {"Basic"},
			},
			want: http.Header{
				"Etag": {`"1"`}, "Last-Modified": {"x"}, "Cache-Control": {"no-cache", "private"}, "Expires": {"0"}, "Allow": {"GET"},
				"Retry-After": {"1"}, "Vary": {"Accept"}, "Content-Type": {"a/b"}, "Content-Language": {"en"}, "Pragma": {"x"}, "Www-Authenticate": {"Basic"},
				"Content-Length": {"5"},
			},
		},
		"what does not": {
			in: http.Header{
				"Content-Type": {"a/b"}, "Set-Cookie": {"a=b"}, "Server": {"x"}, "Via": {"1.1 Caddy"}, "Connection": {"close"}, "Trailer": {"X"},
				"Transfer-Encoding": {"chunked"}, "Content-Length": {"99"}, "Date": {"then"}, "X-Openstack-Request-Id": {"req"}, "Location": {"/"},
				"Refresh": {"0"}, "Content-Md5": {"x"}, "Digest": {"x"}, "Content-Range": {"bytes 0-1/2"}, "Content-Disposition": {"x"},
				"X-Metaguard-Decision": {"forged"}, "content-type": {"b/c"}, "Alt-Svc": {"h3"}, http.TrailerPrefix + "X": {"y"}, "Upgrade": {"x"},
				"X-Powered-By": {"x\x00"},
			},
			want: http.Header{"Content-Type": {"a/b"}, "Content-Length": {"5"}},
		},
		"the dialect's": {
			in:    http.Header{"Metadata-Flavor": {"Google"}, "X-Other": {"x"}},
			rules: &Rules{Headers: []string{"metadata-flavor"}},
			want:  http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}, "Metadata-Flavor": {"Google"}},
		},
		"what no dialect may add": {
			in: http.Header{
				"Set-Cookie": {"x"}, "set-cookie": {"x"}, "Location": {"/"}, "Transfer-Encoding": {"chunked"}, "Trailer": {"X"}, "Connection": {"close"},
				"X-Metaguard-Decision": {"x"}, "Server": {"x"}, "Via": {"x"}, "Content-Encoding": {"identity"}, "Upgrade": {"x"},
			},
			rules: &Rules{Headers: []string{
				"Set-Cookie", "set-cookie", "Location", "Transfer-Encoding", "Trailer", "Connection", "X-Metaguard-Decision", "Server", "Via",
				"Content-Encoding", "Upgrade",
			}},
			want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}},
		},
		"identity": {
			in:   http.Header{"Content-Encoding": {"Identity, ", "identity"}},
			want: http.Header{"Content-Type": {plainText}, "Content-Length": {"5"}},
		},
		"gzip":                  {in: http.Header{"Content-Encoding": {"gzip"}}, code: "response_unreadable/content_encoding"},
		"gzip behind identity":  {in: http.Header{"Content-Encoding": {"identity, gzip"}}, code: "response_unreadable/content_encoding"},
		"gzip on a second line": {in: http.Header{"Content-Encoding": {"identity", "gzip"}}, code: "response_unreadable/content_encoding"},
		"no such coding":        {in: http.Header{"Content-Encoding": {"none"}}, code: "response_unreadable/content_encoding"},
		"control byte":          {in: http.Header{"Content-Type": {"a/b\x00"}}, code: "response_unreadable/header_control"},
		"line end":              {in: http.Header{"Etag": {"a\r\nSet-Cookie: x"}}, code: "response_unreadable/header_control"},
		"DEL":                   {in: http.Header{"Etag": {"a\x7f"}}, code: "response_unreadable/header_control"},
		"control in the dialect's": {
			in: http.Header{"X-A": {"\x1b"}}, rules: &Rules{Headers: []string{"X-A"}}, code: "response_unreadable/header_control",
		},
		"tab and latin-1": {
			in:   http.Header{"Content-Language": {"a\tb\xe9"}},
			want: http.Header{"Content-Language": {"a\tb\xe9"}, "Content-Type": {plainText}, "Content-Length": {"5"}},
		},
		"type twice, the same": {
			in:   http.Header{"Content-Type": {"a/b", "a/b"}},
			want: http.Header{"Content-Type": {"a/b"}, "Content-Length": {"5"}},
		},
		"type twice": {in: http.Header{"Content-Type": {"text/plain", "text/html"}}, code: "response_unreadable/header_repeated"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := &Answer{Status: http.StatusOK, Header: test.in, Body: []byte("hello")}
			if test.status != 0 {
				a.Status = test.status
			}
			refusal := Normalize(a, test.rules)
			if got := code(refusal); got != test.code {
				t.Fatalf("got %q, want %q", got, test.code)
			}
			if refusal == nil && !maps.EqualFunc(a.Header, test.want, slices.Equal) {
				t.Errorf("got %v, want %v", a.Header, test.want)
			}
			if string(a.Body) != "hello" {
				t.Errorf("body %q", a.Body)
			}
		})
	}
}

func TestNoContent(t *testing.T) {
	a := &Answer{Status: 204, Header: http.Header{"Content-Length": {"0"}, "Content-Type": {"a/b"}}}
	if refusal := Normalize(a, nil); refusal != nil {
		t.Fatal(refusal)
	}
	if len(a.Header) != 0 {
		t.Errorf("header %v", a.Header)
	}
}

func TestPasswordHeaders(t *testing.T) {
	h := http.Header{"Content-Type": {"text/html"}, "Cache-Control": {"public"}, "Etag": {"x"}, "Last-Modified": {"x"}, "Expires": {"x"}, "Pragma": {"x"}}
	PasswordHeaders(h)
	want := http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}}
	if !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("got %v", h)
	}
}

// TestWriteOnTheWire shows what a client gets, byte for byte but for Date.
func TestWriteOnTheWire(t *testing.T) {
	tests := map[string]struct {
		request string
		a       *Answer
		want    []string
		body    string
	}{
		"GET": {
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 200, Header: http.Header{"Content-Type": {plainText}}, Body: []byte("hello")},
			want:    []string{"HTTP/1.1 200 OK", "Connection: close", "Content-Length: 5", "Content-Type: " + plainText, "X-Own: 1"}, body: "hello",
		},
		"HEAD": {
			request: "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 200, Header: http.Header{"Content-Type": {plainText}}, Body: []byte("hello")},
			want:    []string{"HTTP/1.1 200 OK", "Connection: close", "Content-Length: 5", "Content-Type: " + plainText, "X-Own: 1"},
		},
		"HTTP/1.0": {
			request: "GET / HTTP/1.0\r\n\r\n",
			a:       &Answer{Status: 404, Header: http.Header{"Content-Type": {plainText}}, Body: []byte("no")},
			want:    []string{"HTTP/1.0 404 Not Found", "Content-Length: 2", "Content-Type: " + plainText, "X-Own: 1"}, body: "no",
		},
		"empty": {
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 200, Header: http.Header{"Content-Type": {plainText}}},
			want:    []string{"HTTP/1.1 200 OK", "Connection: close", "Content-Length: 0", "Content-Type: " + plainText, "X-Own: 1"},
		},
		"no content": {
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 204},
			want:    []string{"HTTP/1.1 204 No Content", "Connection: close", "X-Own: 1"},
		},
		"a wrong length": {
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 200, Header: http.Header{"Content-Length": {"1"}, "Content-Type": {plainText}}, Body: []byte("hello")},
			want:    []string{"HTTP/1.1 200 OK", "Connection: close", "Content-Length: 5", "Content-Type: " + plainText, "X-Own: 1"}, body: "hello",
		},
		"more than net/http buffers": {
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			a:       &Answer{Status: 200, Header: http.Header{"Content-Type": {plainText}}, Body: []byte(strings.Repeat("x", 100_000))},
			want:    []string{"HTTP/1.1 200 OK", "Connection: close", "Content-Length: 100000", "Content-Type: " + plainText, "X-Own: 1"}, body: strings.Repeat("x", 100_000),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Own", "1")
				w.Header().Set("Transfer-Encoding", "chunked")
				w.Header().Set("Trailer", "X")
				if err := Write(w, test.a, r.Method == http.MethodHead); err != nil {
					t.Errorf("write: %v", err)
				}
			}))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, test.request); err != nil {
				t.Fatal(err)
			}
			all, err := io.ReadAll(bufio.NewReader(conn))
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(all), "\r\n\r\n")
			lines := slices.DeleteFunc(strings.Split(head, "\r\n"), func(line string) bool { return strings.HasPrefix(line, "Date: ") })
			slices.Sort(lines[1:])
			if !slices.Equal(lines, test.want) || body != test.body {
				t.Errorf("got %q and %.50q", lines, body)
			}
		})
	}
}

// TestWriteSaysWhenTheClientIsGone passes the connection's error on.
func TestWriteSaysWhenTheClientIsGone(t *testing.T) {
	gone := errors.New("gone")
	w := brokenWriter{httptest.NewRecorder(), gone}
	if err := Write(w, answerOf("x"), false); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if err := Write(w, answerOf("x"), true); err != nil {
		t.Errorf("HEAD wrote: %v", err)
	}
}

type brokenWriter struct {
	http.ResponseWriter
	err error
}

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
