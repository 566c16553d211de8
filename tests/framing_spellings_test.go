// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"
)

// Whatever a header that frames a body is made to look like, it is read in one
// way or refused, and never forwarded: what arrives has the one length that
// was read. Rows without a reason are refused by Go's server.
func TestFramingTransferEncoding(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	// The header is read as none: there is no body, and the chunks are taken for
	// the next request, which is none.
	const stray = "HTTP/1.1 400 Bad Request"
	read := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\n" + chunks, status: 200, body: "hello"}
	}
	unsupported := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\n" + chunks, status: 501}
	}
	bad := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\n" + chunks, status: 400}
	}
	none := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\n" + chunks, status: 400, reason: "password_empty", next: stray}
	}
	beside := func(name, header string) framing { // a length of 5, which counts
		return framing{name: name + " beside a length", send: postLine + "Content-Length: 5\r\n" + header + "\r\n\r\nhello", status: 200, body: "hello"}
	}
	old := func(name, headers, body string, row framing) framing { // HTTP/1.0 knows no chunks
		row.name = name
		row.send = "POST /openstack/latest/password HTTP/1.0\r\nHost: m\r\n" + headers + "\r\n\r\n" + body
		return row
	}
	f.checkAll(t, []framing{
		read("chunked", "Transfer-Encoding: chunked"),
		read("other case", "tRANSFER-eNCODING: cHUNKED"),
		read("no blank", "Transfer-Encoding:chunked"),
		read("blanks and tabs around", "Transfer-Encoding: \t chunked \t"),
		read("folded", "Transfer-Encoding:\r\n chunked"),
		read("folded with a tab", "Transfer-Encoding:\r\n\tchunked"),
		read("beside a length that is too short", "Content-Length: 3\r\nTransfer-Encoding: chunked"),
		read("beside a length that is too long", "Transfer-Encoding: chunked\r\nContent-Length: 99"),
		read("bare LF", "Transfer-Encoding: chunked\nX: y"),

		unsupported("xchunked", "Transfer-Encoding: xchunked"),
		unsupported("chunkedx", "Transfer-Encoding: chunkedx"),
		unsupported("identity", "Transfer-Encoding: identity"),
		unsupported("identity, chunked", "Transfer-Encoding: identity, chunked"),
		unsupported("gzip", "Transfer-Encoding: gzip"),
		unsupported("gzip, chunked", "Transfer-Encoding: gzip, chunked"),
		unsupported("chunked, gzip", "Transfer-Encoding: chunked, gzip"),
		unsupported("chunked, chunked", "Transfer-Encoding: chunked, chunked"),
		unsupported("a list of one", "Transfer-Encoding: chunked,"),
		unsupported("a list that begins empty", "Transfer-Encoding: ,chunked"),
		unsupported("a parameter", "Transfer-Encoding: chunked;q=1"),
		unsupported("quoted", `Transfer-Encoding: "chunked"`),
		unsupported("single quotes", "Transfer-Encoding: 'chunked'"),
		unsupported("empty", "Transfer-Encoding:"),
		unsupported("NBSP", "Transfer-Encoding: \u00a0chunked"),
		unsupported("NBSP in Latin-1", "Transfer-Encoding: chunked\xa0"),
		unsupported("Cyrillic", "Transfer-Encoding: \u0441hunked"),
		unsupported("long s, as upper case makes it", "Transfer-Encoding: chun\u212aed"),
		unsupported("two headers", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
		unsupported("two headers, the second another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
		unsupported("two headers, the first another", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
		unsupported("two headers beside a length", "Content-Length: 5\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked"),
		unsupported("folded into two", "Transfer-Encoding: chunked\r\n chunked"),
		unsupported("folded in the word", "Transfer-Encoding: chun\r\n ked"),

		bad("blank before the colon", "Transfer-Encoding : chunked"),
		bad("tab before the colon", "Transfer-Encoding\t: chunked"),
		bad("vertical tab", "Transfer-Encoding: \vchunked"),
		bad("form feed", "Transfer-Encoding: chunked\f"),
		bad("CR before", "Transfer-Encoding: \rchunked"),
		bad("CR after", "Transfer-Encoding: chunked\r"),
		bad("CR inside", "Transfer-Encoding: chun\rked"),
		bad("CR for a line end", "X: y\rTransfer-Encoding: chunked"),
		bad("NUL before", "Transfer-Encoding: \x00chunked"),
		bad("NUL after", "Transfer-Encoding: chunked\x00"),
		bad("NUL in the name", "Transfer-Encoding\x00: chunked"),
		bad("DEL", "Transfer-Encoding: chunked\x7f"),
		bad("no colon", "Transfer-Encoding chunked"),
		bad("chunked beside a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x"),
		bad("chunked beside two lengths", "Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked"),
		bad("in a trailer's list", "Transfer-Encoding: chunked\r\nTrailer: Transfer-Encoding"),
		bad("length in a trailer's list", "Transfer-Encoding: chunked\r\nTrailer: Content-Length"),

		none("underscore", "Transfer_Encoding: chunked"),
		none("dot", "Transfer.Encoding: chunked"),
		none("underscore and dot", "Transfer_.Encoding: chunked"),
		none("no hyphen", "TransferEncoding: chunked"),
		none("two hyphens", "Transfer--Encoding: chunked"),
		none("as a folded line of another", "X: y\r\n Transfer-Encoding: chunked"),
		none("TE", "TE: chunked"),
		none("Content-Encoding", "Content-Encoding: chunked"),

		beside("underscore", "Transfer_Encoding: chunked"),
		beside("dot", "Transfer.Encoding: chunked"),
		beside("as a folded line of another", "X: y\r\n Transfer-Encoding: chunked"),
		beside("X-Transfer-Encoding", "X-Transfer-Encoding: chunked"),

		old("HTTP/1.0 beside a length", "Transfer-Encoding: chunked\r\nContent-Length: 5", "hello", framing{status: 200, body: "hello"}),
		old("HTTP/1.0", "Transfer-Encoding: chunked", chunks, framing{status: 400, reason: "password_empty"}),
		old("HTTP/1.0, identity", "Transfer-Encoding: identity\r\nContent-Length: 5", "hello", framing{status: 200, body: "hello"}),
	})
}

// A message of HTTP/1.0 with Transfer-Encoding is framed wrongly, whatever else
// it says, and the connection ends with it (RFC 9112, section 6.1). Go's server
// reads its length and shows nobody the encoding; a proxy in front that read
// the chunks would take the rest for the body, and not for a request.
func TestFramingHTTP10ChunksEndTheConnection(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	f.check(t, framing{
		send: "POST /openstack/latest/password HTTP/1.0\r\nHost: m\r\nConnection: keep-alive\r\n" +
			"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" +
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(getLine)+2, getLine+"\r\n"),
		status: 200, body: fmt.Sprintf("%x\r\n", len(getLine)+2),
	})
}

// A length is a number, once, or the request is refused; and no other spelling
// of its name counts.
func TestFramingContentLength(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	read := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\nhello", status: 200, body: "hello"}
	}
	bad := func(name, header string) framing {
		return framing{name: name, send: postLine + header + "\r\n\r\nhello", status: 400}
	}
	none := func(name, header string) framing {
		return framing{
			name: name, send: postLine + header + "\r\n\r\nhello", status: 400, reason: "password_empty",
			next: "HTTP/1.1 400 Bad Request",
		}
	}
	f.checkAll(t, []framing{
		read("plain", "Content-Length: 5"),
		read("other case", "cONTENT-lENGTH: 5"),
		read("blanks and tabs around", "Content-Length: \t 5 \t"),
		read("zeros before", "Content-Length: 0005"),
		read("twice the same", "Content-Length: 5\r\nContent-Length: 5"),
		read("twice the same, blanks", "Content-Length: 5\r\nContent-Length:  5 "),
		read("five times the same", strings.TrimSuffix(strings.Repeat("Content-Length: 5\r\n", 5), "\r\n")),
		read("folded", "Content-Length:\r\n 5"),
		read("bare LF", "Content-Length: 5\nX: y"),
		read("beside an underscore", "Content-Length: 5\r\nContent_Length: 3"),
		read("beside a dot", "Content.Length: 3\r\nContent-Length: 5"),

		bad("twice, different", "Content-Length: 5\r\nContent-Length: 6"),
		bad("twice, the first shorter", "Content-Length: 3\r\nContent-Length: 5"),
		bad("twice, the same number", "Content-Length: 5\r\nContent-Length: 05"),
		bad("twice, one empty", "Content-Length: 5\r\nContent-Length:"),
		bad("list", "Content-Length: 5, 5"),
		bad("list, different", "Content-Length: 5,6"),
		bad("plus", "Content-Length: +5"),
		bad("minus", "Content-Length: -5"),
		bad("minus one", "Content-Length: -1"),
		bad("minus zero", "Content-Length: -0"),
		bad("hexadecimal", "Content-Length: 0x5"),
		bad("underscore in the number", "Content-Length: 5_0"),
		bad("exponent", "Content-Length: 1e3"),
		bad("fraction", "Content-Length: 5.0"),
		bad("blank inside", "Content-Length: 5 0"),
		bad("folded in the number", "Content-Length: 5\r\n 0"),
		bad("letters after", "Content-Length: 5abc"),
		bad("word", "Content-Length: five"),
		bad("empty", "Content-Length:"),
		bad("blank", "Content-Length:  "),
		bad("quoted", `Content-Length: "5"`),
		bad("Arabic digit", "Content-Length: \u0665"),
		bad("full-width digit", "Content-Length: \uff15"),
		bad("NBSP", "Content-Length: 5\u00a0"),
		bad("2^63", "Content-Length: 9223372036854775808"),
		bad("2^64+5", "Content-Length: 18446744073709551621"),
		bad("23 digits", "Content-Length: 99999999999999999999999"),
		bad("NUL", "Content-Length: 5\x00"),
		bad("CR", "Content-Length: 5\r"),
		bad("vertical tab", "Content-Length: \v5"),
		bad("blank before the colon", "Content-Length : 5"),
		bad("NUL in the name", "Content\x00-Length: 5"),

		none("underscore", "Content_Length: 5"),
		none("dot", "Content.Length: 5"),
		none("no hyphen", "ContentLength: 5"),
		none("X-Content-Length", "X-Content-Length: 5"),
		none("none at all", "X: y"),

		{name: "2^63-1", send: postLine + "Content-Length: 9223372036854775807\r\n\r\nhello", status: 413, reason: "body_too_large"},
		{name: "4 GiB and 5", send: postLine + "Content-Length: 4294967301\r\n\r\nhello", status: 413, reason: "body_too_large"},
		{name: "line by line, bare LF", send: strings.ReplaceAll(postLine, "\r", "") + "Content-Length: 5\n\nhello", status: 200, body: "hello"},
	})
}

// Chunks are read strictly; extensions and trailers go nowhere.
func TestFramingChunks(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	read := func(name, chunks string) framing {
		return framing{name: name, send: postLine + "Transfer-Encoding: chunked\r\n\r\n" + chunks, status: 200, body: "hello"}
	}
	bad := func(name, chunks string) framing {
		return framing{name: name, send: postLine + "Transfer-Encoding: chunked\r\n\r\n" + chunks, status: 400, reason: "body_incomplete"}
	}
	f.checkAll(t, []framing{
		read("plain", "5\r\nhello\r\n0\r\n\r\n"),
		read("zeros before", "005\r\nhello\r\n000\r\n\r\n"),
		read("blanks after the size", "5 \t\r\nhello\r\n0 \r\n\r\n"),
		read("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n"),
		read("extension that looks like a size", "5;0\r\nhello\r\n0;5\r\n\r\n"),
		read("extension of 1,000 bytes", "5;"+strings.Repeat("x", 1000)+"\r\nhello\r\n0\r\n\r\n"),
		read("undeclared trailer", "5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
		read("trailer with a length", "5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n"),
		read("trailer with an encoding", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
		read("trailer with an identity", "5\r\nhello\r\n0\r\nX-Instance-ID: "+instance2+"\r\nX_Tenant_ID: x\r\n\r\n"),
		read("folded trailer", "5\r\nhello\r\n0\r\nX-T: 1\r\n 2\r\n\r\n"),

		bad("no size", "\r\nhello\r\n0\r\n\r\n"),
		bad("letters", "zz\r\nhello\r\n0\r\n\r\n"),
		bad("blank before", " 5\r\nhello\r\n0\r\n\r\n"),
		bad("plus", "+5\r\nhello\r\n0\r\n\r\n"),
		bad("minus", "-5\r\nhello\r\n0\r\n\r\n"),
		bad("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
		bad("underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
		bad("decimal point", "5.0\r\nhello\r\n0\r\n\r\n"),
		bad("17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
		bad("2^64", "10000000000000000\r\nhello\r\n0\r\n\r\n"),
		bad("full-width digit", "\uff15\r\nhello\r\n0\r\n\r\n"),
		bad("NUL", "5\x00\r\nhello\r\n0\r\n\r\n"),
		bad("quoted", "\"5\"\r\nhello\r\n0\r\n\r\n"),
		bad("bare LF", "5\nhello\n0\n\n"),
		bad("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
		bad("bare LF in an extension", "5;a\n\r\nhello\r\n0\r\n\r\n"),
		bad("CR in the size line", "5\r;a\r\nhello\r\n0\r\n\r\n"),
		bad("two CR", "5\r\r\nhello\r\n0\r\n\r\n"),
		bad("longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
		bad("no line end after the chunk", "5\r\nhello0\r\n\r\n"),
		bad("bare LF after the chunk", "5\r\nhello\n0\r\n\r\n"),
		bad("trailer without a colon", "5\r\nhello\r\n0\r\nX-T\r\n\r\n"),
		bad("trailer of 5,000 bytes", "5\r\nhello\r\n0\r\nX-T: "+strings.Repeat("x", 5000)+"\r\n\r\n"),
		bad("size line of 5,000 bytes", "5;"+strings.Repeat("x", 5000)+"\r\nhello\r\n0\r\n\r\n"),
		bad("more extensions than body", strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\na\r\n", 20)+"0\r\n\r\n"),

		{
			name: "declared trailer with an identity", status: 400, reason: "header_refused",
			send: postLine + "Trailer: X-Instance-ID\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Instance-ID: " + instance2 + "\r\n\r\n",
		},
		{name: "size of 2^63", status: 413, reason: "body_too_large", send: postLine + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n" + passwordOf(2000)},
		{
			name: "after the end", send: postLine + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nmore\r\n\r\n",
			status: 200, body: "hello", next: "HTTP/1.1 400 Bad Request",
		},
	})
}
