// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// tap relays TCP connections and keeps every byte that clients send.
type tap struct {
	listener net.Listener

	mu    sync.Mutex
	to    string
	conns []*recording
}

// recording is what one connection carried towards the server.
type recording struct {
	sent     bytes.Buffer
	answered bool          // the server said something
	done     chan struct{} // closed when the connection has ended
}

// newTap starts a relay that lives until the tests end.
func newTap(tb testing.TB) *tap {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	t := &tap{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go t.relay(conn)
		}
	}()
	return t
}

// tapBefore starts a relay to an address, for one test.
func tapBefore(tb testing.TB, to string) *tap {
	tb.Helper()
	t := newTap(tb)
	tb.Cleanup(func() { _ = t.listener.Close() })
	t.pointTo(to)
	return t
}

func (t *tap) address() string { return t.listener.Addr().String() }

func (t *tap) port() int { return t.listener.Addr().(*net.TCPAddr).Port }

func (t *tap) pointTo(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.to = address
}

func (t *tap) relay(client net.Conn) {
	defer client.Close()
	record := &recording{done: make(chan struct{})}
	defer close(record.done)
	t.mu.Lock()
	t.conns = append(t.conns, record)
	to := t.to
	t.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		n, _ := io.Copy(client, server)
		record.answered = n > 0
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	// A server may answer and leave before it was sent everything, and what it
	// did not wait for counts, too.
	_, _ = io.Copy(io.MultiWriter(&record.sent, deaf{server}), client)
	_ = server.(*net.TCPConn).CloseWrite()
	<-answered
}

// deaf takes everything, whether the other end does or not.
type deaf struct{ net.Conn }

func (d deaf) Write(p []byte) (int, error) {
	_, _ = d.Conn.Write(p)
	return len(p), nil
}

// take gives the requests since the last call, when their connections have
// ended.
func (t *tap) take(tb testing.TB) []sent {
	tb.Helper()
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	t.mu.Unlock()
	var all []sent
	for _, record := range conns {
		select {
		case <-record.done:
		case <-time.After(30 * time.Second):
			tb.Fatal("a connection does not end")
		}
		requests, err := readRequests(record.sent.Bytes(), record.answered)
		if err != nil {
			tb.Errorf("not a plain request on the wire: %v\n%q", err, record.sent.Bytes())
		}
		all = append(all, requests...)
	}
	return all
}

// sent is a request as it was on the wire.
type sent struct {
	method, target, protocol string
	header                   []field
	body                     string
}

type field struct{ name, value string }

// values gives all values of a header, whatever the case of its name.
func (s sent) values(name string) []string {
	var all []string
	for _, f := range s.header {
		if strings.EqualFold(f.name, name) {
			all = append(all, f.value)
		}
	}
	return all
}

// readRequests reads what a connection carried, strictly: every line ends with
// CR LF, a body has one Content-Length and nothing else frames it, and there is
// nothing behind it but another request. Only a body that a server did not wait
// for may be cut: Nova can refuse by the head alone.
func readRequests(raw []byte, answered bool) ([]sent, error) {
	var all []sent
	for len(raw) > 0 {
		head, rest, found := bytes.Cut(raw, []byte("\r\n\r\n"))
		if !found {
			return all, fmt.Errorf("no end of the head: %q", raw)
		}
		lines := strings.Split(string(head), "\r\n")
		words := strings.Split(lines[0], " ")
		if len(words) != 3 {
			return all, fmt.Errorf("request line %q", lines[0])
		}
		request := sent{method: words[0], target: words[1], protocol: words[2]}
		for _, line := range lines[1:] {
			name, value, found := strings.Cut(line, ": ")
			if !found || strings.ContainsAny(line, "\r\n\x00") || strings.ContainsAny(name, " \t") {
				return all, fmt.Errorf("header line %q", line)
			}
			request.header = append(request.header, field{name, value})
		}
		if transfer := request.values("Transfer-Encoding"); transfer != nil {
			return all, fmt.Errorf("Transfer-Encoding %q", transfer)
		}
		if lengths := request.values("Content-Length"); len(lengths) > 1 {
			return all, fmt.Errorf("Content-Length %q", lengths)
		} else if len(lengths) == 1 {
			length, err := strconv.ParseUint(lengths[0], 10, 31)
			if err != nil || (len(rest) < int(length) && !answered) {
				return all, fmt.Errorf("Content-Length %q before %d bytes", lengths[0], len(rest))
			}
			length = min(length, uint64(len(rest)))
			request.body, rest = string(rest[:length]), rest[length:]
		}
		all, raw = append(all, request), rest
	}
	return all, nil
}
