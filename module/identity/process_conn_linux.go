// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/metaguard/metaguard/module/decision"
)

// localConn is our end of a connection from this host.
type localConn struct {
	raw syscall.RawConn
	tcp bool
	endpoints
}

// endpoints are both ends of a TCP connection as our end has them.
type endpoints struct {
	client, server netip.AddrPort
	scope          uint32 // the interface of a link-local client
}

// socket is the caller's end of a connection, as the kernel knows it.
type socket struct {
	inode uint64
	// uid is of whoever made the socket, or connected it where it is a Unix one.
	uid uint32
	// gid and pid are known for a Unix socket only.
	gid uint32
	pid int
	// cookie is never given to another socket until the next boot. For a TCP
	// socket it is the caller's end's, for a Unix socket it is our end's.
	cookie uint64
}

// localConnection is the request's connection if it comes from this host, or
// nil. A request without one came over HTTP/3, and from nobody that could be
// found.
func localConnection(r *http.Request) (*localConn, *decision.Refusal) {
	conn := Connection(r)
	if conn == nil && r.ProtoMajor == 3 {
		return nil, nil
	}
	local := new(localConn)
	var err error
	switch conn := conn.(type) {
	case *net.UnixConn:
		local.raw, err = conn.SyscallConn()
	case *net.TCPConn:
		if local.endpoints, err = endpointsOf(conn); err != nil {
			break
		}
		var here bool
		if here, err = isLocal(local.endpoints); err != nil {
			return nil, decision.RefuseWith(decision.IdentityUnavailable, "process_unavailable", err)
		}
		if !here {
			return nil, nil
		}
		local.tcp = true
		local.raw, err = conn.SyscallConn()
	default:
		// Whether this is a caller of ours cannot be seen, and no weaker source
		// may answer for one that is.
		err = fmt.Errorf("the connection is hidden in a %T by a listener wrapper", conn)
	}
	if err != nil {
		return nil, decision.RefuseWith(decision.IdentityInvalid, "process_connection_hidden", err)
	}
	return local, nil
}

func endpointsOf(conn *net.TCPConn) (endpoints, error) {
	client, _ := conn.RemoteAddr().(*net.TCPAddr)
	server, _ := conn.LocalAddr().(*net.TCPAddr)
	if client == nil || server == nil {
		return endpoints{}, errors.New("the connection has no addresses")
	}
	e := endpoints{client: plainPort(client.AddrPort()), server: plainPort(server.AddrPort())}
	if client.Zone != "" {
		link, err := net.InterfaceByName(client.Zone)
		if err != nil {
			return endpoints{}, fmt.Errorf("finding the interface of a link-local address: %w", err)
		}
		e.scope = uint32(link.Index) //nolint:gosec // an index is a positive int32
	}
	return e, nil
}

func plainPort(address netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(plain(address.Addr()), address.Port())
}

// isLocal tells whether a client's address is one of this host's.
func isLocal(e endpoints) (bool, error) {
	if e.client.Addr().IsLoopback() || e.client.Addr() == e.server.Addr() {
		return true, nil
	}
	return routedLocally(e.client.Addr(), e.scope)
}

// socket asks the kernel for the caller's end.
func (c *localConn) socket() (s socket, err error) {
	asked := c.raw.Control(func(fd uintptr) {
		if c.tcp {
			s, err = c.tcpSocket(int(fd)) //nolint:gosec // a file descriptor
		} else {
			s, err = unixPeer(int(fd)) //nolint:gosec // a file descriptor
		}
	})
	if asked != nil {
		return socket{}, fmt.Errorf("%w: %w", errProcessGone, asked)
	}
	return s, err
}

// tcpSocket finds the client's socket, which is connected to where the client
// wanted to go. Where that is elsewhere, it is the only one that counts: a socket
// with our own address as its goal would be another's.
func (c *localConn) tcpSocket(fd int) (socket, error) {
	e := c.endpoints
	if goal, ok := originalGoal(fd, e.client.Addr().Is4()); ok {
		e.server = goal
	}
	return findTCP(e)
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST.
const soOriginalDst = 80

// originalGoal is where the client wanted to go before the kernel translated the
// address, as connection tracking remembers it, if there is any. It is a
// variable for tests: translation needs netfilter rules.
var originalGoal = func(fd int, v4 bool) (netip.AddrPort, bool) {
	if v4 {
		// A sockaddr_in of 16 bytes: family, port, address.
		got, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
		if err != nil {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(got.Multiaddr[4:8])), binary.BigEndian.Uint16(got.Multiaddr[2:4])), true
	}
	got, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, false
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], got.Addr.Port)
	return netip.AddrPortFrom(plain(netip.AddrFrom16(got.Addr.Addr)), binary.BigEndian.Uint16(port[:])), true
}

// unixPeer finds the other end of a Unix socket. The kernel remembers who
// connected it; who holds it now is found by its inode.
func unixPeer(fd int) (socket, error) {
	who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return socket{}, fmt.Errorf("reading who connected: %w", err)
	}
	if who.Pid <= 0 {
		return socket{}, fmt.Errorf("%w: it is in another PID namespace", errProcessGone)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return socket{}, fmt.Errorf("reading our own socket: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return socket{}, fmt.Errorf("reading our own socket: %w", err)
	}
	inode, err := findUnixPeer(uint32(stat.Ino)) //nolint:gosec // sockets have 32 bits of it
	if err != nil {
		return socket{}, err
	}
	return socket{inode: inode, uid: who.Uid, gid: who.Gid, pid: int(who.Pid), cookie: cookie}, nil
}
