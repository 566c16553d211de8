// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peerOf is the process at the other end of a connection over a Unix socket.
func peerOf(conn net.Conn) (int, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("the admin API is on no Unix socket, so that it does not say which process it is")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		credentials, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failure != nil {
		return 0, failure
	}
	if credentials.Pid <= 0 {
		return 0, errors.New("the server runs where its process cannot be seen from here")
	}
	return int(credentials.Pid), nil
}

// fileLimit is how many files the server may have open, and whose limit it is.
func (x *examination) fileLimit() (limit uint64, of string, err error) {
	if x.running == nil {
		var own unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own)
		return own.Cur, "this program's limit", err
	}
	path := fmt.Sprintf("/proc/%d/limits", x.running.pid)
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, path, err
	}
	for line := range strings.Lines(string(content)) {
		rest, found := strings.CutPrefix(line, "Max open files")
		if fields := strings.Fields(rest); found && len(fields) > 0 {
			if fields[0] == "unlimited" {
				return ^uint64(0), path, nil
			}
			limit, err := strconv.ParseUint(fields[0], 10, 64)
			return limit, path, err
		}
	}
	return 0, path, errors.New("it does not say how many files may be open")
}

// checkSynchronised asks the kernel whether something keeps the clock right.
func checkSynchronised(_ context.Context, _ *examination, f *finder) {
	var clock unix.Timex
	state, err := unix.Adjtimex(&clock)
	switch {
	case err != nil:
		f.unable("the kernel's clock", plain(err))
	case state == unix.TIME_ERROR || clock.Status&unix.STA_UNSYNC != 0:
		f.found("the kernel's clock", "nothing keeps the clock of this host right, as far as the kernel knows")
	}
}

// listeners gives the addresses on which this host listens on TCP. The libraries
// for this want a netlink socket or are marked as deprecated; the text has two
// fields that count.
func listeners() ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && path == "/proc/net/tcp6" {
			continue // without IPv6
		}
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != fmt.Sprintf("%02X", unix.BPF_TCP_LISTEN) {
				continue
			}
			if address, ok := parseProc(fields[1]); ok {
				found = append(found, address)
			}
		}
	}
	return found, nil
}

// parseProc reads an address as the kernel writes it: words of four bytes, each
// in the order of this machine.
func parseProc(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(host)
	number, errPort := strconv.ParseUint(port, 16, 16)
	if err != nil || errPort != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	if littleEndian {
		for i := 0; i < len(words); i += 4 {
			words[i], words[i+1], words[i+2], words[i+3] = words[i+3], words[i+2], words[i+1], words[i]
		}
	}
	address, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), ok
}
