// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// failing gives some bytes and then an error.
func failing(text string, err error) io.Reader {
	return io.MultiReader(strings.NewReader(text), iotest.ErrReader(err))
}

// stuck says that there is nothing, for ever.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// untouched fails the test when it is read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("was read")
	return 0, io.EOF
}

func TestReadBody(t *testing.T) {
	long := strings.Repeat("x", 5000)
	tests := map[string]struct {
		r        io.Reader
		declared int64
		limit    int64
		budget   int64
		want     string
		code     string
	}{
		"declared":                 {r: strings.NewReader("hello"), declared: 5, limit: 10, budget: 1 << 20, want: "hello"},
		"chunked":                  {r: strings.NewReader("hello"), declared: -1, limit: 10, budget: 1 << 20, want: "hello"},
		"byte by byte":             {r: iotest.OneByteReader(strings.NewReader(long)), declared: -1, limit: 5000, budget: 1 << 20, want: long},
		"data and EOF at once":     {r: iotest.DataErrReader(strings.NewReader("hello")), declared: 5, limit: 5, budget: 1 << 20, want: "hello"},
		"exactly the limit":        {r: strings.NewReader("hello"), declared: 5, limit: 5, budget: 1 << 20, want: "hello"},
		"exactly, chunked":         {r: strings.NewReader("hello"), declared: -1, limit: 5, budget: 1 << 20, want: "hello"},
		"a class, chunked":         {r: strings.NewReader(long[:4096]), declared: -1, limit: 4096, budget: 4096, want: long[:4096]},
		"empty":                    {r: strings.NewReader(""), declared: 0, limit: 10, budget: 1 << 20},
		"empty chunked":            {r: strings.NewReader(""), declared: -1, limit: 10, budget: 1 << 20},
		"none":                     {r: nil, declared: 0, limit: 10, budget: 1 << 20},
		"nothing may come":         {r: strings.NewReader(""), declared: -1, limit: 0, budget: 0},
		"something, limit 0":       {r: strings.NewReader("x"), declared: -1, limit: 0, budget: 0, code: "body_too_large/over_limit"},
		"declared over the limit":  {r: untouched{t}, declared: 6, limit: 5, budget: 1 << 20, code: "body_too_large/declared_over_limit"},
		"chunked over the limit":   {r: strings.NewReader("hello!"), declared: -1, limit: 5, budget: 1 << 20, code: "body_too_large/over_limit"},
		"endless":                  {r: endless{}, declared: -1, limit: 70000, budget: 1 << 20, code: "body_too_large/over_limit"},
		"MaxBytesReader":           {r: http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("hello")), 3), declared: -1, limit: 10, budget: 1 << 20, code: "body_too_large/over_limit"},
		"fewer than declared":      {r: strings.NewReader("hell"), declared: 5, limit: 10, budget: 1 << 20, code: "body_incomplete/body_length"},
		"more than declared":       {r: strings.NewReader("hello!"), declared: 5, limit: 10, budget: 1 << 20, code: "body_incomplete/body_length"},
		"declared none, some came": {r: strings.NewReader("x"), declared: 0, limit: 10, budget: 1 << 20, code: "body_incomplete/body_length"},
		"cut":                      {r: failing("hel", io.ErrUnexpectedEOF), declared: 5, limit: 10, budget: 1 << 20, code: "body_incomplete/body_cut"},
		"a wrapped EOF is a cut":   {r: failing("hello", fmt.Errorf("x: %w", io.EOF)), declared: -1, limit: 10, budget: 1 << 20, code: "body_incomplete/body_cut"},
		"reset":                    {r: failing("hel", errors.New("reset")), declared: -1, limit: 10, budget: 1 << 20, code: "body_incomplete/body_cut"},
		"stuck":                    {r: stuck{}, declared: -1, limit: 10, budget: 1 << 20, code: "body_incomplete/body_stuck"},
		"deadline":                 {r: failing("hel", os.ErrDeadlineExceeded), declared: 5, limit: 10, budget: 1 << 20, code: "body_timeout/body_deadline"},
		"context":                  {r: failing("", context.DeadlineExceeded), declared: 5, limit: 10, budget: 1 << 20, code: "body_timeout/body_deadline"},
		"net timeout":              {r: failing("", &net.OpError{Err: os.ErrDeadlineExceeded}), declared: -1, limit: 10, budget: 1 << 20, code: "body_timeout/body_deadline"},
		"no room":                  {r: untouched{t}, declared: 5, limit: 10, budget: 100, code: "overloaded/budget_full"},
		"no room, chunked":         {r: strings.NewReader("x"), declared: -1, limit: 10, budget: 100, code: "overloaded/budget_full"},
		"no room on the way":       {r: strings.NewReader(long), declared: -1, limit: 5000, budget: 8192, code: "overloaded/budget_full"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			budget := NewBudget(test.budget)
			body, release, refusal := ReadBody(test.r, test.declared, test.limit, budget)
			if got := code(refusal); got != test.code || string(body) != test.want {
				t.Fatalf("got %q %.20q, want %q %.20q", got, body, test.code, test.want)
			}
			if refusal != nil && body != nil {
				t.Error("a body beside the refusal")
			}
			held := budget.InUse()
			if refusal != nil && held != 0 || held < int64(len(body)) {
				t.Errorf("%d bytes in use", held)
			}
			release()
			release()
			if held := budget.InUse(); held != 0 {
				t.Errorf("%d bytes still in use", held)
			}
			if strings.Contains(string(body), "h") {
				t.Error("not wiped")
			}
		})
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestReadBodyFromTheWire sends requests by raw socket, so that Go's server
// makes the errors.
func TestReadBodyFromTheWire(t *testing.T) {
	type result struct {
		body, code, text string
	}
	results := make(chan result, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		body, release, refusal := ReadBody(r.Body, r.ContentLength, 10, NewBudget(1<<20))
		defer release()
		got := result{body: string(body), code: code(refusal)}
		if refusal != nil {
			got.text = refusal.Error()
		}
		results <- got
	}))
	defer server.Close()
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	tests := map[string]struct {
		rest  string // after the Host line
		shut  bool   // the client ends its side
		body  string
		code  string
		quoth string // what no error may quote
	}{
		"length":          {rest: "Content-Length: 5\r\n\r\nhello", body: "hello"},
		"chunks":          {rest: chunked + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", body: "hello"},
		"too long":        {rest: "Content-Length: 11\r\n\r\n", code: "body_too_large/declared_over_limit"},
		"chunks too long": {rest: chunked + "b\r\nhello world\r\n0\r\n\r\n", code: "body_too_large/over_limit"},
		"cut":             {rest: "Content-Length: 5\r\n\r\nhel", shut: true, code: "body_incomplete/body_cut"},
		"cut chunk":       {rest: chunked + "5\r\nhel", shut: true, code: "body_incomplete/body_cut"},
		"no last chunk":   {rest: chunked + "5\r\nhello\r\n", shut: true, code: "body_incomplete/body_cut"},
		"bad chunk size":  {rest: chunked + "S3cret\r\nhello\r\n0\r\n\r\n", code: "body_incomplete/body_cut", quoth: "S3cret"},
		"bad chunk end":   {rest: chunked + "5\r\nhelloS3cret\r\n0\r\n\r\n", code: "body_incomplete/body_cut", quoth: "S3cret"},
		"bad trailer":     {rest: chunked + "5\r\nhello\r\n0\r\nS3cret\r\n\r\n", code: "body_incomplete/body_cut", quoth: "S3cret"},
		"slow":            {rest: "Content-Length: 5\r\n\r\nhel", code: "body_timeout/body_deadline"},
		"slow chunk":      {rest: chunked + "5\r\nhel", code: "body_timeout/body_deadline"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+test.rest); err != nil {
				t.Fatal(err)
			}
			if test.shut {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
			select {
			case got := <-results:
				if got.code != test.code || got.body != test.body {
					t.Errorf("got %+v", got)
				}
				if test.quoth != "" && strings.Contains(got.text, test.quoth) {
					t.Errorf("quotes the body: %s", got.text)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the handler did not end")
			}
			_, _ = bufio.NewReader(conn).ReadByte()
		})
	}
}
