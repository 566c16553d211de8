// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
)

// exactly is an answer that says its length.
func exactly(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// An answer ends where net/http says so, or it is not known where.
func TestAnswerEnd(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for text, exact := range map[string]bool{
		exactly("hello"): true,
		exactly(""):      true,
		"HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno":                  true,
		"HTTP/1.1 200\r\ncontent-length:   3\t\r\n\r\nxyz":                 true,
		ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nxyz":           false,
		ok + "Content-Length: 3, 3\r\n\r\nxyz":                             false,
		ok + "Content-Length: +3\r\n\r\nxyz":                               false,
		ok + "Content-Length: 3\r\nTransfer-Encoding: identity\r\n\r\nxyz": false,
		ok + "Content-Length : 3\r\n\r\nxyz":                               false,
		ok + "X: y\r\n Content-Length: 3\r\n\r\nxyz":                       false,
		ok + "X: y\rz\r\nContent-Length: 3\r\n\r\nxyz":                     false,
		ok + "\r\nxyz": false,
		"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nxyz":        false,
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n":   false,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n": false,
		"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n":  false,
		"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nxyz":       false,
		"nonsense": false,
	} {
		for _, size := range []int{1, 2, 7, len(text)} {
			var e AnswerEnd
			for part := []byte(text); len(part) > 0; part = part[min(size, len(part)):] {
				if rest := e.Add(part[:min(size, len(part))]); rest != 0 {
					t.Errorf("%q in parts of %d: %d bytes too many", text, size, rest)
				}
			}
			if e.Exact() != exact || e.Ended() != exact {
				t.Errorf("%q in parts of %d: %+v", text, size, e)
			}
		}
	}
}

// Where an answer ends exactly, net/http takes it to end there, too.
func FuzzAnswerEnd(f *testing.F) {
	f.Add([]byte(exactly("hello") + "more"))
	f.Add([]byte("HTTP/1.1 200 OK\nContent-Length: 1\n\nxy"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e AnswerEnd
		rest := e.Add(text)
		if !e.Ended() {
			return
		}
		from := bytes.NewReader(text)
		answer, err := http.ReadResponse(bufio.NewReader(iotest.OneByteReader(from)), &http.Request{Method: http.MethodGet})
		if err != nil {
			return // nobody gets it
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if from.Len() > rest {
			t.Errorf("%q: net/http left %d bytes, and %d are beyond the end", text, from.Len(), rest)
		}
		if from.Len() < rest {
			t.Errorf("%q: net/http read %d bytes beyond the end", text, rest-from.Len())
		}
	})
}
