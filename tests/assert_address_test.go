// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/metaguard/metaguard/tests/harness"
)

func init() { mayAssertAddress = mayBeTransparent }

// mayBeTransparent tells whether this process may connect from addresses that are not its own.
func mayBeTransparent() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) == nil
}

// Beside its first address the client's host has another one: a second caller.
const (
	other4 = "10.77.1.3"
	other6 = "fd77:1::3"
)

// addressServer knows callers by address: it says which one it sees. It answers
// nobody before it was asked from two addresses at a time.
type addressServer struct {
	mu   sync.Mutex
	seen map[string]bool
	two  chan struct{}
}

func newAddressServer() *addressServer {
	return &addressServer{seen: make(map[string]bool), two: make(chan struct{})}
}

func (s *addressServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	s.mu.Lock()
	if !s.seen[host] {
		if s.seen[host] = true; len(s.seen) == 2 {
			close(s.two)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.two:
	case <-time.After(5 * time.Second):
		host = "alone"
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, host)
}

// serveIn lets a server listen in a namespace, where its connections stay.
func (s *addressServer) serveIn(t *testing.T, namespace, host string) (address string) {
	t.Helper()
	harness.Inside(t, namespace, func() {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: s, ReadHeaderTimeout: within}
		go server.Serve(listener)
		t.Cleanup(func() { _ = server.Close() })
		address = listener.Addr().String()
	})
	return address
}

// documentedRoutes are the README's lines: for a server on this host, and for
// one behind it.
func documentedRoutes(t *testing.T) (here, behind string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n### Servers that know callers by address\n")
	if !found {
		t.Fatal("no such section in the README")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```")
	if len(blocks) != 5 {
		t.Fatalf("the section has %d parts", len(blocks))
	}
	return strings.TrimPrefix(blocks[1], "sh\n"), strings.TrimPrefix(blocks[3], "sh\n")
}

// assertingIn is a guard in a namespace that connects from its callers'
// addresses, on all its own.
func assertingIn(t *testing.T, namespace, server string) (s *site, port string) {
	t.Helper()
	harness.Inside(t, namespace, func() {
		s = prepareSite(t, byAddress+"\nassert address", map[string]string{"inventory.json": fmt.Sprintf(`[
			{"address": %q, "instance_id": %q, "project_id": %q}, {"address": %q, "instance_id": %q, "project_id": %q},
			{"address": %q, "instance_id": %q, "project_id": %q}, {"address": %q, "instance_id": %q, "project_id": %q}]`,
			far4, instance1, projectA, far6, instance1, projectA, other4, instance2, projectA, other6, instance2, projectA)})
		s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+server+" {\n\ttransport http {\n\t\tdial_timeout 1s\n\t}\n}")
		s.edit(t, "Caddyfile", "\tbind 127.0.0.1\n", "")
		s.Run(s.address)
	})
	_, port, _ = net.SplitHostPort(s.address)
	return s, port
}

// connectFrom dials from an address of a namespace.
func connectFrom(t *testing.T, namespace, source, address string) (conn net.Conn) {
	t.Helper()
	harness.Inside(t, namespace, func() {
		dialer := net.Dialer{Timeout: within, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		var err error
		if conn, err = dialer.Dial("tcp", address); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const getUserData = "GET " + userData + " HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"

// A server that knows callers by address sees each caller's own, with the
// README's routes and nothing else, wherever it runs.
func TestAssertAddress(t *testing.T) {
	here, behind := documentedRoutes(t)
	for _, place := range []struct {
		name, routes            string
		on                      func(*network) string
		sample, server4, serve6 string
	}{
		{"on this host", here, func(n *network) string { return n.router }, "127.0.0.1", "127.0.0.1", "::1"},
		{"behind this host", behind, func(n *network) string { return n.server }, "192.0.2.80", server4, server6},
	} {
		t.Run(place.name, func(t *testing.T) {
			n := newNetwork(t)
			for _, address := range []string{other4 + "/24", other6 + "/64"} {
				if output, err := exec.Command("ip", "-n", n.client, "address", "add", address, "dev", "eth", "nodad").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, output)
				}
			}
			for _, version := range []struct{ command, server, guard, one, two, foreign, foreignGuard string }{
				{"ip", place.server4, "10.77.1.1", far4, other4, far6, "fd77:1::1"},
				{"ip -6", place.serve6, "fd77:1::1", far6, other6, far4, "10.77.1.1"},
			} {
				t.Run(version.command, func(t *testing.T) {
					server := newAddressServer()
					address := server.serveIn(t, place.on(n), version.server)
					s, port := assertingIn(t, n.router, address)
					guard := net.JoinHostPort(version.guard, port)

					// Without routes no reply comes back, and the log says so.
					answer := request(connectFrom(t, n.client, version.one, guard), within, getUserData)
					if answer.Status != 502 || reason(answer) != "upstream_unreachable" {
						t.Errorf("without routes: %+v", answer)
					}
					s.Eventually("the log says why", func() bool { return strings.Contains(s.Log(), "no reply came back to this host") })

					_, serverPort, _ := net.SplitHostPort(address)
					routes := strings.NewReplacer("ip r", version.command+" r", "eth1", "right", place.sample, version.server, "8080", serverPort).Replace(place.routes)
					if output, err := exec.Command("ip", "netns", "exec", n.router, "sh", "-exc", routes).CombinedOutput(); err != nil {
						t.Fatalf("%v\n%s", err, output)
					}

					var all sync.WaitGroup
					for i := range 40 {
						source := version.one
						if i%2 == 1 {
							source = version.two
						}
						conn := connectFrom(t, n.client, source, guard)
						all.Go(func() {
							if answer := request(conn, within, getUserData); answer.Status != 200 || answer.Body != source {
								t.Errorf("%s was seen as %+v", source, answer)
							}
						})
					}
					all.Wait()

					// A caller of the other family cannot be shown to this server.
					answer = request(connectFrom(t, n.client, version.foreign, net.JoinHostPort(version.foreignGuard, port)), within, getUserData)
					if answer.Status != 403 || reason(answer) != "target_unknown" {
						t.Errorf("of the other family: %+v", answer)
					}
					s.Eventually("the log says that it is the family", func() bool { return strings.Contains(s.Log(), `"address_family"`) })
				})
			}
		})
	}
}

// connectsFromElsewhere leaves a test out where the process may not do that, or
// may not give the right up.
func connectsFromElsewhere(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETPCAP
	err := unix.Capget(&header, &have[0])
	if err == nil && have[0].Effective&needed == needed {
		return
	}
	if os.Getenv(harness.NamespacesVariable) == "required" {
		t.Fatalf("CAP_NET_ADMIN, CAP_NET_RAW or CAP_SETPCAP is missing (%v)", err)
	}
	t.Skipf("needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_SETPCAP (%s=required makes this a failure)", harness.NamespacesVariable)
}

// TLS to the server is as ever.
func TestAssertAddressTLS(t *testing.T) {
	t.Parallel()
	connectsFromElsewhere(t)
	server := httptest.NewTLSServer(newAddressServer())
	t.Cleanup(server.Close)
	s := prepareSite(t, byAddress+"\nassert address\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+server.URL+" {\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}")
	s.Run(s.address)
	var all sync.WaitGroup
	for _, caller := range []string{"127.0.0.1", "127.0.0.2"} {
		all.Go(func() {
			if answer := harness.RawFrom(t, caller, s.address, getUserData); answer.Status != 200 || answer.Body != caller {
				t.Errorf("%s was seen as %+v", caller, answer)
			}
		})
	}
	all.Wait()
}

// A process that may not connect from other addresses says so at the start.
// Either capability is enough.
func TestAssertAddressCapability(t *testing.T) {
	t.Parallel()
	connectsFromElsewhere(t)
	for name, test := range map[string]struct{ bounding, want string }{
		"neither":       {"-all", "CAP_NET_ADMIN is missing"},
		"CAP_NET_ADMIN": {"-all,+net_admin", "serving initial configuration"},
		"CAP_NET_RAW":   {"-all,+net_raw", "serving initial configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, byAddress+"\nassert address", nil)
			log := filepath.Join(s.Dir, "log")
			output, err := os.Create(log)
			if err != nil {
				t.Fatal(err)
			}
			defer output.Close()
			command := exec.Command("setpriv", "--bounding-set="+test.bounding, "--inh-caps=-all",
				harness.Binary(t), "run", "--config", filepath.Join(s.Dir, "Caddyfile"), "--adapter", "caddyfile")
			command.Env = append(os.Environ(), "HOME="+s.Data, "XDG_DATA_HOME="+s.Data, "XDG_CONFIG_HOME="+s.Data)
			command.Stdout, command.Stderr = output, output
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
			written := func() string {
				content, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				return string(content)
			}
			s.Eventually(test.want, func() bool { return strings.Contains(written(), test.want) })
			if text := written(); strings.Contains(text, `"level":"error"`) != (name == "neither") {
				t.Error(text)
			}
		})
	}
}

// What would let a connection be another caller's, or hide its address, is
// refused when it is loaded.
func TestAssertAddressValidate(t *testing.T) {
	t.Parallel()
	in := func(transport string) string {
		return "127.0.0.1:80 {\n\ttransport http {\n\t\t" + transport + "\n\t}\n}"
	}
	for name, test := range map[string]struct{ upstream, identify, want string }{
		"as it should be":        {"127.0.0.1:80", "", ""},
		"IPv6":                   {"[::1]:80 [2001:db8::1]:80", "", ""},
		"a placeholder":          {"{env.METAGUARD_SERVER}:80", "", ""},
		"no keepalive":           {in("keepalive off"), "", ""},
		"keepalive":              {in("keepalive 10s"), "", "keepalive is not possible"},
		"HTTP/2":                 {in("versions 1.1 2"), "", "only 1.1 is possible"},
		"another address":        {in("local_address 127.0.0.9"), "", "local_address is not possible"},
		"a proxy":                {in("network_proxy url http://127.0.0.1:3128"), "", "network_proxy is not possible"},
		"a TLS name from nobody": {in("tls\n\t\ttls_server_name {env.METAGUARD_SERVER}"), "", "tls_server_name"},
		"a Unix socket":          {"unix//run/server.sock", "", "Unix socket has no address"},
		"a name":                 {"localhost:80", "", "give the server's IP address"},
		"both families":          {"127.0.0.1:80 [::1]:80", "", "of one family only"},
		"found while it runs":    {"{\n\tdynamic a localhost 80\n}", "", "dynamic is not possible"},
		"failures count for all": {"127.0.0.1:80 {\n\tfail_duration 10s\n}", "", "fail_duration is not possible"},
		"nobody's address":       {"127.0.0.1:80", "identify anonymous", "gives none"},
		"an agent's word":        {"127.0.0.1:80", "identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n}\nidentify remote_ip inventory.json", "`identify neutron`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			identify := "identify remote_ip inventory.json"
			if test.identify != "" {
				identify = test.identify
			}
			s := prepareSite(t, identify+"\nassert address", nil)
			s.Setenv("METAGUARD_SERVER", "127.0.0.1")
			s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+test.upstream)
			output, err := s.Command("validate", "--config", "Caddyfile")
			if (err == nil) != (test.want == "") || !strings.Contains(output, test.want) {
				t.Errorf("%v: %s", err, output)
			}
			if test.want != "" && !strings.Contains(output, "assert address") {
				t.Errorf("it does not say whose error it is: %s", output)
			}
		})
	}
}
