// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// recorder is a legacy server that keeps every byte of a connection up to its
// end: what follows the request would be a smuggled one.
type recorder struct {
	address string

	mu   sync.Mutex
	open int
	seen []string
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{address: listener.Addr().String()}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.open++
			r.mu.Unlock()
			go r.record(conn)
		}
	}()
	return r
}

// record answers one request and reads on until the other side closes.
func (r *recorder) record(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var bytes strings.Builder
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
		r.seen = append(r.seen, bytes.String())
	}()
	reader := bufio.NewReader(io.TeeReader(conn, &bytes))
	length := int64(0)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = fmt.Sscanf(line, "Content-Length: %d\r\n", &length)
		if line == "\r\n" {
			break
		}
	}
	_, _ = io.CopyN(io.Discard, reader, length)
	_, _ = io.WriteString(conn, harness.OK(""))
	_, _ = io.Copy(io.Discard, reader)
}

// framed is a site whose server is a recorder, with callers enough for a table:
// each writes a password of its own.
type framed struct {
	*site
	server *recorder
	used   atomic.Int32
}

const framedCallers = 600

func newFramed(t *testing.T, settings string, files map[string]string) *framed {
	t.Helper()
	f := prepareFramed(t, settings, files)
	f.Run(f.address)
	return f
}

func prepareFramed(t *testing.T, settings string, files map[string]string) *framed {
	t.Helper()
	var entries []string
	for i := range framedCallers {
		entries = append(entries, fmt.Sprintf(`{"address": %q, "instance_id": "%08d-0000-4000-8000-000000000000"}`, framedAddress(i), i))
	}
	all := map[string]string{"inventory.json": "[" + strings.Join(entries, ",\n") + "]"}
	for name, content := range files {
		all[name] = content
	}
	f := &framed{site: prepareSite(t, byAddress+"\n"+settings, all), server: newRecorder(t)}
	f.edit(t, "Caddyfile", "upstream "+f.upstream.Address, "upstream "+f.server.address)
	return f
}

func framedAddress(i int) string { return fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200) }

// caller is the address of an instance that has written no password.
func (f *framed) caller(t *testing.T) string {
	t.Helper()
	i := int(f.used.Add(1)) - 1
	if i >= framedCallers {
		t.Fatal("out of callers")
	}
	return framedAddress(i)
}

// arrived gives what the server saw since it was last asked, once every
// connection to it has ended.
func (f *framed) arrived() []string {
	f.Eventually("no connection to the server", func() bool {
		f.server.mu.Lock()
		defer f.server.mu.Unlock()
		return f.server.open == 0
	})
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	seen := f.server.seen
	f.server.seen = nil
	return seen
}

// written is the one canonical request that a password becomes, whatever
// brought it. Via tells in which version of HTTP.
func (f *framed) written(version, from, body string) string {
	return fmt.Sprintf("POST /openstack/latest/password HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nAccept-Encoding: identity\r\n"+
		"Via: %s Caddy\r\nX-Forwarded-For: %s\r\nConnection: close\r\n\r\n%s", f.server.address, len(body), version, from, body)
}

const (
	postLine = "POST /openstack/latest/password HTTP/1.1\r\nHost: m\r\n"
	getLine  = "GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\n"
)

// withLength is a body under its Content-Length.
func withLength(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// chunked is a body in chunks of up to size bytes, whose size lines end in
// extension.
func chunked(body, extension string, size int) string {
	var b strings.Builder
	b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	for chunk := range slices.Chunk([]byte(body), size) {
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", len(chunk), extension, chunk)
	}
	b.WriteString("0" + extension + "\r\n\r\n")
	return b.String()
}

// inPieces cuts what is sent into packets of up to size bytes.
func inPieces(text string, size int) []string {
	var pieces []string
	for ; len(text) > size; text = text[size:] {
		pieces = append(pieces, text[:size])
	}
	return append(pieces, text)
}

// framing is one row of a table: what a client sends, and all that may come of
// it.
type framing struct {
	name string
	// send is what goes over the wire. Where cut is set, the client then says
	// that nothing more will come, before it waits for an answer.
	send string
	cut  bool
	// status and reason are those of the answer. A refusal without a reason is
	// not ours: Go's server or Caddy gave it, and it has no decision.
	status int
	reason string
	// body is the password that arrived, if the status is 200.
	body string
	// next is the answer to what the server takes for the next request on the
	// connection, if it is not closed.
	next string
}

// check sends a row and holds against it the answer, the end of the connection
// and what the server saw.
func (f *framed) check(t *testing.T, row framing) {
	t.Helper()
	from := f.caller(t)
	client := harness.Dial(t, from, f.address)
	go func() { // a server that has seen enough reads no further
		client.Send(inPieces(row.send, 1<<20)...)
		if row.cut {
			client.End()
		}
	}()
	answer := client.Answer("POST")
	rest, closed := client.End().Rest()
	f.judge(t, answer, row)
	if rest, _, _ := strings.Cut(rest, "\r\n"); rest != row.next {
		t.Errorf("then %q, want %q", rest, row.next)
	}
	if !closed {
		t.Error("the connection stays open")
	}
	var want []string
	if row.status == 200 {
		version := "1.1"
		if strings.Contains(row.send, " HTTP/1.0\r\n") {
			version = "1.0"
		}
		want = append(want, f.written(version, from, row.body))
	}
	f.wantArrived(t, want...)
}

// judge holds an answer against a row.
func (f *framed) judge(t *testing.T, answer harness.Answer, row framing) {
	t.Helper()
	ours := answer.Header.Get("X-Metaguard-Decision") != ""
	if !ours && answer.Status != 0 {
		answer.Err = nil // Go may close before its answer is read
	}
	if answer.Err != nil || answer.Status != row.status || row.status != 200 && reason(answer) != row.reason && (ours || row.reason != "") {
		t.Errorf("got %d %q %v, want %d %s", answer.Status, answer.Body, answer.Err, row.status, row.reason)
	}
	if want := row.status == 200 || row.reason != ""; ours != want {
		t.Errorf("our own answer: %t, want %t: %d %q", ours, want, answer.Status, answer.Body)
	}
}

// wantArrived holds against a list what the server saw since it was last
// asked, byte for byte.
func (f *framed) wantArrived(t *testing.T, want ...string) {
	t.Helper()
	if got := f.arrived(); !slices.Equal(got, want) {
		t.Errorf("the server saw %d requests:\n%s\nwant %d:\n%s", len(got), shortened(got), len(want), shortened(want))
	}
}

// shortened shows requests without filling the screen.
func shortened(requests []string) string {
	var lines []string
	for _, request := range requests {
		lines = append(lines, fmt.Sprintf("%d bytes: %.400q", len(request), request))
	}
	return strings.Join(lines, "\n")
}

// checkAll runs a table, and holds the number of decision-log lines against
// the number of answers that are ours.
func (f *framed) checkAll(t *testing.T, rows []framing) {
	t.Helper()
	before := len(f.decisions(t, 0))
	ours := 0
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { f.check(t, row) })
		if row.status == 200 || row.reason != "" {
			ours++
		}
		if strings.HasPrefix(row.next, "HTTP/1.1 200") {
			ours++
		}
	}
	if lines := f.decisions(t, before+ours); len(lines) != before+ours {
		t.Errorf("%d answers are ours, %d decision-log lines", ours, len(lines)-before)
	}
}
