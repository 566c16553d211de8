// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"
)

// Heads of the scripted server's answers, without the blank line.
const (
	okHead      = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
	chunkedHead = okHead + "Transfer-Encoding: chunked\r\n"
	oldHead     = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
)

// Whatever way the server frames an answer, the client gets it with its length,
// or not at all.
func TestAnswerFraming(t *testing.T) {
	t.Parallel()
	const malformed, closed, cut = "response_incomplete/malformed", "response_incomplete/closed", "response_incomplete/body_cut"
	// Go's client reads "Content-Length :" as another header's name, where other
	// readers see a length: that of a cut answer, for example.
	const nameless = "response_unreadable/header_name"
	s := newAnswerSite(t, byAddress, "", nil)
	s.run(t, []answerCase{
		// One length.
		{name: "length", server: okHead + "Content-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "length 0", server: okHead + "Content-Length: 0\r\n\r\n", status: 200},
		{name: "length in other letters", server: okHead + "cONTENT-lENGTH:3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "length with a zero before it", server: okHead + "Content-Length: 003\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "length with blanks around it", server: okHead + "Content-Length: \t 3 \t\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "bytes of any value", server: okHead + "Content-Length: 8\r\n\r\n\x00\xff\r\n\r\n0\n", status: 200, body: "\x00\xff\r\n\r\n0\n"},
		{name: "fewer than the length", server: okHead + "Content-Length: 8\r\n\r\n" + planted, status: 502, code: cut},
		{name: "nothing of the length", server: okHead + "Content-Length: 1\r\n\r\n", status: 502, code: cut},
		{name: "length with a plus", server: okHead + "Content-Length: +7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length below 0", server: okHead + "Content-Length: -7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length in hex", server: okHead + "Content-Length: 0x7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length with a dot", server: okHead + "Content-Length: 7.0\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length without a number", server: okHead + "Content-Length: \r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length over 64 bits", server: okHead + "Content-Length: 18446744073709551623\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "length in Arabic digits", server: okHead + "Content-Length: \u0667\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "blank before the colon", server: okHead + "Content-Length : 8\r\n\r\n" + planted, status: 502, code: nameless},
		{name: "blank in the name", server: okHead + "Content Length: 8\r\n\r\n" + planted, status: 502, code: nameless},

		// Two lengths.
		{name: "the same length twice", server: okHead + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "a smaller length second", server: okHead + "Content-Length: 8\r\nContent-Length: 7\r\n\r\n" + planted + "x", status: 502, code: malformed},
		{name: "a larger length second", server: okHead + "Content-Length: 7\r\nContent-Length: 8\r\n\r\n" + planted + "x", status: 502, code: malformed},
		{name: "one length in two spellings", server: okHead + "Content-Length: 7\r\nContent-Length: 07\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "the same length as a list", server: okHead + "Content-Length: 7, 7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "two lengths as a list", server: okHead + "Content-Length: 7, 8\r\n\r\n" + planted + "x", status: 502, code: malformed},

		// Garbage behind the end is not the answer's, nor the next one's.
		{name: "more than the length", server: okHead + "Content-Length: 3\r\n\r\nxyz" + planted, status: 200, body: "xyz"},
		{name: "more than nothing", server: okHead + "Content-Length: 0\r\n\r\n" + planted, status: 200},
		{name: "a second answer behind it", server: okHead + "Content-Length: 3\r\n\r\nxyz" + okHead + "Content-Length: 7\r\n\r\n" + planted, status: 200, body: "xyz"},
		{name: "garbage behind the last chunk", server: chunkedHead + "\r\n3\r\nxyz\r\n0\r\n\r\n" + planted, status: 200, body: "xyz"},
		{name: "a second answer behind the last chunk", server: chunkedHead + "\r\n3\r\nxyz\r\n0\r\n\r\n" + okHead + "Content-Length: 7\r\n\r\n" + planted, status: 200, body: "xyz"},

		// Chunks.
		{name: "chunked", server: chunkedHead + "\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "chunked, in other letters", server: okHead + "tRANSFER-eNCODING: ChUnKeD\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "no chunk but the last", server: chunkedHead + "\r\n0\r\n\r\n", status: 200},
		{name: "chunk extensions", server: chunkedHead + "\r\n3;a=b;c=\"d\"\r\nxyz\r\n0;e\r\n\r\n", status: 200, body: "xyz"},
		{name: "chunk sizes in hex", server: chunkedHead + "\r\n0A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", status: 200, body: "01234567890123456789a"},
		{name: "what looks like chunks in a chunk", server: chunkedHead + "\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n", status: 200, body: "0\r\n\r\n"},
		{name: "last chunk missing", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n", status: 502, code: cut},
		{name: "end of the last chunk missing", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n0\r\n", status: 502, code: cut},
		{name: "cut in a chunk", server: chunkedHead + "\r\n8\r\n" + planted, status: 502, code: cut},
		{name: "no chunk at all", server: chunkedHead + "\r\n", status: 502, code: cut},
		{name: "no chunks in it", server: chunkedHead + "\r\n" + planted, status: 502, code: cut},
		{name: "chunk longer than it says", server: chunkedHead + "\r\n7\r\n" + planted + "x\r\n0\r\n\r\n", status: 502, code: cut},
		{name: "chunk size below 0", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n-1\r\n\r\n", status: 502, code: cut},
		{name: "chunk size with 0x", server: chunkedHead + "\r\n0x7\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: cut},
		{name: "chunk size over 64 bits", server: chunkedHead + "\r\n10000000000000007\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: cut},
		{name: "chunk without a size", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n\r\n0\r\n\r\n", status: 502, code: cut},
		{name: "chunk lines that end in LF", server: chunkedHead + "\r\n7\n" + planted + "\n0\n\n", status: 502, code: cut},
		{name: "chunk with an endless extension", server: chunkedHead + "\r\n7;" + strings.Repeat("x", 20_000) + "\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: cut},

		// Trailers are dropped, and cannot add to the head.
		{name: "trailer", server: chunkedHead + "Trailer: X-Sum\r\n\r\n3\r\nxyz\r\n0\r\nX-Sum: 1\r\n\r\n", status: 200, body: "xyz"},
		{name: "trailer that nobody announced", server: chunkedHead + "\r\n3\r\nxyz\r\n0\r\nETag: \"1\"\r\nSet-Cookie: a=b\r\n\r\n", status: 200, body: "xyz"},
		{name: "trailer with a header that passes", server: chunkedHead + "Trailer: ETag, Content-Type\r\n\r\n3\r\nxyz\r\n0\r\nETag: \"1\"\r\nContent-Type: text/html\r\n\r\n", status: 200, body: "xyz"},
		{name: "trailer announced and missing", server: chunkedHead + "Trailer: X-Sum\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "trailer announced for a length", server: okHead + "Trailer: X-Sum\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "trailer that frames", server: chunkedHead + "Trailer: Content-Length\r\n\r\n7\r\n" + planted + "\r\n0\r\nContent-Length: 1\r\n\r\n", status: 502, code: malformed},
		{name: "trailer cut", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n0\r\nX-Sum: 1\r\n", status: 502, code: cut},
		{name: "trailer that is none", server: chunkedHead + "\r\n7\r\n" + planted + "\r\n0\r\nno trailer\r\n\r\n", status: 502, code: cut},

		// Both framings: chunks win, as RFC 9112 has it, and what is no coding
		// that Go knows is refused.
		{name: "both framings, agreeing", server: chunkedHead + "Content-Length: 3\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "both framings, a smaller length", server: chunkedHead + "Content-Length: 1\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "both framings, a larger length first", server: okHead + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "xyz"},
		{name: "both framings, the chunks are cut where the length ends", server: chunkedHead + "Content-Length: 10\r\n\r\n7\r\n" + planted, status: 502, code: cut},
		{name: "both framings, no chunks", server: chunkedHead + "Content-Length: 7\r\n\r\n" + planted, status: 502, code: cut},
		{name: "both framings, two lengths", server: chunkedHead + "Content-Length: 7\r\nContent-Length: 8\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: malformed},
		{name: "chunked twice", server: chunkedHead + "Transfer-Encoding: chunked\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: malformed},
		{name: "chunked twice in a list", server: okHead + "Transfer-Encoding: chunked, chunked\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: malformed},
		{name: "gzip, chunked", server: okHead + "Transfer-Encoding: gzip, chunked\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 502, code: malformed},
		{name: "identity", server: okHead + "Transfer-Encoding: identity\r\nContent-Length: 7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "almost chunked", server: okHead + "Transfer-Encoding: xchunked\r\nContent-Length: 7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "chunked behind a VT", server: okHead + "Transfer-Encoding: \vchunked\r\nContent-Length: 7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "blank before the colon of chunked", server: okHead + "Transfer-Encoding : chunked\r\n\r\n7\r\n" + planted + "\r\n", status: 502, code: nameless},
		{name: "an underscore makes it another header", server: okHead + "Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},

		// The end of the connection, which cannot be told from a cut.
		{name: "close", server: okHead + "\r\nxyz", status: 200, body: "xyz"},
		{name: "close at once", server: okHead + "\r\n", status: 200},
		{name: "close, long", server: okHead + "\r\n" + strings.Repeat("0123456789", 10_000), status: 200, body: strings.Repeat("0123456789", 10_000)},
		{name: "Connection: close", server: okHead + "Connection: close\r\n\r\nxyz", status: 200, body: "xyz"},

		// Other versions. uWSGI echoes the one that it was asked in.
		{name: "HTTP/1.0", server: oldHead + "\r\nxyz", status: 200, body: "xyz"},
		{name: "HTTP/1.0 and length", server: oldHead + "Content-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "HTTP/1.0, cut", server: oldHead + "Content-Length: 8\r\n\r\n" + planted, status: 502, code: cut},
		{name: "HTTP/1.0 keep-alive", server: oldHead + "Connection: keep-alive\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "HTTP/1.0 knows no chunks", server: oldHead + "Transfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", status: 200, body: "3\r\nxyz\r\n0\r\n\r\n"},
		{name: "HTTP/2.0", server: "HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "an echo of more than a version", server: "HTTP/1.1 x HTTP/1.1 200 OK\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "HTTP/0.9", server: planted, status: 502, code: malformed},
		{name: "no HTTP", server: planted + "\r\n\r\n", status: 502, code: malformed},
		{name: "ICY", server: "ICY 200 OK\r\n\r\n" + planted, status: 502, code: malformed},

		// The head.
		{name: "nothing", server: "", status: 502, code: closed},
		{name: "no reason phrase", server: "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "head lines that end in LF", server: "HTTP/1.1 200 OK\nContent-Length: 3\n\nxyz", status: 200, body: "xyz"},
		{name: "folded header", server: "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "header without a colon", server: okHead + planted + "\r\nContent-Length: 0\r\n\r\n", status: 502, code: malformed},
		{name: "header without a name", server: okHead + ": " + planted + "\r\nContent-Length: 0\r\n\r\n", status: 502, code: malformed},
		{name: "head over the limit", server: okHead + "X-Long: " + strings.Repeat("x", 70_000) + "\r\nContent-Length: 7\r\n\r\n" + planted, status: 502, code: malformed},

		// Informational answers are no answer.
		{name: "100 first", server: "HTTP/1.1 100 Continue\r\n\r\n" + okHead + "Content-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "103 with headers first", server: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nETag: \"1\"\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\n\r\n" + okHead + "Content-Length: 3\r\n\r\nxyz", status: 200, body: "xyz"},
		{name: "103 in HTTP/1.0 first", server: "HTTP/1.0 103 Early Hints\r\n\r\n" + oldHead + "\r\nxyz", status: 200, body: "xyz"},
		{name: "several first", server: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 199 x\r\n\r\n" + okHead + "\r\nxyz", status: 200, body: "xyz"},
		{name: "103, then a cut answer", server: "HTTP/1.1 103 Early Hints\r\n\r\n" + okHead + "Content-Length: 8\r\n\r\n" + planted, status: 502, code: cut},
		{name: "nothing but 100", server: "HTTP/1.1 100 Continue\r\n\r\n", status: 502, code: closed},
		{name: "a body behind 103", server: "HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n" + planted, status: 502, code: malformed},
		{name: "nothing but informational", server: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 5000), status: 502, code: closed},
	})
}

// An answer is as long as max_buffer, or shorter, or refused, however its
// length becomes known.
func TestAnswerOverMaxBuffer(t *testing.T) {
	t.Parallel()
	const declared, over = "response_too_large/declared_over_limit", "response_too_large/over_limit"
	exact := strings.Repeat("0123456789abcdef", 64)
	long := planted + exact[len(planted)-1:]
	chunks := func(body string) string {
		var b strings.Builder
		for from := 0; from < len(body); from += 100 {
			part := body[from:min(from+100, len(body))]
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
		}
		return chunkedHead + "\r\n" + b.String() + "0\r\n\r\n"
	}
	document := `{"a": "` + strings.Repeat("x", 1024-len(`{"a": ""}`)) + `"}`
	s := newAnswerSite(t, byAddress+"\nresponse {\n\tmax_buffer 1KiB\n}", "", nil)
	s.run(t, []answerCase{
		{name: "length, at the limit", server: okHead + "Content-Length: 1024\r\n\r\n" + exact, status: 200, body: exact},
		{name: "length, over it", server: okHead + "Content-Length: 1025\r\n\r\n" + long, status: 502, code: declared},
		{name: "length, far over it", server: okHead + "Content-Length: 9223372036854775807\r\n\r\n" + long, status: 502, code: declared},
		{name: "length, in it, but more came", server: okHead + "Content-Length: 3\r\n\r\nxyz" + long, status: 200, body: "xyz"},
		{name: "chunked, at the limit", server: chunks(exact), status: 200, body: exact},
		{name: "chunked, over it", server: chunks(long), status: 502, code: over},
		{name: "one chunk over it", server: chunkedHead + "\r\n401\r\n" + long + "\r\n0\r\n\r\n", status: 502, code: over},
		{name: "chunk that claims more than there is memory", server: chunkedHead + "\r\n7fffffffffffffff\r\n" + long, status: 502, code: over},
		{name: "close, at the limit", server: okHead + "\r\n" + exact, status: 200, body: exact},
		{name: "close, over it", server: okHead + "\r\n" + long, status: 502, code: over},
		{name: "HTTP/1.0, over it", server: oldHead + "\r\n" + long, status: 502, code: over},
		{name: "far over it", server: okHead + "\r\n" + strings.Repeat(long, 200), status: 502, code: over},
		{name: "document, at the limit", path: jsonPath, server: okHead + "\r\n" + document, status: 200, body: document},
		{name: "document, over it, whole in it", path: jsonPath, server: okHead + "\r\n" + document + " ", status: 502, code: over},
		{name: "listing, over it", path: listingPath, server: okHead + "\r\n" + long, status: 502, code: over},
		{name: "error page, over it", server: "HTTP/1.1 404 Not Found\r\n\r\n" + long, status: 502, code: over},
	})
}
