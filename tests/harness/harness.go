// SPDX-License-Identifier: Apache-2.0

// Package harness runs the built binary for black-box tests: on free ports,
// with its own directories, its log at hand, and gone when the test ends.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BinaryVariable names a ready-made binary; without it one is built.
const BinaryVariable = "METAGUARD_BINARY"

// built is the directory that was made for a binary, if one was.
var built string

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "metaguard-binary-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "metaguard")
	command := exec.Command("go", "build", "-o", path, "github.com/metaguard/metaguard/cmd/metaguard")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the binary: %w\n%s", err, output)
	}
	return path, nil
})

// Binary is the path of the binary under test.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// RemoveBinary removes what Binary and EC2Mock built, if they did; TestMain calls
// it at the end.
func RemoveBinary() {
	for _, dir := range []string{built, mockDirectory} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
}

// Root is the repository's root.
func Root(tb testing.TB) string {
	tb.Helper()
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

// FreePort gives a port that nobody listens on, at no address of this machine. It is
// none of those that the kernel gives to connections (ip_local_port_range begins at
// 32768), one of which could take it before it is used.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(22_000)
		listener, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}

// Process is a running Metaguard.
type Process struct {
	// Dir holds the Caddyfile and what belongs beside it.
	Dir string
	// Data is the data directory, where latches lie by default.
	Data string

	tb      testing.TB
	binary  string
	env     []string
	command *exec.Cmd
	done    chan struct{}
	log     *syncBuffer
	output  io.Writer // what it writes goes here
}

// New prepares a Metaguard in a directory of its own, which holds files.
// Environment entries are NAME=value.
func New(tb testing.TB, files map[string]string, env ...string) *Process {
	tb.Helper()
	p := &Process{Dir: tb.TempDir(), Data: tb.TempDir(), tb: tb, binary: Binary(tb), log: new(syncBuffer)}
	p.output = p.log
	p.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.Data, "XDG_DATA_HOME=" + p.Data, "XDG_CONFIG_HOME=" + p.Data,
	}, env...)
	for name, content := range files {
		p.Write(name, content)
	}
	tb.Cleanup(p.Stop)
	return p
}

// Setenv sets a variable of the process's environment, before it runs.
func (p *Process) Setenv(name, value string) { p.env = append(p.env, name+"="+value) }

// WriteTo makes what the process writes go to a file, before it runs; Log is empty
// then.
func (p *Process) WriteTo(to *os.File) { p.output = to }

// Start runs the Caddyfile in Dir and waits until address accepts connections.
func Start(tb testing.TB, address string, files map[string]string, env ...string) *Process {
	tb.Helper()
	p := New(tb, files, env...)
	p.Run(address)
	return p
}

// Write puts a file beside the Caddyfile, whole or not at all.
func (p *Process) Write(name, content string) {
	p.tb.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.tb.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		p.tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.tb.Fatal(err)
	}
}

// Run starts the process and waits until address accepts connections, and, on Linux,
// every other address of the Caddyfile as well.
func (p *Process) Run(address string) {
	p.tb.Helper()
	ready := newReady(p.tb)
	command := exec.Command(p.binary, "run", "--config", filepath.Join(p.Dir, "Caddyfile"), "--adapter", "caddyfile")
	command.Env = slices.Concat(ready.env, p.env)
	command.Stdout, command.Stderr = p.output, p.output
	if err := command.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.command, p.done = command, make(chan struct{})
	go func(command *exec.Cmd, done chan struct{}) {
		_ = command.Wait()
		close(done)
	}(p.command, p.done)
	p.Eventually("listening on "+address, func() bool {
		select {
		case <-p.done:
			p.tb.Fatalf("the process ended:\n%s", p.Log())
		default:
		}
		if !ready.done() {
			return false
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// Command runs a subcommand of the binary in Dir and gives its output. It is
// killed after a minute, which is an error.
func (p *Process) Command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, p.binary, args...)
	command.Dir = p.Dir
	command.Env = p.env
	output, err := command.CombinedOutput()
	return string(output), err
}

// Stop ends the process as an operator would, if it runs.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Signal sends a signal and does not wait.
func (p *Process) Signal(signal os.Signal) { _ = p.command.Process.Signal(signal) }

// Ended tells whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Pid is the process id.
func (p *Process) Pid() int { return p.command.Process.Pid }

func (p *Process) end(signal syscall.Signal) {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.command.Process.Kill()
		<-p.done
		p.tb.Errorf("the process did not end:\n%s", p.Log())
	}
	p.command = nil
	// A binary that was built with -race says it here and nowhere else.
	for _, defect := range []string{"WARNING: DATA RACE", `"outcome":"panic"`} {
		if _, rest, found := strings.Cut(p.Log(), defect); found {
			p.tb.Errorf("%s\n%s", defect, lastLines(rest, 60))
		}
	}
}

// Log is all that the process has written so far.
func (p *Process) Log() string { return p.log.String() }

// Eventually polls until the condition holds, and fails the test if it does
// not within a minute.
func (p *Process) Eventually(what string, condition func() bool) {
	p.tb.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	p.tb.Fatalf("not within a minute: %s\n%s", what, lastLines(p.Log(), 20))
}

// lastLines keeps the end of a long log.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// syncBuffer is a buffer that a process and a test share.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
