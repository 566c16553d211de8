// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// rawServer answers each request on a connection with what it is told, and knows
// on which connection each came.
type rawServer struct {
	net.Listener
	answers func(conn, request int) string

	mu    sync.Mutex
	conns []net.Conn
}

func startRaw(t *testing.T, answers func(conn, request int) string) *rawServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{Listener: listener, answers: answers}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			number := len(s.conns)
			s.mu.Unlock()
			go s.serve(conn, number)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, conn := range s.conns {
			_ = conn.Close()
		}
	})
	return s
}

func (s *rawServer) serve(conn net.Conn, number int) {
	from := bufio.NewReader(conn)
	for request := 1; ; request++ {
		if _, err := http.ReadRequest(from); err != nil {
			return
		}
		now := s.answers(number, request)
		if _, err := io.WriteString(conn, now); err != nil {
			return
		}
	}
}

// say has the server say something on a connection that nobody asked for.
func (s *rawServer) say(t *testing.T, conn int, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.conns[conn-1], text); err != nil {
		t.Fatal(err)
	}
}

func (s *rawServer) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// exactly is an answer that says its length.
func exactly(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func sharing(t *testing.T) *lastHop {
	t.Helper()
	if !peekSupported {
		t.Skip("connections are not used again here")
	}
	inner := &reverseproxy.HTTPTransport{Versions: []string{"1.1"}, Transport: &http.Transport{DialContext: new(net.Dialer).DialContext}}
	hop := newLastHop(inner)
	if hop.reuse == nil {
		t.Fatal("nothing is used again")
	}
	t.Cleanup(hop.closeIdle)
	return hop
}

// asked is what a request is answered.
func asked(t *testing.T, hop *lastHop, s *rawServer, shares bool) string {
	t.Helper()
	ctx := isolated(t.Context())
	ctx.shares = shares
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr().String()+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := hop.RoundTrip(r)
	if err != nil {
		return "error: " + err.Error()
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "error: " + err.Error()
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Reads share a connection once the server has shown that its answers have a
// length; what is a secret never does.
func TestConnectionsAreShared(t *testing.T) {
	server := startRaw(t, func(conn, request int) string { return exactly(fmt.Sprint(conn, " ", request)) })
	hop := sharing(t)
	for i, step := range []struct {
		shares bool
		want   string
	}{
		{true, "1 1"}, // it says that it closes the connection
		{true, "2 1"},
		{true, "2 2"},
		{true, "2 3"},
		{false, "3 1"},
		{false, "4 1"},
		{true, "2 4"},
	} {
		if got := asked(t, hop, server, step.shares); got != step.want {
			t.Fatalf("%d: %q, want %q", i, got, step.want)
		}
	}
}

// A server that sends more than it was asked for gives nothing of it to anybody,
// whenever it does so.
func TestUnaskedAnswersGoNowhere(t *testing.T) {
	const planted = "planted"
	for name, behind := range map[string]string{
		"an answer":   exactly(planted),
		"a byte":      "x",
		"line ends":   "\r\n",
		"a large one": exactly(strings.Repeat(planted, 10_000)),
	} {
		server := startRaw(t, func(conn, request int) string {
			answer := exactly(fmt.Sprint(conn, " ", request))
			if request == 2 {
				answer += behind
			}
			return answer
		})
		hop := sharing(t)
		for i, want := range []string{"1 1", "2 1", "2 2", "3 1", "3 2", "4 1"} {
			if got := asked(t, hop, server, true); got != want {
				t.Errorf("%s at once, %d: %q, want %q", name, i, got, want)
			}
		}

		server = startRaw(t, func(conn, request int) string { return exactly(fmt.Sprint(conn, " ", request)) })
		hop = sharing(t)
		for i, want := range []string{"1 1", "2 1", "2 2"} {
			if got := asked(t, hop, server, true); got != want {
				t.Fatalf("%s later, %d: %q, want %q", name, i, got, want)
			}
		}
		server.say(t, 2, behind)
		if got := asked(t, hop, server, true); got != "3 1" {
			t.Errorf("%s later: %q", name, got)
		}
	}
}

// Where one answer has no length, no connection serves two requests.
func TestInexactAnswersEndSharing(t *testing.T) {
	chunked := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
	server := startRaw(t, func(conn, request int) string {
		if conn == 2 && request == 2 {
			return chunked("2 2")
		}
		return exactly(fmt.Sprint(conn, " ", request))
	})
	hop := sharing(t)
	for i, want := range []string{"1 1", "2 1", "2 2", "3 1", "4 1"} {
		if got := asked(t, hop, server, true); got != want {
			t.Fatalf("%d: %q, want %q", i, got, want)
		}
	}
	if server.accepted() != 4 {
		t.Errorf("%d connections", server.accepted())
	}
}

// Many at once get each their own answer, whatever the server adds.
func TestSharingTogether(t *testing.T) {
	var mu sync.Mutex
	number := 0
	server := startRaw(t, func(conn, request int) string {
		mu.Lock()
		defer mu.Unlock()
		number++
		answer := exactly(fmt.Sprint(conn, " ", request))
		if number%7 == 0 {
			answer += exactly("planted")
		}
		return answer
	})
	hop := sharing(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if got := asked(t, hop, server, true); strings.Contains(got, "planted") || strings.Contains(got, "error") {
					t.Errorf("answered %q", got)
				}
			}
		})
	}
	all.Wait()
	if n := server.accepted(); n > 1200 {
		t.Errorf("%d connections for 1600 requests", n)
	}
}

// Only reads of what is no secret share connections.
func TestReusable(t *testing.T) {
	for _, test := range []struct {
		method   string
		resource decision.Resource
		part     dialect.Transaction
		want     bool
	}{
		{"GET", decision.Resource{Kind: decision.KindMetadata, Action: decision.Read}, 0, true},
		{"GET", decision.Resource{Kind: decision.KindListing, Action: decision.Read}, 0, true},
		{"GET", decision.Resource{Kind: decision.KindUserdata, Action: decision.Read, Sensitive: true}, 0, false},
		{"GET", decision.Resource{Kind: decision.KindPassword, Action: decision.Read}, 0, false},
		{"GET", decision.Resource{Kind: decision.KindCredentials, Action: decision.Read}, 0, false},
		{"GET", decision.Resource{Kind: decision.KindUnknown, Action: decision.Read}, 0, false},
		{"GET", decision.Resource{Kind: decision.KindMetadata, Action: decision.Read}, dialect.TransactionRead, false},
		{"POST", decision.Resource{Kind: decision.KindMetadata, Action: decision.Write}, 0, false},
		{"PUT", decision.Resource{Kind: decision.KindMetadata, Action: decision.Read}, 0, false},
	} {
		x := &exchange{request: &canonical.Request{Method: test.method}, match: dialect.Match{Resource: test.resource, Transaction: test.part}}
		if x.reusable() != test.want {
			t.Errorf("%s %+v: %v", test.method, test.resource, !test.want)
		}
	}
}

// An answer that is closed late, when its connection serves the next request
// already, does that one no harm.
func TestLateCloseHarmsNobody(t *testing.T) {
	came, goOn := make(chan struct{}), make(chan struct{})
	server := startRaw(t, func(conn, request int) string {
		if conn == 2 && request == 3 {
			close(came)
			<-goOn
		}
		return exactly(fmt.Sprint(conn, " ", request))
	})
	hop := sharing(t)
	for _, want := range []string{"1 1", "2 1"} {
		if got := asked(t, hop, server, true); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	ctx := isolated(t.Context())
	ctx.shares = true
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.Addr().String()+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	late, err := hop.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(late.Body); err != nil {
		t.Fatal(err)
	}
	next := make(chan string, 1)
	go func() { next <- asked(t, hop, server, true) }()
	<-came
	if err := late.Body.Close(); err != nil {
		t.Error(err)
	}
	close(goOn)
	if got := <-next; got != "2 3" || server.accepted() != 2 {
		t.Errorf("%q on %d connections", got, server.accepted())
	}
}

// Where connections cannot be checked, each serves one request, whatever it is.
func TestUncheckedConnectionsAreNotShared(t *testing.T) {
	server := startRaw(t, func(conn, request int) string { return exactly(fmt.Sprint(conn, " ", request)) })
	hop := newLastHop(&reverseproxy.HTTPTransport{
		Versions: []string{"1.1"}, MaxConnsPerHost: 5,
		Transport: &http.Transport{DialContext: new(net.Dialer).DialContext, MaxConnsPerHost: 5},
	})
	t.Cleanup(hop.closeIdle)
	for i, shares := range []bool{true, true, false} {
		if got, want := asked(t, hop, server, shares), fmt.Sprint(i+1, " 1"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
