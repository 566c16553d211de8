// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// MaxHops is the highest hop limit that can be set.
const MaxHops = 64

var errNoTCP = errors.New("a hop limit can be set on a TCP connection only")

// LimitHops makes everything that leaves on a socket from now on, also what is
// sent again, get no further than this number of hops: each router takes one.
// Nothing else may follow on the connection. A Unix socket has no hops.
func LimitHops(socket net.Conn, hops int) (err error) {
	switch socket := socket.(type) {
	case *net.UnixConn:
		return nil
	case *net.TCPConn:
		remote, ok := socket.RemoteAddr().(*net.TCPAddr)
		switch {
		case !ok:
			return errNoTCP
		case remote.IP.To4() != nil: // on a socket for both kinds of addresses, too
			err = ipv4.NewConn(socket).SetTTL(hops)
		default:
			err = ipv6.NewConn(socket).SetHopLimit(hops)
		}
	default: // HTTP/3, or a listener that hides its socket
		return errNoTCP
	}
	if err != nil {
		return fmt.Errorf("setting the hop limit of a connection: %w", err)
	}
	return nil
}
