// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"os"
	"syscall"

	sys "golang.org/x/sys/unix"
)

const transparentSupported = true

// transparent is a net.Dialer's Control: it lets the socket be bound to an
// address that is not this host's.
func transparent(network, _ string, conn syscall.RawConn) error {
	var failure error
	err := conn.Control(func(fd uintptr) { failure = setTransparent(int(fd), network == "tcp6") })
	if err != nil {
		return err
	}
	return failure
}

// setTransparent sets IP_TRANSPARENT, and IP_BIND_ADDRESS_NO_PORT, by which a
// port is chosen for the whole connection and not kept from other callers (man
// 7 ip). The kernel asks for CAP_NET_ADMIN or CAP_NET_RAW
// (net/ipv4/ip_sockglue.c, do_ip_setsockopt).
func setTransparent(fd int, is6 bool) error {
	level, option := sys.SOL_IP, sys.IP_TRANSPARENT
	if is6 {
		level, option = sys.SOL_IPV6, sys.IPV6_TRANSPARENT
	}
	if err := sys.SetsockoptInt(fd, level, option, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_TRANSPARENT", err)
	}
	return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT",
		sys.SetsockoptInt(fd, sys.SOL_IP, sys.IP_BIND_ADDRESS_NO_PORT, 1))
}

// checkTransparent tries setTransparent on a socket that is closed at once.
func checkTransparent(is6 bool) error {
	family := sys.AF_INET
	if is6 {
		family = sys.AF_INET6
	}
	fd, err := sys.Socket(family, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer sys.Close(fd) //nolint:errcheck // nothing was done with it
	return setTransparent(fd, is6)
}
