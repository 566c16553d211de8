// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// request makes a request that ends its connection. The target goes in as it
// is; a nil body means none.
func request(method, target string, header []string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n", method, target)
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// get and post ask as an instance for which Neutron's agent vouches.
func get(tb testing.TB, to, target string, as rune) reply {
	tb.Helper()
	return send(tb, "", to, request("GET", target, signed(as), nil))
}

func post(tb testing.TB, to, target string, as rune, body string) reply {
	tb.Helper()
	return send(tb, "", to, request("POST", target, signed(as), []byte(body)))
}

// chunks is a body in chunks of at most seven bytes, with an extension and a
// trailer, each in a piece of its own.
func chunks(body string) [][]byte {
	var all [][]byte
	for rest := []byte(body); len(rest) > 0; {
		size := min(7, len(rest))
		all = append(all, fmt.Appendf(nil, "%x;a=b\r\n%s\r\n", size, rest[:size]))
		rest = rest[size:]
	}
	return append(all, []byte("0\r\nX-Trailer: x\r\n\r\n"))
}

// reply is what came back until the server closed the connection.
type reply struct {
	raw    []byte
	status int
	header []field
	body   string
	err    error
}

// statusLine finds the status also where uWSGI repeats part of the request as
// the protocol.
var statusLine = regexp.MustCompile(`(?:^|.* )(\d{3})(?: [A-Z][^\r\n]*)?$`)

// send sends bytes as they are, in one piece or several, from a local address
// if one is given, and reads to the end.
func send(tb testing.TB, from, to string, request []byte, more ...[]byte) reply {
	tb.Helper()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(40 * time.Second))
	var r reply
	_, writeErr := conn.Write(request) // the server may refuse before it has read all
	for _, part := range more {
		if writeErr == nil {
			_, writeErr = conn.Write(part)
		}
	}
	r.raw, r.err = io.ReadAll(conn)
	if len(r.raw) == 0 {
		if r.err == nil {
			r.err = writeErr
		}
		return r
	}
	r.err = r.parse()
	return r
}

func (r *reply) parse() error {
	head, body, found := bytes.Cut(r.raw, []byte("\r\n\r\n"))
	if !found {
		return fmt.Errorf("no whole head: %q", r.raw)
	}
	lines := strings.Split(string(head), "\r\n")
	match := statusLine.FindStringSubmatch(lines[0])
	if match == nil {
		return fmt.Errorf("status line %q", lines[0])
	}
	r.status, _ = strconv.Atoi(match[1])
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		r.header = append(r.header, field{name, strings.TrimSpace(value)})
	}
	if r.value("Transfer-Encoding") == "chunked" {
		decoded, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
		r.body = string(decoded)
		return err
	}
	r.body = string(body)
	if length := r.value("Content-Length"); length != "" && length != strconv.Itoa(len(body)) {
		return fmt.Errorf("Content-Length %s before %d bytes", length, len(body))
	}
	return nil
}

// value gives a header's values, joined if there are several.
func (r reply) value(name string) string {
	return strings.Join(sent{header: r.header}.values(name), ", ")
}

// closed tells whether the connection ended without a byte of an answer, as
// uWSGI does when the application fails.
func (r reply) closed() bool { return len(r.raw) == 0 }

// what names an answer in the words of table A.
func (r reply) what() string {
	switch {
	case r.closed():
		return "closed"
	case r.status != 200:
		return strconv.Itoa(r.status)
	case strings.Contains(r.body, passwordOf2[:40]) || strings.Contains(r.body, passwordOf2[300:]):
		return "PASSWORD"
	case r.body == "OK":
		return "health"
	case strings.HasPrefix(r.body, "1.0\n"):
		return "versions"
	case strings.HasPrefix(r.body, "{"):
		return "meta_data"
	}
	return "list"
}

func (r reply) String() string {
	if r.closed() {
		return fmt.Sprintf("no answer (%v)", r.err)
	}
	if r.err != nil {
		return fmt.Sprintf("%v: %.300q", r.err, r.raw)
	}
	return fmt.Sprintf("%d %.200q", r.status, r.body)
}

// eventually polls until the condition holds, and fails the test if it does not
// within half a minute.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if condition() {
			return
		}
	}
	tb.Fatalf("not within 30 s: %s", what)
}
