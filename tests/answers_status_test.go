// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// says is a whole answer with a length.
func says(status, headers, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, headers, len(body), body)
}

// Statuses that are a whole answer by themselves pass, with the body of a
// success and the status text of an error; all others are refused.
func TestAnswerStatus(t *testing.T) {
	t.Parallel()
	const redirect, notModified, partial = "upstream_redirect/redirect", "response_unreadable/not_modified", "response_unreadable/partial_content"
	const noBody, invalid, switching = "response_unreadable/body_not_allowed", "response_unreadable/status_invalid", "response_unreadable/switching_protocols"
	const malformed = "response_incomplete/malformed"
	table := []answerCase{
		{name: "101", server: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + planted, status: 502, code: switching},
		{name: "101 without Upgrade", server: "HTTP/1.1 101 Switching Protocols\r\n\r\n" + okHead + "\r\n" + planted, status: 502, code: switching},
		{name: "200", server: says("200 OK", "", "xyz"), status: 200, body: "xyz"},
		{name: "201", server: says("201 Created", "Location: /there\r\n", "xyz"), status: 201, body: "xyz"},
		{name: "202", server: says("202 Accepted", "", "xyz"), status: 202, body: "xyz"},
		{name: "203", server: says("203 Other", "", "xyz"), status: 203, body: "xyz"},
		{name: "299", server: says("299 What", "", "xyz"), status: 299, body: "xyz"},
		{name: "204", server: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{name: "204 with a type", server: "HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n", status: 204},
		{name: "204 and length 0", server: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", status: 204},
		{name: "204 and a body", server: says("204 No Content", "", planted), status: 502, code: "response_incomplete/body_length"},
		{name: "204 and a body without a length", server: "HTTP/1.1 204 No Content\r\n\r\n" + planted, status: 204},
		{name: "204 and chunks", server: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 204},
		{name: "205", server: says("205 Reset", "", ""), status: 205},
		{name: "205 and a body", server: says("205 Reset", "", planted), status: 502, code: noBody},
		{name: "206", server: says("206 Partial Content", "Content-Range: bytes 0-6/99\r\n", planted), status: 502, code: partial},
		{name: "206 of all", server: says("206 Partial Content", "Content-Range: bytes 0-6/7\r\n", planted), status: 502, code: partial},
		{name: "206 in parts", server: says("206 Partial Content", "Content-Type: multipart/byteranges; boundary=x\r\n", planted), status: 502, code: partial},
		{name: "200 with a range", server: says("200 OK", "Content-Range: bytes 0-2/9\r\nAccept-Ranges: bytes\r\n", "xyz"), status: 200, body: "xyz"},
		{name: "226", server: says("226 IM Used", "IM: feed\r\n", planted), status: 502, code: "response_unreadable/delta"},
		{name: "304", server: "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", status: 502, code: notModified},
		{name: "304 and length 0", server: "HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n", status: 502, code: notModified},
		{name: "304 and the length of what was not sent", server: "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", status: 502, code: notModified},
		{name: "400 and a cut page", server: "HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n\r\n" + planted, status: 502, code: "response_incomplete/body_cut"},
		{name: "404 in chunks", server: "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + planted + "\r\n0\r\n\r\n", status: 404, body: "Not Found\n"},
		{name: "404 until the end", server: "HTTP/1.0 404 Not Found\r\n\r\n" + planted, status: 404, body: "Not Found\n"},
		{name: "499", server: says("499 Client Closed", "", planted), status: 499, body: "\n"},
		{name: "600", server: says("600 What", "", planted), status: 502, code: invalid},
		{name: "999", server: says("999 What", "", planted), status: 502, code: invalid},
		{name: "099", server: says("099 What", "", planted), status: 502, code: invalid},
		{name: "000", server: says("000 What", "", planted), status: 502, code: invalid},
		{name: "1000", server: says("1000 What", "", planted), status: 502, code: malformed},
		{name: "20", server: says("20 What", "", planted), status: 502, code: malformed},
		{name: "-200", server: says("-200 What", "", planted), status: 502, code: malformed},
		{name: "2e2", server: says("2e2 What", "", planted), status: 502, code: malformed},
	}
	for _, status := range []int{300, 301, 302, 303, 305, 306, 307, 308, 399} {
		table = append(table, answerCase{
			name:   fmt.Sprintf("%d", status),
			server: says(fmt.Sprintf("%d Elsewhere", status), "Location: http://evil.example/\r\nRefresh: 0; url=http://evil.example/\r\n", planted),
			status: 502, code: redirect,
		})
	}
	table = append(table, answerCase{name: "302 without a place", server: says("302 Found", "", ""), status: 502, code: redirect})
	for _, status := range []int{400, 401, 403, 404, 405, 409, 410, 413, 418, 429, 451, 500, 501, 502, 503, 504, 505, 511} {
		table = append(table, answerCase{
			name:   fmt.Sprintf("%d", status),
			server: says(fmt.Sprintf("%d %s", status, planted), "Content-Type: text/html\r\n", planted+" of instance "+instance2),
			status: status, body: http.StatusText(status) + "\n",
		})
	}
	newAnswerSite(t, byAddress, "", nil).run(t, table)
}

// Headers pass by a list, each once, without control bytes.
func TestAnswerHeaders(t *testing.T) {
	t.Parallel()
	const repeated, malformed, encoded = "response_unreadable/header_repeated", "response_incomplete/malformed", "response_unreadable/content_encoding"
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	fmt.Fprint(writer, planted)
	writer.Close()
	s := newAnswerSite(t, byAddress, "", nil)
	s.run(t, []answerCase{
		{name: "none", server: says("200 OK", "", "xyz"), status: 200, body: "xyz"},
		{name: "an empty type", server: says("200 OK", "Content-Type: \r\n", "xyz"), status: 200, body: "xyz"},
		{name: "what looks like HTML", server: says("200 OK", "", "<html><script>"), status: 200, body: "<html><script>"},
		{
			name: "those that pass", server: says("200 OK", "Allow: GET\r\nCache-Control: no-cache\r\nContent-Language: en\r\nContent-Type: text/x-a; b=c\r\n"+
				"ETag: \"1\"\r\nExpires: 0\r\nLast-Modified: then\r\nPragma: p\r\nRetry-After: 9\r\nVary: Accept\r\nWWW-Authenticate: Basic\r\n", "xyz"), status: 200, body: "xyz",
			header: map[string]string{
				"Allow": "GET", "Cache-Control": "no-cache", "Content-Language": "en", "Content-Type": "text/x-a; b=c", "Etag": `"1"`,
				"Expires": "0", "Last-Modified": "then", "Pragma": "p", "Retry-After": "9", "Vary": "Accept", "Www-Authenticate": "Basic",
			},
		},
		{name: "those that do not", server: says("200 OK", "Server: nova\r\nVia: 1.1 x\r\nSet-Cookie: a=b\r\nSet-Cookie2: a=b\r\nX-Powered-By: x\r\nAlt-Svc: h3=\":1\"\r\n"+
			"Location: http://evil/\r\nContent-Location: /x\r\nRefresh: 0; url=http://evil/\r\nLink: </x>\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n"+
			"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nDate: then\r\nAge: 9\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\nDigest: x\r\n"+
			"Strict-Transport-Security: max-age=9\r\nAccess-Control-Allow-Origin: *\r\nContent-Disposition: attachment\r\nX-Metadata-Provider: x\r\nX-Instance-ID: x\r\n"+
			"X-Metaguard-Decision: forged\r\nX-Accel-Redirect: /x\r\nX-Sendfile: /x\r\nX-Content-Type-Options: x\r\nTE: trailers\r\nTrailer: X-T\r\nTransfer_Encoding: x\r\nStatus: 302\r\n", "xyz"), status: 200, body: "xyz"},
		{
			name: "an error's", server: says("503 Busy", "Content-Type: text/html\r\nRetry-After: 9\r\nSet-Cookie: a=b\r\n", planted), status: 503, body: "Service Unavailable\n",
			header: map[string]string{"Retry-After": "9"},
		},
		{
			name: "an error's validators, which are of another body", server: says("404 Not Found", "ETag: \"1\"\r\nLast-Modified: then\r\nExpires: 0\r\n", planted), status: 404, body: "Not Found\n",
			header: map[string]string{"Expires": "0"},
		},
		{name: "the same type twice", server: says("200 OK", "Content-Type: text/x-a\r\nContent-Type: text/x-a\r\n", "xyz"), status: 200, body: "xyz", header: map[string]string{"Content-Type": "text/x-a"}},
		{name: "two types", server: says("200 OK", "Content-Type: text/plain\r\nContent-Type: text/html\r\n", planted), status: 502, code: repeated},
		{name: "two tags", server: says("200 OK", "ETag: \"1\"\r\nETag: \"2\"\r\n", planted), status: 502, code: repeated},
		{name: "two dates", server: says("200 OK", "Last-Modified: then\r\nLast-Modified: now\r\n", planted), status: 502, code: repeated},
		{name: "two waits", server: says("503 Busy", "Retry-After: 1\r\nRetry-After: 2\r\n", planted), status: 502, code: repeated},
		{name: "control byte", server: says("200 OK", "ETag: \x01\r\n", planted), status: 502, code: malformed},
		{name: "DEL", server: says("200 OK", "Content-Type: text/plain\x7f\r\n", planted), status: 502, code: malformed},
		{name: "a lone CR", server: says("200 OK", "ETag: a\rSet-Cookie: a=b\r\n", planted), status: 502, code: malformed},
		{name: "control byte in one that does not pass", server: says("200 OK", "X-A: \x01\r\n", planted), status: 502, code: malformed},

		// Nobody asked for a coding, and what is in it cannot be judged.
		{name: "gzip", server: says("200 OK", "Content-Encoding: gzip\r\n", zipped.String()), status: 502, code: encoded},
		{name: "gzip that is none", server: says("200 OK", "Content-Encoding: gzip\r\n", planted), status: 502, code: encoded},
		{name: "gzip in capitals", server: says("200 OK", "CONTENT-ENCODING: GZIP\r\n", zipped.String()), status: 502, code: encoded},
		{name: "x-gzip", server: says("200 OK", "Content-Encoding: x-gzip\r\n", zipped.String()), status: 502, code: encoded},
		{name: "deflate", server: says("200 OK", "Content-Encoding: deflate\r\n", planted), status: 502, code: encoded},
		{name: "br", server: says("200 OK", "Content-Encoding: br\r\n", planted), status: 502, code: encoded},
		{name: "a coding that nobody knows", server: says("200 OK", "Content-Encoding: bogus\r\n", planted), status: 502, code: encoded},
		{name: "identity and gzip", server: says("200 OK", "Content-Encoding: identity, gzip\r\n", planted), status: 502, code: encoded},
		{name: "identity, then gzip", server: says("200 OK", "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", planted), status: 502, code: encoded},
		{name: "gzip and an error", server: says("404 Not Found", "Content-Encoding: gzip\r\n", planted), status: 502, code: encoded},
		{name: "gzip in a document", path: jsonPath, server: says("200 OK", "Content-Encoding: gzip\r\n", zipped.String()), status: 502, code: encoded},
		{name: "gzip, and nothing in it", server: says("200 OK", "Content-Encoding: gzip\r\n", ""), status: 502, code: encoded},
		{name: "identity", server: says("200 OK", "Content-Encoding: Identity\r\n", "xyz"), status: 200, body: "xyz"},
		{name: "no coding", server: says("200 OK", "Content-Encoding: \r\n", "xyz"), status: 200, body: "xyz"},
	})
}

// An answer to a password read is plain text that nobody keeps, whatever the
// server calls it, and no longer than a password is.
func TestAnswerPassword(t *testing.T) {
	t.Parallel()
	plain := map[string]string{"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
	html := "Content-Type: text/html; charset=utf-7\r\nETag: \"md5\"\r\nLast-Modified: then\r\nExpires: 0\r\nPragma: p\r\nCache-Control: public, max-age=9999\r\nX-Content-Type-Options: x\r\n"
	s := newAnswerSite(t, byAddress, "", map[string]string{"policy/data.json": grant(instance1, "password:read")})
	s.run(t, []answerCase{
		{name: "encrypted", path: passwordPath, server: says("200 OK", html, rsaAnswer), status: 200, body: rsaAnswer, header: plain},
		{name: "none set", path: passwordPath, server: says("200 OK", html, ""), status: 200, header: plain},
		{name: "chunked", path: passwordPath, server: fmt.Sprintf("%s\r\n%x\r\n%s\r\n0\r\n\r\n", chunkedHead, len(rsaAnswer), rsaAnswer), status: 200, body: rsaAnswer, header: plain},
		{name: "not there", path: passwordPath, server: says("404 Not Found", html, planted), status: 404, body: "Not Found\n", header: map[string]string{"Cache-Control": "public, max-age=9999", "Expires": "0", "Pragma": "p"}},
		{name: "in clear", path: passwordPath, server: says("200 OK", html, planted), status: 502, code: "password_unverified/no_fingerprint"},
		{name: "two in one", path: passwordPath, server: says("200 OK", html, rsaAnswer+rsaAnswer), status: 502, code: "password_unverified/no_fingerprint"},
		{name: "as long as one may be", path: passwordPath, server: says("200 OK", html, planted+strings.Repeat("x", 1013)), status: 502, code: "password_unverified/no_fingerprint"},
		{name: "longer", path: passwordPath, server: says("200 OK", html, planted+strings.Repeat("x", 1014)), status: 502, code: "response_too_large/password_over_max_size"},
		{name: "redirect", path: passwordPath, server: says("302 Found", "Location: /\r\n", rsaAnswer), status: 502, code: "upstream_redirect/redirect"},
		{name: "partial", path: passwordPath, server: says("206 Partial Content", "Content-Range: bytes 0-343/999\r\n", rsaAnswer), status: 502, code: "response_unreadable/partial_content"},
	})
}

// What must be redacted is read as UTF-8. A client that is told of another
// charset would read other words in the same bytes, so that it gets none; text
// that is passed as it is may be in any.
func TestAnswerCharset(t *testing.T) {
	t.Parallel()
	const document, listing = `{"` + planted + `": 1}`, planted + "\nuser_data\n"
	read := []string{
		"application/json",
		"application/json; charset=utf-8",
		"application/json;charset=UTF-8",
		"application/json; CHARSET=Utf-8",
		`text/plain; charset="utf-8"`,
		"text/html; charset=US-ASCII",
		"text/plain; format=flowed; charset=us-ascii",
	}
	refused := []string{
		"application/json; charset=utf-7",
		"application/json; charset=UTF-7",
		`application/json; charset="utf-7"`,
		"application/json; charset=utf-16",
		"application/json; charset=utf-16le",
		"application/json; charset=utf-32",
		"text/html; charset=latin-1",
		"text/html; charset=ISO-8859-1",
		"text/html; charset=windows-1252",
		"text/plain; charset=hz-gb-2312",
		"text/plain; charset=iso-2022-jp",
		"text/plain; charset=bogus",
		"text/plain; charset=utf-8x",
		"text/plain; charset=utf-8; charset=utf-7",
		"text/plain; charset=utf-7; charset=utf-8",
		"text/plain; charset=utf-8; CHARSET=utf-7",
		"text/plain; charset*=us-ascii''utf-7",
		"text/plain; charset*0=utf-; charset*1=7",
		"text/plain; charset",
		"text/plain; charset=",
		`text/plain; charset="utf-8`,
		"text/plain; charset=utf-8 utf-7",
		"text/plain; =utf-7",
		"text/plain, text/html; charset=utf-7",
		"text/plain; charset=utf-8, text/x; charset=utf-7",
		"charset=utf-7",
		"/",
	}
	var table []answerCase
	for i, contentType := range append(read, refused...) {
		headers := "Content-Type: " + contentType + "\r\n"
		own := map[string]string{"Content-Type": contentType}
		table = append(table, answerCase{name: "text as " + contentType, server: says("200 OK", headers, planted), status: 200, body: planted, header: own})
		for path, body := range map[string]string{jsonPath: document, listingPath: listing} {
			test := answerCase{name: path + " as " + contentType, path: path, server: says("200 OK", headers, body), status: 200, body: body, header: own}
			if plain, found := map[string]string{
				"application/json;charset=UTF-8":              "application/json; charset=utf-8",
				`text/plain; charset="utf-8"`:                 "text/plain; charset=utf-8",
				"text/plain; format=flowed; charset=us-ascii": "text/plain; charset=us-ascii",
			}[contentType]; found { // what others may read in another way is written anew
				test.header = map[string]string{"Content-Type": plain}
			}
			if i >= len(read) {
				test.status, test.body, test.header, test.code = 502, "", nil, "response_unreadable/charset"
			}
			table = append(table, test)
		}
		// An error page is replaced, so that its charset means nothing.
		table = append(table, answerCase{name: "error as " + contentType, path: jsonPath, server: says("404 Not Found", headers, planted), status: 404, body: "Not Found\n"})
	}
	table = append(table,
		answerCase{name: "a document without a type", path: jsonPath, server: says("200 OK", "", document), status: 200, body: document},
		answerCase{name: "UTF-7 that hides a name", path: jsonPath, server: says("200 OK", "Content-Type: application/json; charset=utf-7\r\n", `{"+AGE-dmin_pass": "`+planted+`"}`), status: 502, code: "response_unreadable/charset"},
		answerCase{name: "UTF-16", path: jsonPath, server: says("200 OK", "", "\xff\xfe"+strings.Join(strings.Split(document, ""), "\x00")+"\x00"), status: 502, code: "response_unreadable/json_invalid"},
		answerCase{name: "latin-1 without a charset", path: jsonPath, server: says("200 OK", "Content-Type: application/json\r\n", "{\""+planted+"\": \"\xe4\"}"), status: 502, code: "response_unreadable/json_invalid"},
	)
	newAnswerSite(t, byAddress, "", map[string]string{"policy/team.rego": unknownEntries}).run(t, table)
}
