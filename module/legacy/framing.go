// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bufio"
	"html"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// This file puts an application's answer on the wire as uWSGI or eventlet do.

// Rendered error bodies end as WebOb's templates do, with the empty places for
// detail and comment.
const (
	plainTail = "\n\n   "
	jsonTail  = `<br /><br />\n\n\n`
	htmlTail  = "<br /><br />\n\n\n"
)

// render gives an error the body that WebOb would, in the first form that the
// client accepts. What the client sent never stands in it but for an id that
// was signed.
func render(a answer, method, accept string) answer {
	if a.explanation == "" || a.crash {
		return a
	}
	status := strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	switch preferred(accept) {
	case jsonText:
		quoted := quote(a.explanation)
		a.contentType = jsonText
		a.body = `{"message": "` + quoted[1:len(quoted)-1] + jsonTail +
			`", "code": "` + status + `", "title": "` + http.StatusText(a.status) + `"}`
	case htmlText:
		a.contentType = htmlText
		a.body = "<html>\n <head>\n  <title>" + status + "</title>\n </head>\n <body>\n  <h1>" + status +
			"</h1>\n  " + html.EscapeString(a.explanation) + htmlTail + "\n </body>\n</html>"
	default:
		a.contentType = plainText
		a.body = status + "\n\n" + a.explanation + plainTail
	}
	if method == http.MethodHead {
		a.contentType, a.body = htmlText, ""
	}
	return a
}

// preferred is WebOb's choice, HTML before JSON, without quality values; what
// accepts neither gets plain text.
func preferred(accept string) string {
	choice := ""
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "*/*", "text/*", "text/html":
			return htmlText
		case "application/json", "application/*":
			choice = jsonText
		}
	}
	return choice
}

// answerUWSGI writes what Debian's uWSGI would: no header but Content-Type, a
// body that ends where the connection ends, the protocol as the client named
// it. After an exception the connection closes without one byte.
func answerUWSGI(w http.ResponseWriter, r *http.Request, a answer) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or a writer that is no connection
		if a.crash {
			panic(http.ErrAbortHandler)
		}
		return answerEventlet(w, r, a)
	}
	defer func() { _ = conn.Close() }()
	if a.crash {
		return nil
	}
	out := bufio.NewWriter(conn)
	_, _ = out.WriteString(r.Proto + " " + strconv.Itoa(a.status) + " " + http.StatusText(a.status) + "\r\n")
	if a.contentType != "" {
		_, _ = out.WriteString("Content-Type: " + a.contentType + "\r\n")
	}
	_, _ = out.WriteString("\r\n")
	if r.Method != http.MethodHead {
		_, _ = out.WriteString(a.body)
	}
	if err := out.Flush(); err != nil {
		return nil // the client has gone
	}
	linger(conn, buffered.Reader)
	return nil
}

// lingerTime and lingerSize bound how long, and for how much, a closed answer
// waits for a body that nobody read.
const (
	lingerTime = 250 * time.Millisecond
	lingerSize = 64 << 10
)

// linger says that the answer is complete and reads the rest of a small
// request. Otherwise the system would reset the connection, and the client
// could lose the answer. (uWSGI reads 64 KiB with the head.)
func linger(conn net.Conn, rest io.Reader) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, rest, lingerSize)
	}
}

// answerEventlet writes what nova-api would: Content-Length always, Date, and
// an empty 500 after an exception.
func answerEventlet(w http.ResponseWriter, r *http.Request, a answer) error {
	header := w.Header()
	for _, name := range []string{"Server", "Alt-Svc"} { // Caddy's, set before any handler
		header.Del(name)
	}
	if a.crash {
		a = answer{status: http.StatusInternalServerError, contentType: "text/plain"}
		header.Set("Connection", "close")
	}
	if a.unread { // or Go would wait for the body before it answers
		header.Set("Connection", "close")
	}
	if a.contentType == "" {
		header["Content-Type"] = nil // or Go would guess one
	} else {
		header.Set("Content-Type", a.contentType)
	}
	if a.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, a.body)
	}
	control := http.NewResponseController(w)
	if a.unread && control.Flush() == nil && control.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, lingerSize)
	}
	return nil
}
