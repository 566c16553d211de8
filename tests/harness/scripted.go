// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Scripted is a legacy server on a raw socket that does on each connection what
// a script says, step by step: what Upstream cannot, which sends all of an
// answer at once and closes.
type Scripted struct {
	// Address is where it listens.
	Address string

	listener net.Listener
	script   func(request string) []Step
	asked    atomic.Int64
}

// A Step is one thing that a scripted server does on a connection. It tells
// whether the next one follows. After the last one the connection is closed.
type Step func(conn *net.TCPConn) bool

// stepLimit is how long a connection lasts when a test has forgotten it.
const stepLimit = time.Minute

// NewScripted starts a scripted server. The script gets a whole request and
// gives the steps of the answer.
func NewScripted(tb testing.TB, script func(request string) []Step) *Scripted {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Scripted{Address: listener.Addr().String(), listener: listener, script: script}
	tb.Cleanup(func() { _ = listener.Close() })
	go s.serve()
	return s
}

// Asked is how many requests came so far.
func (s *Scripted) Asked() int { return int(s.asked.Load()) }

func (s *Scripted) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.answer(conn.(*net.TCPConn))
	}
}

func (s *Scripted) answer(conn *net.TCPConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(stepLimit))
	request, err := readRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	s.asked.Add(1)
	for _, step := range s.script(request) {
		if !step(conn) {
			return
		}
	}
}

// Send sends bytes as they are.
func Send(text string) Step {
	return func(conn *net.TCPConn) bool {
		_, err := io.WriteString(conn, text)
		return err == nil
	}
}

// Dribble sends one byte after the other, each in a segment of its own.
func Dribble(text string, pause time.Duration) Step {
	return func(conn *net.TCPConn) bool {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for i := range len(text) {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return false
			}
			<-tick.C
		}
		return true
	}
}

// Flood sends the same bytes again and again, until nobody takes them.
func Flood(text string, pause time.Duration) Step {
	return func(conn *net.TCPConn) bool {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return true
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
	}
}

// Tell closes a channel: the script has come this far.
func Tell(reached chan<- struct{}) Step {
	return func(*net.TCPConn) bool {
		close(reached)
		return true
	}
}

// Pause does nothing until it is told to go on.
func Pause(until <-chan struct{}) Step {
	return func(*net.TCPConn) bool {
		select {
		case <-until:
			return true
		case <-time.After(stepLimit):
			return false
		}
	}
}

// Silence does nothing until the other side hangs up.
func Silence() Step {
	return func(conn *net.TCPConn) bool {
		_, _ = io.Copy(io.Discard, conn)
		return true
	}
}

// HalfClose ends what the server sends, and leaves the connection open.
func HalfClose() Step {
	return func(conn *net.TCPConn) bool { return conn.CloseWrite() == nil }
}

// ResetConn resets the connection.
func ResetConn() Step {
	return func(conn *net.TCPConn) bool {
		_ = conn.SetLinger(0)
		return false
	}
}
