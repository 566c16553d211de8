// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// recorded waits until all that was answered is in the log, and so in the latch
// before: a client has its answer a moment earlier.
func (s *cloudStackSite) recorded(t *testing.T) {
	t.Helper()
	s.Eventually("the end of every request", func() bool {
		return strings.Count(s.Log(), `"msg":"decision event"`) == strings.Count(s.Log(), `"msg":"decision",`)
	})
}

// A password is read, acknowledged and forgotten, and the next one that is made
// can be read again.
func TestCloudStackPassword(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	for _, password := range []string{"aB3dEf", "aB3dEf", "längeres Passwort: #1"} {
		s.router.SetPassword("127.0.0.1", password)
		s.router.SetPassword("127.0.0.2", "another's")
		for range 2 { // cloudbase-init reads twice
			answer, seen := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSend)
			if answer.Status != 200 || answer.Body != password {
				t.Fatalf("%d %q", answer.Status, answer.Body)
			}
			for name, want := range map[string]string{
				"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "Caddy",
			} {
				if got := answer.Header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if len(seen) != 1 || !strings.HasPrefix(seen[0], "GET / HTTP/1.1\r\n") || strings.Count(seen[0], "\r\n"+cloudStackSend) != 1 {
				t.Errorf("the server saw %q", seen)
			}
		}
		s.acknowledges(t, "127.0.0.1", 200, 1)
		if s.router.Password("127.0.0.1") != "" || s.router.Password("127.0.0.2") != "another's" {
			t.Error("the server has not forgotten it, or another's")
		}
		s.acknowledges(t, "127.0.0.1", 200, 0) // a client that did not get the answer
		s.reads(t, "127.0.0.1", cloudStackNone)
	}
	lines := s.decisions(t, 3)
	if line := lines[2]; line["resource"] != "password" || line["action"] != "write" || line["key"] != "saved_password" || line["reason"] != "policy_allow" {
		t.Errorf("%v", line)
	}
	if strings.Contains(s.Log(), "aB3dEf") || strings.Contains(s.Log(), "Passwort") {
		t.Error("a password is in the log")
	}
}

// connections are made before they are used, so that requests follow one
// another as closely as they can.
func (s *cloudStackSite) connections(t *testing.T, count int) func(headers string) harness.Answer {
	t.Helper()
	made := make([]net.Conn, count)
	for i := range made {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		made[i] = conn
	}
	return func(headers string) harness.Answer {
		conn := made[0]
		made = made[1:]
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: m\r\n%s\r\n", headers)
		return harness.ReadAnswer(bufio.NewReader(conn), "GET ")
	}
}

// A client that asks until there is a password, and acknowledges at once: it is faster
// than what the server does when an answer is out.
func TestCloudStackFastClient(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	for round := range 20 {
		send := s.connections(t, 5)
		for i, password := range []string{"old", "", "", fmt.Sprint("new ", round)} {
			s.router.SetPassword("127.0.0.1", password)
			if password == "" {
				password = cloudStackNone
			}
			if answer := send(cloudStackSend); answer.Status != 200 || answer.Body != password {
				t.Fatalf("round %d, read %d: %d %q %v", round, i, answer.Status, answer.Body, answer.Err)
			}
		}
		if answer := send(cloudStackSaved); answer.Status != 200 || answer.Body != cloudStackNone || s.router.Password("127.0.0.1") != "" {
			t.Fatalf("round %d, acknowledging: %d %q %v", round, answer.Status, answer.Body, answer.Err)
		}
	}
}

// An acknowledgement makes the server forget, so it is for who has read alone.
func TestCloudStackAcknowledgementNeedsARead(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "first")
	s.router.SetPassword("127.0.0.2", "second")
	s.acknowledges(t, "127.0.0.1", 409, 0)
	s.reads(t, "127.0.0.1", "first")
	s.acknowledges(t, "127.0.0.2", 409, 0)
	if answer, seen := s.sends(t, "127.0.0.3", "GET", "/", cloudStackSaved); answer.Status != 401 || len(seen) != 0 {
		t.Errorf("nobody: %d, the server saw %q", answer.Status, seen)
	}
	if s.router.Password("127.0.0.1") != "first" || s.router.Password("127.0.0.2") != "second" {
		t.Fatal("forgotten")
	}
	// An empty read is none, and what is read later is newer than what was read.
	s.router.SetPassword("127.0.0.1", "")
	s.reads(t, "127.0.0.1", cloudStackNone)
	s.router.SetPassword("127.0.0.1", "newer")
	s.acknowledges(t, "127.0.0.1", 409, 0)
	for _, line := range s.decisions(t, 6) {
		if line["status"] == 409.0 && line["code"] != "acknowledge_without_read" {
			t.Errorf("%v", line)
		}
	}
}

// An acknowledgement whose client hangs up goes on, so that what the server made of
// it is known, and it is not sent again for a newer password.
func TestCloudStackHangUpAcknowledging(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "read")
	s.reads(t, "127.0.0.1", "read")
	asked, answered := make(chan struct{}, 8), make(chan struct{})
	s.upstream.Script(func(request string) string {
		asked <- struct{}{}
		<-answered
		return s.router.ServePassword(request)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: m\r\n%s\r\n", cloudStackSaved)
	<-asked
	conn.Close()
	answer := sync.OnceFunc(func() { close(answered) })
	time.AfterFunc(10*time.Second, answer) // if one is sent that must not be
	if answer, _ := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != 409 || reason(answer) != "password_write_pending" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if len(asked) != 0 {
		t.Error("it was sent twice")
	}
	answer()
	s.acknowledges(t, "127.0.0.1", 200, 0)
}

// A client that hangs up before its answer was sent has not read.
func TestCloudStackHangUp(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "unread")
	asked, answered := make(chan struct{}), make(chan struct{})
	s.upstream.Script(func(request string) string {
		close(asked)
		<-answered
		return s.router.ServePassword(request)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: m\r\n%s\r\n", cloudStackSend)
	<-asked
	// While it reads, nobody acknowledges.
	if answer, _ := s.sends(t, "127.0.0.1", "GET", "/", cloudStackSaved); answer.Status != 409 || reason(answer) != "password_write_pending" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	conn.Close()
	s.decisions(t, 2)
	close(answered)
	s.upstream.Script(s.router.ServePassword)
	s.acknowledges(t, "127.0.0.1", 409, 0)
	s.reads(t, "127.0.0.1", "unread")
	s.acknowledges(t, "127.0.0.1", 200, 1)
}

// Of many that acknowledge at once one is sent, and all are told.
func TestCloudStackConcurrently(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, false)
	s.router.SetPassword("127.0.0.1", "once")
	var all sync.WaitGroup
	together := func(headers, want string) {
		for range 4 {
			all.Go(func() {
				answer := harness.RawFrom(t, "127.0.0.1", s.address, "GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+headers+"\r\n")
				if answer.Status != 200 || answer.Body != want {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
			})
		}
		all.Wait()
	}
	together(cloudStackSend, "once")
	s.upstream.Forget()
	together(cloudStackSaved, cloudStackNone)
	if seen := s.upstream.Requests(); len(seen) != 1 {
		t.Errorf("the server saw %q", seen)
	}
}

// Who has read may acknowledge through another replica, after a reload and after
// a restart or a crash.
func TestCloudStackReplicas(t *testing.T) {
	t.Parallel()
	directory, _ := sharedDirectory(t)
	redis, _ := sharedRedis(t)
	for name, shared := range map[string]sharing{"file": directory, "redis": redis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := "password {\n\t\tlatch " + shared.latch + "\n\t\tfingerprint_key {env.METAGUARD_FINGERPRINT}\n\t}"
			router := harness.NewCloudStack(t)
			replicas := make([]*cloudStackSite, 2)
			for i := range replicas {
				s := prepareCloudStack(t, settings, true, false)
				s.edit(t, "Caddyfile", s.upstream.Address, router.Passwords.Address)
				s.upstream, s.router = router.Passwords, router
				for _, variable := range append(shared.env, "METAGUARD_FINGERPRINT=0123456789abcdef0123456789abcdef") {
					name, value, _ := strings.Cut(variable, "=")
					s.Setenv(name, value)
				}
				s.Run(s.address)
				replicas[i] = s
			}
			one, two := replicas[0], replicas[1]
			for name, between := range map[string]func(){
				"nothing": func() {},
				"reload": func() {
					if output, err := one.reload(t, "--force"); err != nil {
						t.Fatalf("%v\n%s", err, output)
					}
				},
				"restart": func() { one.Stop(); one.Run(one.address) },
				"crash":   func() { one.Kill(); one.Run(one.address) },
			} {
				router.SetPassword("127.0.0.1", "made before "+name)
				one.reads(t, "127.0.0.1", "made before "+name)
				one.recorded(t)
				between()
				two.acknowledges(t, "127.0.0.2", 409, 0)
				two.acknowledges(t, "127.0.0.1", 200, 1)
				one.acknowledges(t, "127.0.0.1", 200, 0)
				if router.Password("127.0.0.1") != "" {
					t.Errorf("%s: not forgotten", name)
				}
				router.SetPassword("127.0.0.1", "made after "+name)
				two.reads(t, "127.0.0.1", "made after "+name)
				two.recorded(t)
				between()
				one.acknowledges(t, "127.0.0.1", 200, 1)
			}
		})
	}
}
