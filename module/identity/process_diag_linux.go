// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// errNoSocket means that the kernel has no such socket, or that no file
// descriptor has it any more.
var errNoSocket = errors.New("the caller's socket is closed")

// Of linux/sock_diag.h, inet_diag.h and unix_diag.h.
const (
	sockDiagByFamily = 20
	inetDiagRequest  = 56 // inet_diag_req_v2
	inetDiagAnswer   = 72 // inet_diag_msg
	inetDiagNoCookie = ^uint64(0)
	unixDiagRequest  = 24 // unix_diag_req
	unixDiagAnswer   = 16 // unix_diag_msg
	unixDiagShowPeer = 4  // UDIAG_SHOW_PEER
	unixDiagPeer     = 2  // UNIX_DIAG_PEER
)

// connected are the states of TCP in which a client that we talk to can be.
const connected = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 |
	1<<unix.BPF_TCP_CLOSE_WAIT | 1<<unix.BPF_TCP_LAST_ACK | 1<<unix.BPF_TCP_CLOSING

// findTCP asks for one socket by both addresses. A dump, which is what the
// usual libraries ask for, is filtered by the ports alone, and so finds sockets of
// others.
func findTCP(e endpoints) (socket, error) {
	var request [inetDiagRequest]byte
	if request[0] = unix.AF_INET6; e.client.Addr().Is4() {
		request[0] = unix.AF_INET
	}
	if e.client.Addr().Is4() != e.server.Addr().Is4() {
		return socket{}, errNoSocket
	}
	request[1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0))
	id := request[8:]
	putID(id, e)
	binary.NativeEndian.PutUint32(id[36:], e.scope)
	binary.NativeEndian.PutUint64(id[40:], inetDiagNoCookie)

	var answer [512]byte
	got, err := ask(unix.NETLINK_SOCK_DIAG, sockDiagByFamily, request[:], answer[:])
	if errors.Is(err, unix.ENOENT) {
		return socket{}, errNoSocket
	}
	if err != nil {
		return socket{}, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	if len(got) < inetDiagAnswer {
		return socket{}, errors.New("asking the kernel for a socket: the answer is too short")
	}
	// The kernel falls back to a listener. A client's IPv6 socket can be connected
	// to an IPv4 address.
	var wanted [36]byte
	putID(wanted[:], e)
	if got[0] == unix.AF_INET6 {
		client, server := e.client.Addr().As16(), e.server.Addr().As16()
		copy(wanted[4:20], client[:])
		copy(wanted[20:36], server[:])
	}
	if string(got[4:40]) != string(wanted[:]) || connected&(1<<got[1]) == 0 {
		return socket{}, errNoSocket
	}
	s := socket{
		uid:    binary.NativeEndian.Uint32(got[64:]),
		inode:  uint64(binary.NativeEndian.Uint32(got[68:])),
		cookie: binary.NativeEndian.Uint64(got[44:]),
	}
	if s.inode == 0 { // no longer anybody's
		return socket{}, errNoSocket
	}
	return s, nil
}

// putID writes ports and addresses as an inet_diag_sockid begins.
func putID(id []byte, e endpoints) {
	binary.BigEndian.PutUint16(id[0:], e.client.Port())
	binary.BigEndian.PutUint16(id[2:], e.server.Port())
	copy(id[4:20], e.client.Addr().AsSlice())
	copy(id[20:36], e.server.Addr().AsSlice())
}

// findUnixPeer asks for the inode of the socket that is connected to ours.
func findUnixPeer(inode uint32) (uint64, error) {
	var request [unixDiagRequest]byte
	request[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(request[4:], ^uint32(0))
	binary.NativeEndian.PutUint32(request[8:], inode)
	binary.NativeEndian.PutUint32(request[12:], unixDiagShowPeer)
	binary.NativeEndian.PutUint64(request[16:], inetDiagNoCookie)

	var answer [512]byte
	got, err := ask(unix.NETLINK_SOCK_DIAG, sockDiagByFamily, request[:], answer[:])
	if errors.Is(err, unix.ENOENT) {
		return 0, errNoSocket
	}
	if err != nil {
		return 0, fmt.Errorf("asking the kernel for a socket: %w", err)
	}
	if len(got) < unixDiagAnswer {
		return 0, errors.New("asking the kernel for a socket: the answer is too short")
	}
	peer, ok := attribute(got[unixDiagAnswer:], unixDiagPeer)
	if !ok || len(peer) < 4 || binary.NativeEndian.Uint32(peer) == 0 {
		return 0, errNoSocket
	}
	return uint64(binary.NativeEndian.Uint32(peer)), nil
}

// routedLocally tells whether the kernel takes an address for the host's own.
func routedLocally(address netip.Addr, scope uint32) (bool, error) {
	var request [unix.SizeofRtMsg + 20 + 8]byte
	bytes := address.AsSlice()
	if request[0] = unix.AF_INET6; address.Is4() {
		request[0] = unix.AF_INET
	}
	request[1] = byte(8 * len(bytes)) //nolint:gosec // 32 or 128
	end := putAttribute(request[:], unix.SizeofRtMsg, unix.RTA_DST, bytes)
	if scope != 0 {
		end = putAttribute(request[:], end, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, scope))
	}
	var answer [1024]byte
	got, err := ask(unix.NETLINK_ROUTE, unix.RTM_GETROUTE, request[:end], answer[:])
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("asking the kernel whose address the peer has: %w", err)
	case len(got) < unix.SizeofRtMsg:
		return false, errors.New("asking the kernel whose address the peer has: the answer is too short")
	}
	return got[7] == unix.RTN_LOCAL, nil
}

func putAttribute(message []byte, at int, kind uint16, value []byte) int {
	binary.NativeEndian.PutUint16(message[at:], uint16(unix.SizeofRtAttr+len(value))) //nolint:gosec // short
	binary.NativeEndian.PutUint16(message[at+2:], kind)
	return at + unix.SizeofRtAttr + copy(message[at+unix.SizeofRtAttr:], value)
}

func attribute(message []byte, kind uint16) ([]byte, bool) {
	for len(message) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(message))
		if length < unix.SizeofRtAttr || length > len(message) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(message[2:]) == kind {
			return message[unix.SizeofRtAttr:length], true
		}
		message = message[min((length+3)&^3, len(message)):]
	}
	return nil, false
}

// ask sends the kernel one question that has one answer, and gives the answer
// without its header. The kernel answers at once; the time limit is for a bug.
func ask(family int, kind uint16, question, answer []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is lost
	limit := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, err
	}
	var message [unix.SizeofNlMsghdr + 64]byte
	length := unix.SizeofNlMsghdr + len(question)
	binary.NativeEndian.PutUint32(message[0:], uint32(length)) //nolint:gosec // short
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST)
	copy(message[unix.SizeofNlMsghdr:], question)
	if err := unix.Sendto(fd, message[:length], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	n, from, err := unix.Recvfrom(fd, answer, 0)
	for errors.Is(err, unix.EINTR) {
		n, from, err = unix.Recvfrom(fd, answer, 0)
	}
	if err != nil {
		return nil, err
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return nil, errors.New("the answer is not the kernel's")
	}
	if n < unix.SizeofNlMsghdr {
		return nil, errors.New("the answer is too short")
	}
	body := answer[unix.SizeofNlMsghdr:n]
	switch got := binary.NativeEndian.Uint16(answer[4:]); got {
	case unix.NLMSG_ERROR:
		if len(body) < 4 {
			return nil, errors.New("the answer is too short")
		}
		if code := int32(binary.NativeEndian.Uint32(body)); code < 0 { //nolint:gosec // a negative errno
			return nil, unix.Errno(-code)
		}
		return nil, errors.New("there is no answer")
	case unix.NLMSG_DONE:
		return nil, errors.New("there is no answer")
	}
	return body, nil
}
