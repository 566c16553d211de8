// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"testing"
)

// ready stands for the service manager of a process (sd_notify(3)). A server that
// listens at several addresses opens one after the other; when all of them are open it
// tells its service manager, on Linux.
type ready struct {
	// env has the variable that names the socket.
	env []string
	// told is closed when the process says that it is ready.
	told chan struct{}
}

func newReady(tb testing.TB) *ready {
	tb.Helper()
	r := &ready{told: make(chan struct{})}
	if runtime.GOOS != "linux" {
		close(r.told)
		return r
	}
	socket := socketPath(tb, "notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	r.env = []string{"NOTIFY_SOCKET=" + socket}
	go r.listen(conn)
	return r
}

// listen reads to the end: a process whose messages nobody takes would wait for room.
func (r *ready) listen(conn *net.UnixConn) {
	tell := sync.OnceFunc(func() { close(r.told) })
	message := make([]byte, 64<<10)
	for {
		n, err := conn.Read(message)
		if err != nil {
			return
		}
		if bytes.Contains(message[:n], []byte("READY=1")) {
			tell()
		}
	}
}

// done tells whether the process said so.
func (r *ready) done() bool {
	select {
	case <-r.told:
		return true
	default:
		return false
	}
}
