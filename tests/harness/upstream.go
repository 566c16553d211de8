// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Upstream is a scripted legacy server on a raw socket: it keeps every byte
// that it is sent and answers as the script says.
type Upstream struct {
	// Address is where it listens.
	Address string

	listener net.Listener
	mu       sync.Mutex
	script   func(request string) string
	requests []string
}

// NewUpstream starts a scripted server. The script gets a whole request and
// gives the bytes of the answer; the connection is closed after them.
func NewUpstream(tb testing.TB, script func(request string) string) *Upstream {
	tb.Helper()
	return NewUpstreamAt(tb, "127.0.0.1:0", script)
}

// NewUpstreamAt is NewUpstream on an address that a client does not let choose.
func NewUpstreamAt(tb testing.TB, address string, script func(request string) string) *Upstream {
	tb.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	u := &Upstream{Address: listener.Addr().String(), listener: listener, script: script}
	tb.Cleanup(func() { _ = listener.Close() })
	go u.serve()
	return u
}

// Script changes the script.
func (u *Upstream) Script(script func(request string) string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.script = script
}

// Requests gives all requests so far, byte for byte.
func (u *Upstream) Requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.requests...)
}

// Forget forgets the requests so far.
func (u *Upstream) Forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.requests = nil
}

func (u *Upstream) serve() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		go u.answer(conn)
	}
}

func (u *Upstream) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	request, err := readRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	u.mu.Lock()
	u.requests = append(u.requests, request)
	script := u.script
	u.mu.Unlock()
	answer := script(request)
	if answer == Reset {
		_ = conn.(*net.TCPConn).SetLinger(0)
		return
	}
	_, _ = io.WriteString(conn, answer)
}

// Reset is an answer that resets the connection.
const Reset = "\x00reset"

// readRequest reads a head and as much body as Content-Length says. It knows
// nothing else, as a legacy server might.
func readRequest(reader *bufio.Reader) (string, error) {
	var request strings.Builder
	length := 0
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return "", err
		}
		request.WriteString(line)
		if name, value, found := strings.Cut(line, ":"); found && strings.EqualFold(name, "Content-Length") {
			_, _ = fmt.Sscan(value, &length)
		}
		if strings.TrimRight(line, "\r\n") == "" {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(reader, body); err != nil {
		return "", err
	}
	request.Write(body)
	return request.String(), nil
}

// OK is an answer of 200 with a length.
func OK(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}
