// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// meanwhile makes a process's command line a pipe: whoever reads it waits until
// change was called, which is after the first look at the process and before
// the second.
func meanwhile(tb testing.TB, dir string, change func()) {
	tb.Helper()
	pipe := filepath.Join(dir, "cmdline")
	if err := errors.Join(os.Remove(pipe), unix.Mkfifo(pipe, 0o600)); err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			tb.Error(err)
			return
		}
		change()
		_, _ = writer.WriteString("a\x00")
		_ = writer.Close()
	}()
	tb.Cleanup(func() { <-done })
}

// A process that becomes another while it is looked at is none.
func TestProcessChangesMeanwhile(t *testing.T) {
	exe, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	link := func(name, to string) func(dir string) error {
		return func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, name)), os.Symlink(to, filepath.Join(dir, name)))
		}
	}
	for name, test := range map[string]struct {
		change func(dir string) error
		want   error
	}{
		"nothing":        {func(string) error { return nil }, nil},
		"its user":       {write("status", "Uid:\t5\t7\t7\t7\nGid:\t5\t0\t0\t0\nGroups:\t9 3 0 9 \n"), errProcessGone},
		"its groups":     {write("status", "Uid:\t5\t6\t6\t6\nGid:\t5\t0\t0\t0\nGroups:\t9 4 0 9 \n"), errProcessGone},
		"its executable": {link("exe", "/bin/other"), errProcessGone},
		"its start":      {write("stat", "2 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0\n"), errProcessGone},
		"its socket":     {link("fd/0", "socket:[78]"), errProcessGone},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			fakeProcess(t, root, 2, exe, "/a", "socket:[77]")
			dir := filepath.Join(root, "2")
			meanwhile(t, dir, func() {
				if err := test.change(dir); err != nil {
					t.Error(err)
				}
			})
			if _, err := newProcessFinder(root).describe(place{2, "0"}, held); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// A caller that ends, and another that takes its port, is not taken for it.
func TestProcessPortIsTakenMeanwhile(t *testing.T) {
	for name, again := range map[string]bool{"it stays": false, "another takes its port": true} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			r := request(nil)
			r = r.WithContext(WithConnection(r.Context(), server))
			conn, refusal := localConnection(r)
			if conn == nil {
				t.Fatal(refusal)
			}
			s, err := conn.socket()
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			dir := filepath.Join(root, "2")
			fakeProcess(t, root, 2, "/bin/sh", "/a", socketName(s.inode))
			status := fmt.Sprintf("Uid:\t%d\t%d\t0\t0\nGid:\t0\t%d\t0\t0\nGroups:\t\n", os.Geteuid(), os.Geteuid(), os.Getegid())
			for file, text := range map[string]string{"status": status, "fd/" + socketName(s.inode): ""} { // the latter is what the link leads to
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			meanwhile(t, dir, func() {
				if !again {
					return
				}
				_ = client.(*net.TCPConn).SetLinger(0)
				_ = client.Close()
				other, err := (&net.Dialer{LocalAddr: client.LocalAddr()}).Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = other.Close() })
			})
			_, refusal = newProcessFinder(root).find(t.Context(), conn)
			if again && (refusal == nil || refusal.Code != "process_gone") || !again && refusal != nil {
				t.Error(refusal)
			}
		})
	}
}
