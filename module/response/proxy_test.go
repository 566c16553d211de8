// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// upstream is a server that says the same bytes to every request and closes.
func upstream(t *testing.T, answer string, reset bool) *url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, request.Body)
				_, _ = io.WriteString(conn, answer)
			}
			if reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			_ = conn.Close()
		}
	}()
	return &url.URL{Scheme: "http", Host: listener.Addr().String()}
}

// through sends a GET through the standard library's proxy into a Writer, and
// recovers as the handler does. gone tells whether the proxy saw no answer.
func through(t *testing.T, w *Writer, to *url.URL, flush bool) (gone bool) {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { gone = true },
		ErrorLog:     log.New(io.Discard, "", 0),
		Transport:    &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	}
	if flush {
		proxy.FlushInterval = -1
	}
	// With a server in the context it panics on a cut body, as Caddy's does.
	ctx := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{})
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	defer func() {
		if cause := recover(); cause != nil {
			if cause != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
				panic(cause)
			}
			w.Abort()
		}
	}()
	proxy.ServeHTTP(w, r)
	return gone
}

func TestFraming(t *testing.T) {
	const plain = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	const chunked = plain + "Transfer-Encoding: chunked\r\n"
	big := strings.Repeat("x", 200_000)
	tests := map[string]struct {
		answer string
		reset  bool
		status int
		body   string
		code   string
		gone   bool // the transport found no answer in it
		header http.Header
	}{
		"length":                  {answer: plain + "Content-Length: 5\r\n\r\nhello", status: 200, body: "hello"},
		"chunked":                 {answer: chunked + "\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", status: 200, body: "hello"},
		"chunked, big":            {answer: chunked + "\r\n" + fmt.Sprintf("%x\r\n", len(big)) + big + "\r\n0\r\n\r\n", status: 200, body: big},
		"close, as uWSGI does":    {answer: plain + "\r\nhello", status: 200, body: "hello"},
		"HTTP/1.0":                {answer: "HTTP/1.0 200 OK\r\n\r\nhello", status: 200, body: "hello"},
		"HTTP/1.0 and length":     {answer: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello"},
		"empty by close":          {answer: plain + "\r\n", status: 200},
		"204":                     {answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		"more than the length":    {answer: plain + "Content-Length: 5\r\n\r\nhello, world", status: 200, body: "hello"},
		"the same length twice":   {answer: plain + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", status: 200, body: "hello"},
		"two lengths":             {answer: plain + "Content-Length: 5\r\nContent-Length: 4\r\n\r\nhello", gone: true},
		"length and chunked":      {answer: chunked + "Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", status: 200, body: "hello"},
		"unknown coding":          {answer: plain + "Transfer-Encoding: gzip\r\n\r\nhello", gone: true},
		"continue first":          {answer: "HTTP/1.1 100 Continue\r\n\r\n" + plain + "Content-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"hints first":             {answer: "HTTP/1.1 103 Early Hints\r\nLink: </evil>\r\nX-A: b\r\n\r\n" + plain + "Content-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		"cut by length":           {answer: plain + "Content-Length: 6\r\n\r\nhello", code: "response_incomplete/body_cut"},
		"cut before the body":     {answer: plain + "Content-Length: 6\r\n\r\n", code: "response_incomplete/body_cut"},
		"cut chunk":               {answer: chunked + "\r\n5\r\nhel", code: "response_incomplete/body_cut"},
		"cut between chunks":      {answer: chunked + "\r\n5\r\nhello\r\n", code: "response_incomplete/body_cut"},
		"cut last chunk":          {answer: chunked + "\r\n5\r\nhello\r\n0\r\n", code: "response_incomplete/body_cut"},
		"bad chunk":               {answer: chunked + "\r\nzz\r\nhello\r\n0\r\n\r\n", code: "response_incomplete/body_cut"},
		"reset":                   {answer: plain + "Content-Length: 6\r\n\r\nhello", reset: true, code: "response_incomplete/body_cut"},
		"no answer":               {answer: "", gone: true},
		"half a head":             {answer: "HTTP/1.1 200 OK\r\nContent-Ty", gone: true},
		"only informational":      {answer: "HTTP/1.1 103 Early Hints\r\n\r\n", gone: true},
		"declared over the limit": {answer: plain + "Content-Length: 300000\r\n\r\nhello", code: "response_too_large/declared_over_limit"},
		"over the limit":          {answer: plain + "\r\n" + big + big, code: "response_too_large/over_limit"},
		"endless chunks":          {answer: chunked + "\r\n" + strings.Repeat("1000\r\n"+big[:4096]+"\r\n", 100), code: "response_too_large/over_limit"},
		"trailer": {
			answer: chunked + "Trailer: X-Digest, Content-Type, Set-Cookie\r\n\r\n5\r\nhello\r\n0\r\nX-Digest: 1\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\n\r\n",
			status: 200, body: "hello",
		},
		"unannounced trailer": {answer: chunked + "\r\n5\r\nhello\r\n0\r\nX-Digest: 1\r\n\r\n", status: 200, body: "hello"},
		"headers": {
			answer: plain + "Server: x\r\nSet-Cookie: a=b\r\nDate: then\r\nConnection: X-Hop\r\nX-Hop: 1\r\nETag: \"1\"\r\n\r\nhello", status: 200, body: "hello",
			header: http.Header{"Content-Type": {"text/plain"}, "Etag": {`"1"`}, "Content-Length": {"5"}},
		},
		"redirect":  {answer: "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", code: "upstream_redirect/redirect"},
		"partial":   {answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\nab", code: "response_unreadable/partial_content"},
		"gzip":      {answer: plain + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", code: "response_unreadable/content_encoding"},
		"switching": {answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", gone: true},
	}
	for name, test := range tests {
		for _, flush := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/flush=%v", name, flush), func(t *testing.T) {
				budget := NewBudget(1 << 20)
				w := NewWriter(250_000, budget)
				gone := through(t, w, upstream(t, test.answer, test.reset), flush)
				if test.reset {
					// The reset may overtake the head.
					test.gone = gone
				}
				if gone != test.gone {
					t.Errorf("no answer: %v", gone)
				}
				if test.gone {
					test.code = "response_incomplete/no_answer"
				}
				a, refusal := w.Answer()
				if refusal == nil {
					refusal = Normalize(a, nil)
				}
				if got := code(refusal); got != test.code {
					t.Fatalf("got %q, want %q", got, test.code)
				}
				if refusal == nil {
					if a.Status != test.status || string(a.Body) != test.body {
						t.Errorf("got %d %.40q", a.Status, a.Body)
					}
					if got := a.Header.Get("Content-Length"); got != fmt.Sprint(len(test.body)) && test.status != 204 {
						t.Errorf("Content-Length %q", got)
					}
					for name, values := range a.Header {
						switch {
						case test.header != nil && fmt.Sprint(values) == fmt.Sprint(test.header[name]):
						case test.header == nil && len(values) == 1 && (name == "Content-Length" || name == "Content-Type" && values[0] != "text/html"):
						default:
							t.Errorf("%s: %q", name, values)
						}
					}
				}
				w.Release()
				if budget.InUse() != 0 {
					t.Errorf("%d bytes still in use", budget.InUse())
				}
			})
		}
	}
}
