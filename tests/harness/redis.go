// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// NeedRedis skips a test where there is no redis-server, and says what was left
// out. METAGUARD_REDIS is required, off, or empty for "if it is installed";
// CI=true requires it, too.
func NeedRedis(tb testing.TB, programs ...string) {
	tb.Helper()
	setting := os.Getenv("METAGUARD_REDIS")
	if setting == "off" {
		tb.Skip("left out: tests against a real Redis: METAGUARD_REDIS is off")
	}
	for _, program := range append([]string{"redis-server"}, programs...) {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		what := "left out: tests against a real Redis: no " + program + "; Debian has it in redis-server, redis-tools and redis-sentinel"
		if setting == "required" || os.Getenv("CI") == "true" {
			tb.Fatal(what)
		}
		tb.Skip(what)
	}
}

// Redis is a redis-server of the test's own. It listens on a port of the
// loopback address and on a socket, and keeps what was written when it is
// killed.
type Redis struct {
	// Dir is its directory.
	Dir string
	// Port and Address are where it listens.
	Port    int
	Address string
	// Socket is the path of its Unix socket.
	Socket string

	tb      testing.TB
	program string
	args    []string
	command *exec.Cmd
	done    chan struct{}
}

// StartRedis starts a redis-server; more arguments are its own, such as
// "--requirepass", "x".
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	NeedRedis(tb)
	r := newRedis(tb, "redis-server")
	r.args = append([]string{
		"--dir", r.Dir, "--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--unixsocket", r.Socket, "--unixsocketperm", "700",
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no", "--logfile", filepath.Join(r.Dir, "log"),
		"--repl-diskless-sync-delay", "0",
	}, args...)
	r.Run()
	return r
}

// StartSentinel starts a redis-sentinel for one master; more lines are its
// configuration.
func StartSentinel(tb testing.TB, master string, primary *Redis, lines ...string) *Redis {
	tb.Helper()
	NeedRedis(tb, "redis-sentinel")
	r := newRedis(tb, "redis-sentinel")
	config := filepath.Join(r.Dir, "sentinel.conf")
	content := strings.Join(append([]string{
		"bind 127.0.0.1", "port " + strconv.Itoa(r.Port), "dir " + r.Dir, "logfile " + filepath.Join(r.Dir, "log"),
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 1", master, primary.Port),
		"sentinel down-after-milliseconds " + master + " 1000",
		"sentinel failover-timeout " + master + " 3000",
	}, lines...), "\n") + "\n"
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	r.args = []string{config}
	r.Run()
	return r
}

func newRedis(tb testing.TB, program string) *Redis {
	tb.Helper()
	dir, err := os.MkdirTemp("", "mg-redis-") // short: a socket's path has about a hundred bytes
	if err != nil {
		tb.Fatal(err)
	}
	port := FreePort(tb)
	r := &Redis{
		Dir: dir, Port: port, Address: fmt.Sprintf("127.0.0.1:%d", port), Socket: filepath.Join(dir, "sock"),
		tb: tb, program: program,
	}
	tb.Cleanup(func() {
		r.Kill()
		_ = os.RemoveAll(dir)
	})
	return r
}

// Run starts it, at first or anew, and waits until it answers.
func (r *Redis) Run() {
	r.tb.Helper()
	r.command = exec.Command(r.program, r.args...)
	if err := r.command.Start(); err != nil {
		r.tb.Fatal(err)
	}
	r.done = make(chan struct{})
	go func(command *exec.Cmd, done chan struct{}) {
		_ = command.Wait()
		close(done)
	}(r.command, r.done)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if r.answers() {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(r.Dir, "log"))
	r.tb.Fatalf("%s does not answer:\n%s", r.program, lastLines(string(log), 20))
}

// Kill ends it at once, as a crash would, if it runs.
func (r *Redis) Kill() {
	if r.command == nil {
		return
	}
	_ = r.command.Process.Kill()
	<-r.done
	r.command = nil
}

// Signal sends it a signal.
func (r *Redis) Signal(signal os.Signal) { _ = r.command.Process.Signal(signal) }

// answers tells whether it answers, whatever it says, but not that it is still
// loading.
func (r *Redis) answers() bool {
	network, address := "unix", r.Socket
	if _, err := os.Stat(r.Socket); err != nil {
		network, address = "tcp", r.Address
	}
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && !strings.HasPrefix(line, "-LOADING")
}
