// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// childMode makes the test binary a caller, or a guard without privileges.
const childMode = "METAGUARD_TEST_CHILD"

func init() {
	mode := os.Getenv(childMode)
	if mode == "" {
		return
	}
	if err := runChild(mode, os.Args[1:]); err != nil {
		fmt.Println("ERROR", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runChild connects and sends a request for each line of its input; some lines
// are commands.
func runChild(mode string, args []string) error {
	if mode == "serve" {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(listener.Addr())
		return (&http.Server{Handler: identifying(newProcessFinder("/proc")), ConnContext: WithConnection}).Serve(listener)
	}
	if mode == "hold" { // what an inheritor does
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	conn, err := net.Dial(args[0], args[1])
	if err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch line := lines.Text(); line {
		case "setuid":
			if err := syscall.Setuid(1000); err != nil {
				return err
			}
		case "share", "share1000":
			file, err := conn.(interface{ File() (*os.File, error) }).File()
			if err != nil {
				return err
			}
			heir := exec.Command(os.Args[0])
			heir.Env = []string{childMode + "=hold", "HOME=/nonexistent"}
			heir.ExtraFiles = []*os.File{file}
			if line == "share1000" {
				heir.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
			}
			if _, err := heir.StdinPipe(); err != nil { // it ends with us
				return err
			}
			if err := heir.Start(); err != nil {
				return err
			}
			_ = file.Close()
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		fmt.Println(string(body))
	}
	return nil
}

// verdict is what the server under test says.
type verdict struct {
	Caller *decision.Caller
	Reason decision.Reason
	Code   string
	Error  string
}

func identifying(finder *processFinder) http.Handler {
	source := &Process{finder: finder}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _ := Peer(r)
		caller, refusal := source.Identify(r, peer)
		v := verdict{Caller: caller}
		if refusal != nil {
			v.Reason, v.Code, v.Error = refusal.Reason, refusal.Code, refusal.Error()
		}
		_ = json.NewEncoder(w).Encode(v)
	})
}

// serveProcesses listens and identifies.
func serveProcesses(tb testing.TB, network, address string) net.Addr {
	tb.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		tb.Skipf("no %s here: %v", network, err)
	}
	if network == "unix" {
		_ = os.Chmod(address, 0o666) //nolint:gosec // other users connect
	}
	server := &http.Server{Handler: identifying(newProcessFinder("/proc")), ConnContext: WithConnection, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	tb.Cleanup(func() { _ = server.Close(); <-done })
	return listener.Addr()
}

// caller is a child process that sends requests.
type caller struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// openDir is a directory that every user can look into.
func openDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "mg-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // that is what it is for
		tb.Fatal(err)
	}
	return dir
}

// testBinary is the test's own, where every user can run it.
func testBinary(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(openDir(tb), "caller")
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	if os.Link(self, path) == nil {
		return path
	}
	text, err := os.ReadFile(self)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o755); err != nil { //nolint:gosec // others run it
		tb.Fatal(err)
	}
	return path
}

func call(tb testing.TB, mode string, credential *syscall.Credential, args ...string) *caller {
	tb.Helper()
	return startCaller(tb, credential, []string{childMode + "=" + mode}, testBinary(tb), args...)
}

func startCaller(tb testing.TB, credential *syscall.Credential, env []string, name string, args ...string) *caller {
	tb.Helper()
	if credential != nil && os.Getuid() != 0 {
		tb.Skip("needs root: it starts a process of another user")
	}
	c := &caller{Cmd: exec.Command(name, args...)}
	c.Env = append(slices.Clone(env), "HOME=/nonexistent")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	var err error
	if c.in, err = c.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.in.Close(); _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func (c *caller) ask(tb testing.TB, line string) verdict {
	tb.Helper()
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		tb.Fatal(err)
	}
	text, err := c.out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	var v verdict
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		tb.Fatalf("%q: %v", text, err)
	}
	_, _ = c.out.ReadString('\n') // the encoder's own line end
	return v
}

// TestProcessIsFound starts callers of another user and compares everything.
func TestProcessIsFound(t *testing.T) {
	for name, at := range map[string]struct{ network, listen, dial string }{
		"IPv4":               {"tcp4", "127.0.0.1:0", "tcp4"},
		"IPv6":               {"tcp6", "[::1]:0", "tcp6"},
		"IPv4 to dual stack": {"tcp", "[::]:0", "tcp4"},
		"Unix":               {"unix", "", "unix"},
	} {
		t.Run(name, func(t *testing.T) {
			if at.network == "unix" {
				at.listen = filepath.Join(openDir(t), "s")
			}
			address := serveProcesses(t, at.network, at.listen).String()
			if at.network == "tcp" {
				_, port, _ := net.SplitHostPort(address)
				address = "127.0.0.1:" + port
			}
			child := call(t, "call", &syscall.Credential{Uid: 1, Gid: 2, Groups: []uint32{100, 4, 2}}, at.dial, address)
			for range 3 { // the second is found where the first was
				v := child.ask(t, "go")
				if v.Caller == nil {
					t.Fatalf("refused: %s", v.Error)
				}
				p := v.Caller.Process
				sum := sha256.Sum256([]byte(strings.Join(child.Args, "\x00") + "\x00"))
				if v.Caller.ID != "uid:1" || v.Caller.Source != "process" || v.Caller.InstanceID != "" ||
					p.PID != child.Process.Pid || p.UserID != 1 || !slices.Equal(p.GroupIDs, []int{2, 4, 100}) ||
					p.Executable != child.Path || p.CommandLineSHA256 != hex.EncodeToString(sum[:]) {
					t.Errorf("caller %+v, process %+v", v.Caller, p)
				}
				own, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
				if p.Cgroup != cgroupPath(string(own)) {
					t.Errorf("cgroup %q", p.Cgroup)
				}
				if at.network != "unix" && !v.Caller.Address.IsLoopback() || at.network == "unix" && v.Caller.Address.IsValid() {
					t.Errorf("address %v", v.Caller.Address)
				}
			}
		})
	}
}

// TestProcessMayNotChange holds a connection and changes who holds it.
func TestProcessMayNotChange(t *testing.T) {
	root := &syscall.Credential{}
	for name, test := range map[string]struct{ line, code string }{
		"another user now":      {"setuid", "process_user_changed"},
		"shared with another":   {"share1000", "process_ambiguous"},
		"shared with its equal": {"share", ""},
	} {
		for _, network := range []string{"tcp4", "unix"} {
			t.Run(name+" "+network, func(t *testing.T) {
				listen := "127.0.0.1:0"
				if network == "unix" {
					listen = filepath.Join(openDir(t), "s")
				}
				child := call(t, "call", root, network, serveProcesses(t, network, listen).String())
				if test.line != "setuid" {
					// Where the first request found the owner is not remembered for it.
					v := child.ask(t, test.line)
					if v.Code != test.code {
						t.Errorf("code %q: %s", v.Code, v.Error)
					}
					if test.code == "" && (v.Caller == nil || v.Caller.Process.PID != child.Process.Pid) {
						t.Errorf("caller %+v", v.Caller)
					}
					return
				}
				if v := child.ask(t, "go"); v.Caller == nil || v.Caller.ID != "uid:0" {
					t.Fatalf("%+v", v)
				}
				if v := child.ask(t, test.line); v.Code != test.code || v.Reason != decision.IdentityInvalid {
					t.Errorf("%+v", v)
				}
			})
		}
	}
}

// TestProcessEnds asks for a caller that is no more.
func TestProcessEnds(t *testing.T) {
	for _, network := range []string{"tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			listen := "127.0.0.1:0"
			if network == "unix" {
				listen = filepath.Join(openDir(t), "s")
			}
			listener, err := net.Listen(network, listen)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			child := call(t, "call", nil, network, listener.Addr().String())
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			source := &Process{finder: newProcessFinder("/proc")}
			r := request(nil).WithContext(WithConnection(context.Background(), conn))
			if caller, refusal := source.Identify(r, netip.Addr{}); caller == nil {
				t.Fatal(refusal)
			}
			_ = child.Process.Kill()
			_ = child.Wait()
			if caller, refusal := source.Identify(r, netip.Addr{}); caller != nil || refusal == nil || refusal.Code != "process_gone" {
				t.Errorf("%+v, %v", caller, refusal)
			}
		})
	}
}

// TestProcessWithoutPrivileges has a guard of another user than its caller.
func TestProcessWithoutPrivileges(t *testing.T) {
	guard := call(t, "serve", &syscall.Credential{Uid: 1000, Gid: 1000})
	address, err := guard.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	if v := call(t, "call", nil, "tcp4", address).ask(t, "go"); v.Code != "process_unreadable" {
		t.Errorf("another user's: %+v", v)
	}
	if v := call(t, "call", &syscall.Credential{Uid: 1000, Gid: 1000}, "tcp4", address).ask(t, "go"); v.Caller == nil || v.Caller.ID != "uid:1000" {
		t.Errorf("its own user's: %+v", v)
	}
}

// TestProcessElsewhere connects from another network namespace.
func TestProcessElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes a network namespace")
	}
	name := fmt.Sprintf("mg%d", os.Getpid())
	ip := func(args ...string) error { return exec.Command("ip", args...).Run() }
	if err := ip("netns", "add", name); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	t.Cleanup(func() { _ = ip("netns", "del", name) })
	for _, args := range [][]string{
		{"link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name},
		{"addr", "add", "10.213.7.1/24", "dev", name},
		{"link", "set", name, "up"},
		{"-n", name, "addr", "add", "10.213.7.2/24", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			t.Skipf("no virtual interfaces here: ip %v: %v", args, err)
		}
	}
	address := serveProcesses(t, "tcp4", "10.213.7.1:0").String()
	far := startCaller(t, nil, []string{childMode + "=call", "PATH=" + os.Getenv("PATH")}, "ip", "netns", "exec", name, testBinary(t), "tcp4", address)
	if v := far.ask(t, "go"); v.Caller != nil || v.Code != "" {
		t.Errorf("from elsewhere: %+v", v)
	}
	if v := call(t, "call", nil, "tcp4", address).ask(t, "go"); v.Caller == nil || v.Caller.Process.PID == 0 {
		t.Errorf("from this host by another address than loopback: %+v", v)
	}
}

// TestProcessRedirected connects elsewhere than to us, as a redirection does.
func TestProcessRedirected(t *testing.T) {
	actual, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer actual.Close()
	child := call(t, "call", nil, "tcp4", actual.Addr().String())
	conn, err := actual.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer func(was func(int, bool) (netip.AddrPort, bool)) { originalGoal = was }(originalGoal)
	goal := netip.MustParseAddrPort(actual.Addr().String())
	originalGoal = func(int, bool) (netip.AddrPort, bool) { return goal, true }

	local := &localConn{tcp: true}
	if local.endpoints, err = endpointsOf(conn.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	local.server = netip.MustParseAddrPort("127.0.0.1:9") // what our end would have
	if local.raw, err = conn.(*net.TCPConn).SyscallConn(); err != nil {
		t.Fatal(err)
	}
	finder := newProcessFinder("/proc")
	process, refusal := finder.find(t.Context(), local)
	if refusal != nil || process.PID != child.Process.Pid {
		t.Fatalf("%+v, %v", process, refusal)
	}
	goal = netip.MustParseAddrPort("127.0.0.2:" + fmt.Sprint(goal.Port())) // the same ports alone are not enough
	if _, refusal := finder.find(t.Context(), local); refusal == nil || refusal.Code != "process_gone" {
		t.Errorf("%v", refusal)
	}
}

// TestProcessHidden has connections that are none of the kernel's.
func TestProcessHidden(t *testing.T) {
	source := &Process{finder: newProcessFinder("/proc")}
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	r := request(nil).WithContext(WithConnection(context.Background(), one))
	if caller, refusal := source.Identify(r, loopback); caller != nil || refusal == nil || refusal.Code != "process_connection_hidden" {
		t.Errorf("a pipe: %+v, %v", caller, refusal)
	}
	if caller, refusal := source.Identify(request(nil), loopback); caller != nil || refusal == nil || refusal.Code != "process_connection_hidden" {
		t.Errorf("no connection: %+v, %v", caller, refusal)
	}
	r = request(nil)
	r.ProtoMajor = 3
	if caller, refusal := source.Identify(r, loopback); caller != nil || refusal != nil {
		t.Errorf("HTTP/3: %+v, %v", caller, refusal)
	}
}
