// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// Relay hands TCP connections on to one of several addresses in turn, to the
// next one where nobody listens: a balancer, or a link that can be made slow.
type Relay struct {
	// Address is where it listens.
	Address string

	tb       testing.TB
	targets  []string
	preface  bool
	next     atomic.Uint32
	delay    atomic.Int64
	mu       sync.Mutex
	listener net.Listener // nil: it is down
	conns    map[net.Conn]struct{}
}

// NewRelay starts a relay. With a preface it says in PROXY protocol 2 who has
// connected.
func NewRelay(tb testing.TB, preface bool, targets ...string) *Relay {
	tb.Helper()
	r := &Relay{Address: "127.0.0.1:0", tb: tb, targets: targets, preface: preface, conns: make(map[net.Conn]struct{})}
	r.Run()
	tb.Cleanup(r.Kill)
	return r
}

// Run starts it, at first or anew, at the same address.
func (r *Relay) Run() {
	r.tb.Helper()
	listener, err := net.Listen("tcp", r.Address)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.mu.Lock()
	r.listener, r.Address = listener, listener.Addr().String()
	r.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.relay(conn)
		}
	}()
}

// Kill breaks every connection off and takes no more.
func (r *Relay) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.listener = nil
	for conn := range r.conns {
		_ = conn.Close()
	}
}

// Delay holds back every piece of what comes back, from now on.
func (r *Relay) Delay(delay time.Duration) { r.delay.Store(int64(delay)) }

func (r *Relay) relay(client net.Conn) {
	server := r.dial(client)
	if server == nil {
		_ = client.Close()
		return
	}
	if !r.keep(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(server, client, new(atomic.Int64)) })
	pass(client, server, &r.delay)
	both.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range []net.Conn{client, server} {
		_ = conn.Close()
		delete(r.conns, conn)
	}
}

// dial connects to the next target that takes the connection.
func (r *Relay) dial(client net.Conn) net.Conn {
	first := r.next.Add(1)
	for i := range r.targets {
		target := r.targets[(int(first)+i)%len(r.targets)]
		server, err := net.DialTimeout("tcp", target, 3*time.Second)
		if err != nil {
			continue
		}
		if !r.preface {
			return server
		}
		if _, err := proxyproto.HeaderProxyFromAddrs(2, client.RemoteAddr(), client.LocalAddr()).WriteTo(server); err == nil {
			return server
		}
		_ = server.Close()
	}
	return nil
}

// keep remembers a connection, unless the relay is down.
func (r *Relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		if r.listener == nil {
			_ = conn.Close()
			continue
		}
		r.conns[conn] = struct{}{}
	}
	return r.listener != nil
}

// pass copies until an end is closed, and then says so to the other.
func pass(to, from net.Conn, delay *atomic.Int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			time.Sleep(time.Duration(delay.Load()))
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			if err != io.EOF { //nolint:errorlint // a reader gives it bare
				_ = to.(*net.TCPConn).SetLinger(0)
				_ = to.Close() // as it was broken off, not ended
			}
			break
		}
	}
	_ = to.(*net.TCPConn).CloseWrite()
}
