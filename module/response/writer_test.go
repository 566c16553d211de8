// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

func TestWriter(t *testing.T) {
	tests := map[string]struct {
		limit, budget int64
		serve         func(w *Writer)
		status        int
		body          string
		code          string
	}{
		"nothing":                      {serve: func(*Writer) {}, code: "response_incomplete/no_answer"},
		"header only":                  {serve: func(w *Writer) { w.Header().Set("A", "b") }, code: "response_incomplete/no_answer"},
		"a flush is no answer":         {serve: func(w *Writer) { _ = http.NewResponseController(w).Flush() }, code: "response_incomplete/no_answer"},
		"status only":                  {serve: func(w *Writer) { w.WriteHeader(404) }, status: 404},
		"implied 200":                  {serve: func(w *Writer) { _, _ = io.WriteString(w, "x") }, status: 200, body: "x"},
		"empty write":                  {serve: func(w *Writer) { _, _ = w.Write(nil) }, status: 200},
		"only the first status counts": {serve: func(w *Writer) { w.WriteHeader(201); w.WriteHeader(500) }, status: 201},
		"informational": {serve: func(w *Writer) {
			w.WriteHeader(100)
			w.WriteHeader(103)
			w.WriteHeader(199)
			w.WriteHeader(202)
		}, status: 202},
		"only informational": {serve: func(w *Writer) { w.WriteHeader(103) }, code: "response_incomplete/no_answer"},
		"101 is final":       {serve: func(w *Writer) { w.WriteHeader(101); w.WriteHeader(200) }, status: 101},
		"status 99":          {serve: func(w *Writer) { w.WriteHeader(99); w.WriteHeader(200) }, code: "response_unreadable/status_invalid"},
		"status 1000":        {serve: func(w *Writer) { w.WriteHeader(1000) }, code: "response_unreadable/status_invalid"},
		"to the limit": {limit: 10, serve: func(w *Writer) {
			_, _ = w.Write([]byte("01234"))
			_, _ = w.Write([]byte("56789"))
		}, status: 200, body: "0123456789"},
		"over the limit": {limit: 9, serve: func(w *Writer) {
			_, _ = w.Write([]byte("01234"))
			_, _ = w.Write([]byte("56789"))
		}, code: "response_too_large/over_limit"},
		"ReadFrom to the limit":   {limit: 5000, serve: copies(strings.Repeat("x", 5000)), status: 200, body: strings.Repeat("x", 5000)},
		"ReadFrom over the limit": {limit: 4999, serve: copies(strings.Repeat("x", 5000)), code: "response_too_large/over_limit"},
		"ReadFrom, endless":       {limit: 1 << 20, serve: func(w *Writer) { _, _ = io.Copy(w, endless{}) }, code: "response_too_large/over_limit"},
		"ReadFrom after Write": {limit: 6, serve: func(w *Writer) {
			_, _ = w.Write([]byte("abc"))
			_, _ = io.Copy(w, strings.NewReader("def"))
		}, status: 200, body: "abcdef"},
		"ReadFrom of a cut body": {serve: func(w *Writer) {
			_, _ = io.Copy(w, failing("hel", io.ErrUnexpectedEOF))
		}, code: "response_incomplete/body_cut"},
		"ReadFrom, stuck":         {serve: func(w *Writer) { _, _ = io.Copy(w, stuck{}) }, code: "response_incomplete/body_cut"},
		"declared":                {serve: declares("5", "hello"), status: 200, body: "hello"},
		"fewer than declared":     {serve: declares("6", "hello"), code: "response_incomplete/body_length"},
		"more than declared":      {serve: declares("4", "hello"), code: "response_incomplete/body_length"},
		"declared none":           {serve: declares("0", ""), status: 200},
		"declared over the limit": {limit: 4, serve: declares("5", ""), code: "response_too_large/declared_over_limit"},
		"declared nonsense":       {serve: declares("5x", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared negative":       {serve: declares("-5", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared with a sign":    {serve: declares("+5", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared huge":           {serve: declares("99999999999999999999", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared as a list":      {serve: declares("5, 5", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared empty":          {serve: declares("", "hello"), code: "response_unreadable/content_length_invalid"},
		"declared twice": {serve: func(w *Writer) {
			w.Header()["Content-Length"] = []string{"5", "5"}
			_, _ = w.Write([]byte("hello"))
		}, status: 200, body: "hello"},
		"declared twice, two ways": {serve: func(w *Writer) {
			w.Header()["Content-Length"] = []string{"5", "6"}
			_, _ = w.Write([]byte("hello"))
		}, code: "response_unreadable/content_length_invalid"},
		"no room":              {budget: 100, serve: func(w *Writer) { _, _ = w.Write([]byte("x")) }, code: "overloaded/budget_full"},
		"no room for declared": {budget: 100, serve: declares("5", ""), code: "overloaded/budget_full"},
		"no room on the way":   {budget: 8192, serve: copies(strings.Repeat("x", 5000)), code: "overloaded/budget_full"},
		"no body, no room":     {budget: -1, serve: func(w *Writer) { w.WriteHeader(204) }, status: 204},
		"aborted": {serve: func(w *Writer) {
			_, _ = w.Write([]byte("x"))
			w.Abort()
		}, code: "response_incomplete/body_cut"},
		"aborted after its reason": {limit: 1, serve: func(w *Writer) {
			_, _ = w.Write([]byte("xx"))
			w.Abort()
		}, code: "response_too_large/over_limit"},
		"released": {serve: func(w *Writer) {
			_, _ = w.Write([]byte("x"))
			w.Release()
		}, code: "response_incomplete/released"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.limit == 0 {
				test.limit = 1 << 20
			}
			if test.budget == 0 {
				test.budget = 4 << 20
			}
			budget := NewBudget(test.budget)
			w := NewWriter(test.limit, budget)
			test.serve(w)
			a, refusal := w.Answer()
			if got := code(refusal); got != test.code {
				t.Fatalf("got %q, want %q", got, test.code)
			}
			if refusal == nil {
				if a.Status != test.status || string(a.Body) != test.body {
					t.Errorf("got %d %.20q, want %d %.20q", a.Status, a.Body, test.status, test.body)
				}
				if budget.InUse() < int64(len(a.Body)) {
					t.Errorf("%d bytes in use for %d", budget.InUse(), len(a.Body))
				}
			} else if a != nil || budget.InUse() != 0 {
				t.Errorf("an answer (%v) or %d bytes beside the refusal", a, budget.InUse())
			}
			w.Release()
			w.Release()
			if budget.InUse() != 0 || a != nil && a.Body != nil {
				t.Errorf("%d bytes still in use", budget.InUse())
			}
		})
	}
}

// copies sends a body through io.Copy, which takes ReadFrom.
func copies(body string) func(*Writer) {
	return func(w *Writer) { _, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader(body)}) }
}

// declares sends a body under a Content-Length.
func declares(length, body string) func(*Writer) {
	return func(w *Writer) {
		w.Header().Set("Content-Length", length)
		w.WriteHeader(200)
		_, _ = io.WriteString(w, body)
	}
}

// TestWritesFailEarly shows that nothing goes on copying once the answer is
// lost.
func TestWritesFailEarly(t *testing.T) {
	for name, w := range map[string]*Writer{
		"limit":  NewWriter(10000, NewBudget(1<<20)),
		"budget": NewWriter(1<<20, NewBudget(20000)),
	} {
		var read int64
		counted := io.TeeReader(endless{}, counter{&read})
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, counted, make([]byte, 1000)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if read > 20000 {
			t.Errorf("%s: read %d bytes", name, read)
		}
		if n, err := w.Write([]byte("x")); n != 0 || err == nil {
			t.Errorf("%s: the error did not last: %d, %v", name, n, err)
		}
		if n, err := w.ReadFrom(untouched{t}); n != 0 || err == nil {
			t.Errorf("%s: the error did not last: %d, %v", name, n, err)
		}
		w.Release()
		if _, err := w.Write([]byte("x")); !errors.Is(err, errReleased) {
			t.Errorf("%s: written after release: %v", name, err)
		}
	}
}

type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// TestWriterHidesTheClient: a controller must find no way past the buffer.
func TestWriterHidesTheClient(t *testing.T) {
	var w any = NewWriter(1, nil)
	if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		t.Error("Unwrap")
	}
	if _, ok := w.(http.Hijacker); ok {
		t.Error("Hijack")
	}
	if _, _, err := http.NewResponseController(w.(http.ResponseWriter)).Hijack(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("hijacked: %v", err)
	}
	if err := http.NewResponseController(w.(http.ResponseWriter)).Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// TestHeaderIsTakenWithTheStatus: trailers come later, through any reference.
func TestHeaderIsTakenWithTheStatus(t *testing.T) {
	w := NewWriter(10, NewBudget(1<<20))
	header := w.Header()
	header.Set("Content-Type", "text/plain")
	w.WriteHeader(103)
	header.Set("A", "1")
	w.WriteHeader(200)
	header.Add("Content-Type", "text/html")
	w.Header().Set("A", "2")
	w.Header().Set(http.TrailerPrefix+"X", "y")
	a, refusal := w.Answer()
	if refusal != nil {
		t.Fatal(refusal)
	}
	if len(a.Header) != 2 || len(a.Header["Content-Type"]) != 1 || a.Header.Get("A") != "1" {
		t.Errorf("header %v", a.Header)
	}
	w.Release()
}

// TestReleasedIsWiped looks at the memory of a body that went back.
func TestReleasedIsWiped(t *testing.T) {
	for _, size := range []int{10, 5000, 1 << maxClass, 1<<maxClass + 1} {
		w := NewWriter(1<<30, NewBudget(1<<30))
		_, _ = io.Copy(w, iotest.HalfReader(bytes.NewReader(bytes.Repeat([]byte("S"), size))))
		a, refusal := w.Answer()
		if refusal != nil {
			t.Fatal(refusal)
		}
		body := a.Body
		w.Release()
		if bytes.IndexByte(body, 'S') >= 0 {
			t.Errorf("%d: not wiped", size)
		}
	}
}

func TestNilWriter(*testing.T) {
	var w *Writer
	w.Release()
}

// An announced answer takes no more memory than itself and a beginning, and a server that
// announces more than it sends gets little.
func TestWriterBelievesWhatHasBegun(t *testing.T) {
	for _, test := range []struct{ announced, sent, most int64 }{
		{1 << 20, 1 << 20, 1<<20 + 4<<10},
		{1 << 20, 100, 4 << 10},
		{1 << 20, 4 << 10, 4 << 10},
		{64 << 20, 8 << 10, 1<<20 + 4<<10},
		{100, 100, 4 << 10},
	} {
		budget := NewBudget(1 << 30)
		w := NewWriter(64<<20, budget)
		w.Header()["Content-Length"] = []string{strconv.FormatInt(test.announced, 10)}
		w.WriteHeader(http.StatusOK)
		for left := test.sent; left > 0; left -= min(left, 1<<10) {
			if _, err := w.Write(make([]byte, min(left, 1<<10))); err != nil {
				t.Fatal(err)
			}
		}
		if _, refusal := w.Answer(); (refusal == nil) != (test.sent == test.announced) {
			t.Errorf("%d of %d: %v", test.sent, test.announced, refusal)
		}
		if peak := budget.Peak(); peak > test.most {
			t.Errorf("%d of %d: %d bytes were held, at most %d", test.sent, test.announced, peak, test.most)
		}
		w.Release()
	}
}
