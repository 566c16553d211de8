// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"bytes"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// service is a running Metaguard.
type service struct {
	t       *testing.T
	command *exec.Cmd
	log     safeBuffer
	done    chan struct{}
}

// serve starts a process that ends with the test.
func serve(t *testing.T, command *exec.Cmd) *service {
	t.Helper()
	s := &service{t: t, command: command, done: make(chan struct{})}
	command.Stdout, command.Stderr = &s.log, &s.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = command.Wait()
		close(s.done)
	}()
	t.Cleanup(s.stop)
	return s
}

func (s *service) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		_ = s.command.Process.Kill()
		<-s.done
		s.t.Errorf("the process did not end:\n%s", s.log.String())
	}
}

// eventually polls until the condition holds, while the process runs.
func (s *service) eventually(what string, condition func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
		select {
		case <-s.done:
			s.t.Fatalf("the process ended, but %s was awaited:\n%s", what, s.log.String())
		default:
		}
	}
	s.t.Fatalf("not within a minute: %s\n%s", what, s.log.String())
}

// listens awaits the port.
func (s *service) listens(address string) {
	s.t.Helper()
	s.eventually("listening on "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// safeBuffer is a buffer that a process and a test share.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
