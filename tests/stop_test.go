// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// However a process is told to stop, a read and a write on their way are answered,
// and their lines are in the log file when it is gone.
func TestStop(t *testing.T) {
	t.Parallel()
	for how, stop := range map[string]func(t *testing.T, m *managed){
		"SIGTERM": func(_ *testing.T, m *managed) { m.Signal(syscall.SIGTERM) },
		"SIGINT":  func(_ *testing.T, m *managed) { m.Signal(syscall.SIGINT) },
		"metaguard stop": func(t *testing.T, m *managed) {
			if output, err := m.Command("stop", "--address", m.admin.Address); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			m, log := loggedSite(t, "")
			asked, answer := make(chan struct{}, 2), make(chan struct{})
			m.upstream.Script(func(string) string {
				asked <- struct{}{}
				<-answer
				return harness.OK("")
			})
			got := make(chan harness.Answer, 2)
			go func() {
				got <- harness.Raw(t, m.address, "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\n\r\n")
			}()
			go func() { got <- m.post(t, "", "password") }()
			<-asked
			<-asked
			go stop(t, m)
			m.Eventually("no new connection is taken", func() bool {
				conn, err := net.Dial("tcp", m.address)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			if m.Ended() {
				t.Fatal("the process did not wait")
			}
			close(answer)
			for range 2 {
				if one := <-got; one.Status != 200 || one.Err != nil {
					t.Errorf("%d %q %v", one.Status, one.Body, one.Err)
				}
			}
			m.Eventually("the process ends", m.Ended)
			if text := log(); strings.Count(text, `"msg":"decision"`) != 2 || strings.Count(text, `"msg":"decision event"`) != 2 || strings.Count(text, `"outcome":"forwarded"`) != 2 {
				t.Errorf("not two decisions and their events in\n%s", text)
			}
		})
	}
}

// What a server keeps longer than grace_period ends with it, and so does the
// process; a second SIGINT does not wait for that.
func TestStopEnds(t *testing.T) {
	t.Parallel()
	for how, signals := range map[string]int{"at the end of the grace period": 1, "with a second signal": 2} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			m, _ := loggedSite(t, map[int]string{1: "1s", 2: "1h"}[signals])
			asked, over := make(chan struct{}, 1), make(chan struct{})
			defer close(over)
			m.upstream.Script(func(string) string {
				asked <- struct{}{}
				<-over
				return harness.OK("")
			})
			go harness.Raw(t, m.address, "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\n\r\n")
			<-asked
			m.Signal(syscall.SIGINT)
			if signals == 2 {
				m.Eventually("no new connection is taken", func() bool {
					conn, err := net.Dial("tcp", m.address)
					if err == nil {
						_ = conn.Close()
					}
					return err != nil
				})
				m.Signal(syscall.SIGINT)
			}
			m.Eventually("the process ends", m.Ended)
		})
	}
}

// loggedSite is a site that writes its log to a file, and what gives that.
func loggedSite(t *testing.T, grace string) (*managed, func() string) {
	t.Helper()
	// The timeout is not what is tested, and the machine has much to do.
	m := prepareManaged(t, byAddress, nil)
	path := filepath.Join(m.Dir, "metaguard.log")
	m.edit(t, "Caddyfile", "level DEBUG", "level INFO\n\t\toutput file "+path)
	if grace != "" {
		m.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tgrace_period "+grace)
	}
	m.Run(m.address)
	return m, func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// What shows only when sockets and directories are made fails the start, too, with
// one line that names it, and nothing was served.
func TestStartFailsLate(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", harness.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	taken := strings.TrimPrefix(listener.Addr().String(), "127.0.0.1:")
	for name, test := range map[string]struct{ old, replacement, want string }{
		"a port that is taken":     {"http://:", "http://:" + taken + ", http://:", taken + ": bind: address already in use"},
		"an admin socket nowhere":  {"admin off", "admin unix//nowhere/admin.sock|0600", "/nowhere/admin.sock"},
		"a latch that cannot be":   {"dialect openstack", "dialect openstack\n\t\tpassword {\n\t\t\tlatch file /proc/latch\n\t\t}", "latch file: mkdir /proc/latch"},
		"a file for a latch":       {"dialect openstack", "dialect openstack\n\t\tpassword {\n\t\t\tlatch file /dev/null\n\t\t}", "/dev/null is not a directory"},
		"keys that are not there":  {"identify remote_ip", "identify jwt {\n\t\t\tissuer https://issuer.invalid\n\t\t\taudience a\n\t\t\tjwks nowhere.json\n\t\t}\n\t\tidentify remote_ip", "nowhere.json: no such file"},
		"OPA's file not there":     {"timeout 30s", "opa nowhere.yaml", "nowhere.yaml: open: no such file"},
		"a candidate not there":    {"timeout 30s", "candidate nowhere", "nowhere: stat: no such file"},
		"a session key, too short": {"dialect openstack", "dialect openstack\n\t\tsession required {\n\t\t\tkey {env.METAGUARD_NEUTRON_SECRET}\n\t\t}", "session: key {env.METAGUARD_NEUTRON_SECRET}"},
		"a log that cannot be":     {"level DEBUG", "level DEBUG\n\t\toutput file /dev/null/log", "/dev/null"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, byAddress, nil)
			s.edit(t, "Caddyfile", test.old, test.replacement)
			output := s.fails(t)
			lines := strings.Split(strings.TrimSpace(output), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, test.want) || strings.Contains(output, secret) {
				t.Errorf("want %q in the last line of\n%s", test.want, output)
			}
			if requests := s.upstream.Requests(); len(requests) > 0 {
				t.Errorf("the server saw %q", requests)
			}
		})
	}
}
