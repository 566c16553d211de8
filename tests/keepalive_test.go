// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tests

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const keepalive = "keepalive 1m"

// sharingSite is a site in front of a server that keeps connections.
type sharingSite struct {
	*site
	server *harness.Keeping
}

// newSharingSite starts one. The script gets the number of a request, from 1 on.
func newSharingSite(t *testing.T, dialect, transport, settings string, files map[string]string, script func(number int, request string) string) *sharingSite {
	t.Helper()
	var number atomic.Int64
	server := harness.NewKeeping(t, func(request string) string { return script(int(number.Add(1)), request) })
	s := prepareSite(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}\n"+settings, files)
	s.edit(t, "Caddyfile", "dialect openstack", "dialect "+dialect)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+server.Address+" {\ntransport http {\n"+transport+"\n}\n}")
	s.Run(s.address)
	return &sharingSite{s, server}
}

// whose is a document that says whom the server made it for.
func whose(request string) string {
	_, rest, _ := strings.Cut(request, "\r\nX-Instance-Id: ")
	instance, _, _ := strings.Cut(rest, "\r\n")
	return documentFor(instance)
}

func documentFor(instance string) string { return fmt.Sprintf(`{"for": %q}`, instance) }

// reads reads user data and metadata, for two instances in turn. Each gets its own.
func (s *sharingSite) reads(t *testing.T, times int) {
	t.Helper()
	for i := range times {
		from, instance := "127.0.0.1", instance1
		if i%2 == 1 {
			from, instance = "127.0.0.2", instance2
		}
		path := []string{userdataPath, metadataPath}[i/2%2]
		if answer := s.getFrom(t, from, path); answer.Status != 200 || answer.Body != documentFor(instance) {
			t.Errorf("%s, %s: %d %q %v", from, path, answer.Status, answer.Body, answer.Err)
		}
	}
}

// served fails unless so many requests came on each connection.
func (s *sharingSite) served(t *testing.T, want ...int) {
	t.Helper()
	var got []int
	for _, requests := range s.server.Requests() {
		got = append(got, len(requests))
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests on each connection: %d, want %d", got, want)
	}
}

// Each request has a connection of its own, unless `keepalive` says otherwise: then
// reads share one, whoever asks, as soon as one answer has shown its length.
func TestConnectionsToTheServer(t *testing.T) {
	t.Parallel()
	single := []int{1, 1, 1, 1, 1, 1, 1, 1}
	for transport, want := range map[string][]int{
		"":                                   single,
		"keepalive off":                      single,
		keepalive + "\nmax_conns_per_host 8": single,
		keepalive:                            {1, 7},
	} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := newSharingSite(t, "openstack", transport, "", nil, func(_ int, request string) string { return harness.OK(whose(request)) })
			s.reads(t, 8)
			s.served(t, want...)
		})
	}
}

// alone fails unless so many requests of which the first line has this came, each on a
// connection on which nothing else ever came.
func (s *sharingSite) alone(t *testing.T, holds string, times int) {
	t.Helper()
	seen := 0
	for _, requests := range s.server.Requests() {
		for _, request := range requests {
			first, _, _ := strings.Cut(request, "\r\n")
			if !strings.Contains(first, holds) {
				continue
			}
			seen++
			if len(requests) != 1 || !strings.Contains(request, "\r\nConnection: close\r\n") {
				t.Errorf("%d requests on the connection of\n%s", len(requests), request)
			}
		}
	}
	if seen != times {
		t.Errorf("the server saw %d requests for %s, want %d", seen, holds, times)
	}
}

// What is a secret never goes over a connection that others use, nor leaves one to
// them.
func TestSecretsShareNoConnection(t *testing.T) {
	t.Parallel()
	t.Run("passwords", func(t *testing.T) {
		t.Parallel()
		var stored atomic.Value
		stored.Store("")
		s := newSharingSite(t, "openstack", keepalive, "", map[string]string{"policy/data.json": grant(instance1, "password:read")}, func(_ int, request string) string {
			first, rest, _ := strings.Cut(request, "\r\n")
			switch {
			case !strings.Contains(first, "/password "):
				return harness.OK(whose(request))
			case strings.HasPrefix(first, "POST "):
				_, body, _ := strings.Cut(rest, "\r\n\r\n")
				stored.Store(body)
				return harness.OK("")
			}
			return harness.OK(stored.Load().(string))
		})
		const password = "password of the one"
		s.reads(t, 3)
		for i, want := range []string{"", password, password} {
			if i == 1 {
				if answer := s.post(t, "", password); answer.Status != 200 {
					t.Errorf("%d %q", answer.Status, answer.Body)
				}
				s.reads(t, 2)
			}
			if answer := s.get(t, "/openstack/latest/password"); answer.Status != 200 || answer.Body != want {
				t.Errorf("%d %q, want %q", answer.Status, answer.Body, want)
			}
			s.reads(t, 2)
		}
		s.alone(t, "/password ", 4)
		if requests := s.server.Requests(); len(requests) != 2+4 {
			t.Errorf("%d connections", len(requests))
		}
	})
	t.Run("credentials and tokens", func(t *testing.T) {
		t.Parallel()
		const userdata = "/latest/user-data"
		s := newSharingSite(t, "ec2", keepalive, "session off", ec2Grant, func(_ int, request string) string {
			if strings.HasPrefix(request, ec2Put) {
				return "HTTP/1.1 200 OK\r\n" + ttlHeader + ": 60\r\nContent-Length: 5\r\n\r\ntoken"
			}
			return harness.OK(`{"a": 1}`)
		})
		get := func(path string) {
			t.Helper()
			if answer := s.get(t, path); answer.Status != 200 {
				t.Errorf("%s: %d %q", path, answer.Status, answer.Body)
			}
		}
		get(userdata)
		for range 2 {
			get(userdata)
			get(ec2Role)
			get(userdata)
			if answer := s.ask(t, "", ec2Put, ttlHeader+": 60", "Content-Length: 0"); answer.Status != 200 {
				t.Errorf("%d %q", answer.Status, answer.Body)
			}
			get(userdata)
		}
		s.alone(t, ec2Role+" ", 2)
		s.alone(t, ec2Put, 2)
		if requests := s.server.Requests(); len(requests) != 2+4 {
			t.Errorf("%d connections", len(requests))
		}
	})
}

// What a server sends beyond an answer, with it or when nobody asks, goes to nobody
// and into no log, and ends the connection.
func TestUnaskedAnswersReachNobody(t *testing.T) {
	t.Parallel()
	for name, unasked := range map[string]string{
		"an answer":   harness.OK(planted),
		"one byte":    "x",
		"a line end":  "\r\n",
		"a long one":  harness.OK(strings.Repeat(planted, 10_000)),
		"half of one": "HTTP/1.1 200 OK\r\nContent-Le",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSharingSite(t, "openstack", keepalive, "", nil, func(number int, request string) string {
				if answer := harness.OK(whose(request)); number != 3 {
					return answer
				} else {
					return answer + unasked
				}
			})
			s.reads(t, 6)
			s.served(t, 1, 2, 3)
			s.Eventually("the connection is closed", func() bool { return s.server.Closed(1) })
			s.server.Say(2, unasked)
			s.Eventually("the next connection is closed", func() bool { return s.server.Closed(2) })
			s.reads(t, 2)
			s.served(t, 1, 2, 3, 2)
			s.decisions(t, 8)
			if strings.Contains(s.Log(), planted) {
				t.Error("what the server sent is in the log")
			}
		})
	}
}

// After an answer that does not say its length in one way, nothing is shared any more;
// after an error of that kind its connection is not.
func TestAnswersWithoutLengthEndSharing(t *testing.T) {
	t.Parallel()
	chunked := func(status, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", status, len(body), body)
	}
	for name, answer := range map[string]func(body string) string{
		"chunks":   func(body string) string { return chunked("200 OK", body) },
		"close":    func(body string) string { return "HTTP/1.1 200 OK\r\n\r\n" + body + harness.HangUp },
		"HTTP/1.0": func(body string) string { return strings.Replace(harness.OK(body), "HTTP/1.1", "HTTP/1.0", 1) },
	} {
		for number, want := range map[int][]int{1: {1, 1, 1, 1, 1, 1}, 3: {1, 2, 1, 1, 1}} {
			t.Run(fmt.Sprint(name, " at ", number), func(t *testing.T) {
				t.Parallel()
				s := newSharingSite(t, "openstack", keepalive, "", nil, func(n int, request string) string {
					if n == number {
						return answer(whose(request))
					}
					return harness.OK(whose(request))
				})
				s.reads(t, 6)
				s.served(t, want...)
			})
		}
	}
	t.Run("an error in chunks", func(t *testing.T) {
		t.Parallel()
		s := newSharingSite(t, "openstack", keepalive, "", nil, func(number int, request string) string {
			if number == 3 {
				return chunked("404 Not Found", "nothing")
			}
			return harness.OK(whose(request))
		})
		s.reads(t, 2)
		if answer := s.get(t, userdataPath); answer.Status != 404 {
			t.Errorf("%d %q", answer.Status, answer.Body)
		}
		s.reads(t, 3)
		s.served(t, 1, 2, 3)
	})
}

// Where the server closes a shared connection without a word, before the next request
// or when it has come, that is sent again, once.
func TestSharedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]string{"closed": harness.HangUp, "reset": harness.Reset} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var deaf atomic.Bool
			s := newSharingSite(t, "openstack", keepalive, "", nil, func(number int, request string) string {
				if number == 4 || deaf.Load() {
					return end
				}
				return harness.OK(whose(request))
			})
			s.reads(t, 3)
			s.served(t, 1, 2)
			s.reads(t, 3) // the first of them comes to its end
			s.served(t, 1, 3, 3)
			s.server.HangUp(2) // and nobody has asked
			s.reads(t, 2)
			s.served(t, 1, 3, 3, 2)
			deaf.Store(true)
			if answer := s.get(t, userdataPath); answer.Status != 502 || reason(answer) != "response_incomplete" {
				t.Errorf("%d %q", answer.Status, answer.Body)
			}
			s.served(t, 1, 3, 3, 3, 1)
		})
	}
}

// Many callers at once get each their own, whatever the server adds to its answers.
func TestManyShareConnections(t *testing.T) {
	t.Parallel()
	s := newSharingSite(t, "openstack", keepalive, "", nil, func(number int, request string) string {
		answer := harness.OK(whose(request))
		if number%7 == 0 {
			answer += harness.OK(documentFor(planted))
		}
		return answer
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { s.reads(t, 50) })
	}
	all.Wait()
	if connections := len(s.server.Requests()); connections > 300 {
		t.Errorf("%d connections for 400 requests", connections)
	}
}
