// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// passwordOf is a password of that many bytes, in which every byte's place can be told.
func passwordOf(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%d.", i)
	}
	return b.String()[:size]
}

// outcomeOf is what a password of that size comes to.
func outcomeOf(size int) (status int, reason string) {
	switch {
	case size == 0:
		return 400, "password_empty"
	case size > 1020:
		return 413, "body_too_large"
	}
	return 200, ""
}

// Every size in every framing comes to the same: one canonical request, byte
// for byte, or nothing.
func TestFramingSizes(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	ways := []struct {
		name  string
		frame func(body string) string
		limit int // the largest body that is worth sending so, 0: any
	}{
		{"length", func(body string) string { return postLine + withLength(body) }, 0},
		{"length, HTTP/1.0", func(body string) string {
			return "POST /openstack/latest/password HTTP/1.0\r\nHost: m\r\n" + withLength(body)
		}, 0},
		{"length, HTTP/1.0, keep-alive, no Host", func(body string) string {
			return "POST /openstack/latest/password HTTP/1.0\r\nConnection: keep-alive\r\n" + withLength(body)
		}, 0},
		{"length twice", func(body string) string {
			return postLine + fmt.Sprintf("Content-Length: %d\r\n", len(body)) + withLength(body)
		}, 0},
		{"length with zeros", func(body string) string {
			return postLine + fmt.Sprintf("Content-Length: 000%d\r\n\r\n%s", len(body), body)
		}, 0},
		{"one chunk", func(body string) string { return postLine + chunked(body, "", max(1, len(body))) }, 0},
		{"chunks of 4,096", func(body string) string { return postLine + chunked(body, "", 4096) }, 0},
		{"chunks of 7", func(body string) string { return postLine + chunked(body, "", 7) }, 5000},
		{"chunks of 1", func(body string) string { return postLine + chunked(body, "", 1) }, 5000},
		{"chunks with extensions", func(body string) string {
			return postLine + chunked(body, `;name=value;"quoted\"; 0"; alone`, 300)
		}, 0},
		{"chunks with trailers", func(body string) string {
			return postLine + "Trailer: X-Checksum\r\n" + strings.TrimSuffix(chunked(body, "", 300), "\r\n") + "X-Checksum: 1\r\nContent-Length: 3\r\nX_Instance_ID: " + instance2 + "\r\n\r\n"
		}, 0},
		{"chunked beside its length", func(body string) string {
			return postLine + fmt.Sprintf("Content-Length: %d\r\n", len(body)) + chunked(body, "", 300)
		}, 0},
		{"chunked beside length 0", func(body string) string { return postLine + "Content-Length: 0\r\n" + chunked(body, "", 300) }, 0},
	}
	var rows []framing
	for _, way := range ways {
		for _, size := range []int{0, 1, 344, 1019, 1020, 1021, 5000, 10_000_000} {
			if way.limit > 0 && size > way.limit {
				continue
			}
			body := passwordOf(size)
			status, reason := outcomeOf(size)
			rows = append(rows, framing{name: fmt.Sprintf("%s/%d", way.name, size), send: way.frame(body), status: status, reason: reason, body: body})
		}
	}
	f.checkAll(t, rows)
}

// In how many packets a request comes, and where they are cut, makes no
// difference.
func TestFramingPieces(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	body := passwordOf(344)
	for name, send := range map[string]string{
		"length":  postLine + withLength(body),
		"chunked": postLine + chunked(body, ";e", 50),
		"trailer": postLine + strings.TrimSuffix(chunked(body, "", 100), "\r\n") + "X-T: 1\r\n\r\n",
	} {
		head := strings.Index(send, "\r\n\r\n") + 4
		for _, pieces := range map[string][]string{
			"head and body":          {send[:head], send[head:]},
			"in the head":            {send[:10], send[10:]},
			"before the last byte":   {send[:len(send)-1], send[len(send)-1:]},
			"before the empty line":  {send[:head-2], send[head-2:]},
			"in a line end":          {send[:head-1], send[head-1:]},
			"byte by byte":           inPieces(send, 1),
			"body in pieces of 100":  append([]string{send[:head]}, inPieces(send[head:], 100)...),
			"head one byte too many": {send[:head+1], send[head+1:]},
		} {
			from := f.caller(t)
			answer := harness.Dial(t, from, f.address).Send(pieces...).Answer("POST")
			if answer.Status != 200 {
				t.Errorf("%s in %d pieces: %d %q %v", name, len(pieces), answer.Status, answer.Body, answer.Err)
			}
			f.wantArrived(t, f.written("1.1", from, body))
		}
	}
}

// A body that breaks off is refused, wherever it does and however large it
// was to be, and nothing of it arrives.
func TestFramingEarlyClose(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	incomplete := func(name, send string) framing {
		return framing{name: name, send: postLine + send, cut: true, status: 400, reason: "body_incomplete"}
	}
	rows := []framing{
		{name: "head alone, too large", send: postLine + "Content-Length: 10000000\r\n\r\n", cut: true, status: 413, reason: "body_too_large"},
		incomplete("head alone, length", "Content-Length: 344\r\n\r\n"),
		incomplete("head alone, chunked", "Transfer-Encoding: chunked\r\n\r\n"),
		incomplete("in a size line", "Transfer-Encoding: chunked\r\n\r\n3"),
		incomplete("after a size", "Transfer-Encoding: chunked\r\n\r\n3\r\n"),
		incomplete("in a chunk", "Transfer-Encoding: chunked\r\n\r\n3\r\nab"),
		incomplete("after a chunk", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc"),
		incomplete("after a chunk's line end", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
		incomplete("in the last size", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0"),
		incomplete("after the last size", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
		incomplete("in the last line end", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r"),
		incomplete("in a trailer", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n"),
	}
	for _, size := range []int{344, 1019, 1020} {
		body := passwordOf(size)
		rows = append(rows,
			incomplete(fmt.Sprintf("one byte of %d missing", size), fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body[1:])),
			incomplete(fmt.Sprintf("last chunk of %d missing", size), strings.TrimSuffix(chunked(body, "", 100), "0\r\n\r\n")))
	}
	f.checkAll(t, rows)

	// Who breaks the connection off gets no answer, and is published.
	before := len(f.decisions(t, 0))
	resets := []string{
		"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	}
	for _, send := range resets {
		client := harness.Dial(t, f.caller(t), f.address).Send(postLine + send)
		if !client.Silent(100 * time.Millisecond) {
			t.Errorf("%q: answered before its body is there", send)
		}
		client.Reset()
	}
	for _, line := range f.decisions(t, before+len(resets))[before:] {
		if line["reason"] != "body_incomplete" || line["outcome"] != "aborted" {
			t.Errorf("%v", line)
		}
	}
	f.wantArrived(t)
}
