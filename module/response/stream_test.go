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

	"github.com/metaguard/metaguard/module/decision"
)

// However the body comes, up to the limit nothing passes, and beyond it all
// does, in order and once.
func TestStream(t *testing.T) {
	const limit = 8
	for body, streams := range map[string]bool{
		"": false, "1234567": false, "12345678": false, "123456789": true, strings.Repeat("0123456789", 10_000): true,
	} {
		for name, feed := range map[string]func(*Writer) error{
			"Write at once":    func(w *Writer) error { _, err := w.Write([]byte(body)); return err },
			"Write in pieces":  func(w *Writer) error { return pieces(w, body, 3) },
			"ReadFrom":         func(w *Writer) error { _, err := w.ReadFrom(strings.NewReader(body)); return err },
			"ReadFrom, slowly": func(w *Writer) error { _, err := w.ReadFrom(iotest.HalfReader(strings.NewReader(body))); return err },
			"both": func(w *Writer) error {
				half := len(body) / 2
				_, err := w.Write([]byte(body[:half]))
				if err == nil {
					_, err = w.ReadFrom(strings.NewReader(body[half:]))
				}
				return err
			},
		} {
			for _, declared := range []int{-1, len(body)} {
				t.Run(name, func(t *testing.T) {
					budget := NewBudget(1 << 20)
					w := NewWriter(limit, budget)
					var client bytes.Buffer
					begun := 0
					w.Stream(func(a *Answer, length int64) (io.Writer, *decision.Refusal) {
						if begun++; a.Status != 200 || length != int64(declared) || client.Len() > 0 {
							t.Errorf("begun with %d, %d", a.Status, length)
						}
						return &client, nil
					})
					if declared >= 0 {
						w.Header().Set("Content-Length", strconv.Itoa(declared))
					}
					w.WriteHeader(http.StatusOK)
					if err := feed(w); err != nil {
						t.Fatal(err)
					}
					a, refusal := w.Answer()
					if refusal != nil || w.Streaming() != streams || begun > 1 {
						t.Fatalf("%v, streaming %t, begun %d times", refusal, w.Streaming(), begun)
					}
					if got := client.String(); streams && (got != body || len(a.Body) > 0 || budget.InUse() != 0) || !streams && (got != "" || string(a.Body) != body) {
						t.Errorf("passed %d bytes, kept %d, %d in use", len(got), len(a.Body), budget.InUse())
					}
					w.Release()
				})
			}
		}
	}
}

func pieces(w io.Writer, body string, size int) error {
	for rest := body; rest != ""; {
		n := min(size, len(rest))
		if _, err := io.WriteString(w, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// A stream that cannot begin, that breaks off or is not what was declared is
// refused, and nothing more passes.
func TestBrokenStreams(t *testing.T) {
	const body = "0123456789abcdef"
	gone := errors.New("gone")
	for name, test := range map[string]struct {
		begin    func(client io.Writer) (io.Writer, *decision.Refusal)
		declared string
		end      func(*Writer)
		code     string
		passed   string
	}{
		"refused": {
			begin: func(io.Writer) (io.Writer, *decision.Refusal) {
				return nil, decision.Refuse(decision.ResponseTooLarge, "no")
			},
			code: "response_too_large/no",
		},
		"the client is gone": {
			begin: func(io.Writer) (io.Writer, *decision.Refusal) { return brokenClient{gone}, nil },
			code:  "response_incomplete/client_write",
		},
		"aborted":              {end: (*Writer).Abort, code: "response_incomplete/body_cut", passed: body},
		"shorter than it said": {declared: "17", code: "response_incomplete/body_length", passed: body},
		"the server is gone": {
			end:  func(w *Writer) { _, _ = w.ReadFrom(iotest.ErrReader(gone)) },
			code: "response_incomplete/body_cut", passed: body,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWriter(8, NewBudget(1<<20))
			var client bytes.Buffer
			w.Stream(func(*Answer, int64) (io.Writer, *decision.Refusal) {
				if test.begin != nil {
					return test.begin(&client)
				}
				return &client, nil
			})
			if test.declared != "" {
				w.Header().Set("Content-Length", test.declared)
			}
			_, err := w.Write([]byte(body))
			if test.end != nil {
				test.end(w)
			}
			_, refusal := w.Answer()
			if code(refusal) != test.code || client.String() != test.passed {
				t.Errorf("%s, passed %q", code(refusal), client.String())
			}
			if test.passed == "" && err == nil {
				t.Error("the server is read on")
			}
			if test.declared == "" {
				if n, err := w.Write([]byte("more")); err == nil || n != 0 || client.String() != test.passed {
					t.Errorf("after the end %d bytes passed, %v", n, err)
				}
			}
			w.Release()
		})
	}
}

type brokenClient struct{ error }

func (c brokenClient) Write([]byte) (int, error) { return 0, c.error }

// A 304 may declare the length of what it stands for.
func TestNotModifiedDeclaresNothing(t *testing.T) {
	w := NewWriter(8, NewBudget(1<<20))
	w.Header().Set("Content-Length", "5000")
	w.WriteHeader(http.StatusNotModified)
	a, refusal := w.Answer()
	if refusal == nil {
		refusal = Normalize(a, nil)
	}
	if code(refusal) != "response_unreadable/not_modified" {
		t.Error(code(refusal))
	}
}
