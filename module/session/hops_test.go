// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

type (
	netConn  struct{ net.Conn }
	rawConn  struct{ net.Conn }
	embedder struct{ net.Conn }
	deeper   struct{ *embedder }
	hider    struct{ inner net.Conn }
)

func (c netConn) NetConn() net.Conn { return c.Conn }
func (c rawConn) Raw() net.Conn     { return c.Conn }

// accepted is the server's end of a connection.
func accepted(t *testing.T, network, listen, dial string) net.Conn {
	t.Helper()
	listener, err := net.Listen(network, listen)
	if err != nil {
		t.Skipf("this machine has no %s %s: %v", network, listen, err)
	}
	defer listener.Close()
	if dial == "" {
		dial = listener.Addr().String()
	} else {
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		dial = net.JoinHostPort(dial, port)
	}
	client, err := net.Dial(network, dial)
	if err != nil {
		t.Skip(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), conn.Close() })
	return conn
}

func TestLimitHops(t *testing.T) {
	for _, test := range []struct{ name, network, listen, dial string }{
		{"v4", "tcp4", "127.0.0.1:0", ""},
		{"v6", "tcp6", "[::1]:0", ""},
		{"v4 on a socket for both", "tcp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := accepted(t, test.network, test.listen, test.dial)
			for i, layered := range []net.Conn{
				conn, tls.Server(conn, nil), netConn{conn}, rawConn{tls.Server(netConn{conn}, nil)},
				&embedder{conn}, embedder{conn}, deeper{&embedder{conn}},
			} {
				if err := LimitHops(layered, 7+i); err != nil {
					t.Fatalf("%T: %v", layered, err)
				}
				var got int
				var err error
				if test.name == "v6" {
					got, err = ipv6.NewConn(conn).HopLimit()
				} else {
					got, err = ipv4.NewConn(conn).TTL()
				}
				if err != nil || got != 7+i {
					t.Errorf("%T: %d %v", layered, got, err)
				}
			}
		})
	}
}

// Where no limit can be set there is an error; a Unix socket needs none.
func TestLimitHopsWithoutTCP(t *testing.T) {
	if err := LimitHops(accepted(t, "unix", filepath.Join(t.TempDir(), "s"), ""), 1); err != nil {
		t.Error(err)
	}
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	var endless embedder
	endless.Conn = &endless
	for _, conn := range []net.Conn{nil, left, hiding(left), deeper{}, (*embedder)(nil), &endless} {
		if err := LimitHops(conn, 1); err == nil {
			t.Errorf("%T: no error", conn)
		}
	}
	closed := accepted(t, "tcp4", "127.0.0.1:0", "")
	_ = closed.Close()
	if err := LimitHops(closed, 1); err == nil {
		t.Error("a closed connection: no error")
	}
}

func hiding(conn net.Conn) net.Conn {
	return struct {
		net.Conn
		hider
	}{nil, hider{conn}}
}
