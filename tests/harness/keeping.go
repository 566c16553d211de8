// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Keeping is a scripted legacy server that serves one request after the other on a
// connection, and knows which came on which.
type Keeping struct {
	// Address is where it listens.
	Address string

	script func(request string) string

	mu    sync.Mutex
	conns []*kept
}

type kept struct {
	net.Conn
	requests []string
	closed   bool // by the client
}

// NewKeeping starts a server. The script gets a whole request and gives the bytes of
// the answer. The connection stays open after them, but for Reset, and for HangUp,
// which may also be the end of an answer.
func NewKeeping(tb testing.TB, script func(request string) string) *Keeping {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	k := &Keeping{Address: listener.Addr().String(), script: script}
	tb.Cleanup(func() {
		_ = listener.Close()
		for i := range k.Requests() {
			k.HangUp(i)
		}
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(stepLimit))
			one := &kept{Conn: conn}
			k.mu.Lock()
			k.conns = append(k.conns, one)
			k.mu.Unlock()
			go k.serve(one)
		}
	}()
	return k
}

// HangUp closes the connection.
const HangUp = "\x00hang up"

func (k *Keeping) serve(conn *kept) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := readRequest(reader)
		k.mu.Lock()
		if err != nil {
			conn.closed = true
			k.mu.Unlock()
			return
		}
		conn.requests = append(conn.requests, request)
		k.mu.Unlock()
		answer := k.script(request)
		if answer == Reset {
			_ = conn.Conn.(*net.TCPConn).SetLinger(0)
			return
		}
		answer, hangUp := strings.CutSuffix(answer, HangUp)
		if _, err := io.WriteString(conn, answer); err != nil || hangUp {
			return
		}
	}
}

// Requests gives the requests so far, by connection.
func (k *Keeping) Requests() [][]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([][]string, len(k.conns))
	for i, conn := range k.conns {
		all[i] = append([]string(nil), conn.requests...)
	}
	return all
}

// Say sends something on a connection that nobody asked for.
func (k *Keeping) Say(conn int, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, _ = io.WriteString(k.conns[conn], text)
}

// HangUp closes a connection without a word.
func (k *Keeping) HangUp(conn int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.conns[conn].Close()
}

// Closed tells whether a connection is closed.
func (k *Keeping) Closed(conn int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conns[conn].closed
}
