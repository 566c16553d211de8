// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	// shortTimeouts differ: where both ran out at once, either could be told of.
	shortTimeouts = "\t\t\ttransport http {\n\t\t\t\tread_timeout 1500ms\n\t\t\t\tresponse_header_timeout 1s\n\t\t\t}"
	// inTime is far more than the timeouts and far less than the defaults.
	inTime = 6 * time.Second
)

// A server that goes silent costs a client no more than the timeouts; one that
// is slow, but goes on, is waited for.
func TestAnswerInTime(t *testing.T) {
	t.Parallel()
	const timeout, cut, closed, reset = "upstream_timeout/timeout", "response_incomplete/body_cut", "response_incomplete/closed", "response_incomplete/reset"
	const document = `{"` + planted + `": 1}`
	send, silence, half := harness.Send, harness.Silence(), harness.HalfClose()
	slowly := func(text string) harness.Step { return harness.Dribble(text, 14*time.Millisecond) }
	long := strings.Repeat("0123456789", 12) // takes longer than the timeouts
	s := newAnswerSite(t, byAddress, shortTimeouts, nil)
	begin := time.Now()
	s.run(t, []answerCase{
		{name: "silent", steps: []harness.Step{silence}, status: 504, code: timeout},
		{name: "silent in the status line", steps: []harness.Step{send("HTTP/1.1 2"), silence}, status: 504, code: timeout},
		{name: "silent in the head", steps: []harness.Step{send(okHead), silence}, status: 504, code: timeout},
		{name: "silent behind an informational answer", steps: []harness.Step{send("HTTP/1.1 103 Early Hints\r\n\r\n"), silence}, status: 504, code: timeout},
		{name: "silent behind the head", steps: []harness.Step{send(okHead + "Content-Length: 7\r\n\r\n"), silence}, status: 502, code: cut},
		{name: "silent in the body", steps: []harness.Step{send(okHead + "Content-Length: 8\r\n\r\n" + planted), silence}, status: 502, code: cut},
		{name: "silent in a chunk", steps: []harness.Step{send(chunkedHead + "\r\n8\r\n" + planted), silence}, status: 502, code: cut},
		{name: "silent before the last chunk", steps: []harness.Step{send(chunkedHead + "\r\n7\r\n" + planted + "\r\n"), silence}, status: 502, code: cut},
		{name: "silent before the end of the trailer", steps: []harness.Step{send(chunkedHead + "\r\n7\r\n" + planted + "\r\n0\r\n"), silence}, status: 502, code: cut},
		{name: "silent where only the end would be the end", steps: []harness.Step{send(okHead + "\r\n" + planted), silence}, status: 502, code: cut},
		{name: "silent behind a whole document without an end", path: jsonPath, steps: []harness.Step{send(oldHead + "\r\n" + document), silence}, status: 502, code: cut},
		{name: "nothing but informational answers", steps: []harness.Step{harness.Flood("HTTP/1.1 103 Early Hints\r\n\r\n", 10*time.Millisecond)}, status: 504, code: timeout},

		{name: "silent behind the end of a length", steps: []harness.Step{send(okHead + "Content-Length: 3\r\n\r\nxyz"), silence}, status: 200, body: "xyz"},
		{name: "silent behind the last chunk", steps: []harness.Step{send(chunkedHead + "\r\n3\r\nxyz\r\n0\r\n\r\n"), silence}, status: 200, body: "xyz"},
		{name: "silent behind 204", steps: []harness.Step{send("HTTP/1.1 204 No Content\r\n\r\n"), silence}, status: 204},

		{name: "dribbled length", steps: []harness.Step{send(okHead + "Content-Length: 120\r\n\r\n"), slowly(long)}, status: 200, body: long},
		{name: "dribbled chunks", steps: []harness.Step{send(chunkedHead + "\r\n"), slowly("3c\r\n" + long[:60] + "\r\n3c\r\n" + long[60:] + "\r\n0\r\nX-T: 1\r\n\r\n")}, status: 200, body: long},
		{name: "dribbled until the end", steps: []harness.Step{send(oldHead + "\r\n"), slowly(long)}, status: 200, body: long},
		{name: "dribbled document", path: jsonPath, steps: []harness.Step{send(oldHead + "\r\n"), slowly(`{"a": "` + long + `"}`)}, status: 200, body: `{"a": "` + long + `"}`},
		{name: "dribbled from the first byte", steps: []harness.Step{harness.Dribble("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz", time.Millisecond)}, status: 200, body: "xyz"},
		{name: "dribbled, then silent", steps: []harness.Step{send(okHead + "Content-Length: 121\r\n\r\n"), slowly(planted + long[7:]), silence}, status: 502, code: cut},
		{name: "dribbled, then closed", steps: []harness.Step{send(okHead + "Content-Length: 121\r\n\r\n"), slowly(planted + long[7:])}, status: 502, code: cut},
		{name: "dribbled, then reset", steps: []harness.Step{send(oldHead + "\r\n"), slowly(planted + long[7:]), harness.ResetConn()}, status: 502, code: cut},
		{name: "a head that takes too long", steps: []harness.Step{slowly(okHead + "X-A: " + long + "\r\nContent-Length: 3\r\n\r\nxyz")}, status: 504, code: timeout},

		{name: "half-closed at once", steps: []harness.Step{half, silence}, status: 502, code: closed},
		{name: "half-closed in the body", steps: []harness.Step{send(okHead + "Content-Length: 8\r\n\r\n" + planted), half, silence}, status: 502, code: cut},
		{name: "half-closed behind a length", steps: []harness.Step{send(okHead + "Content-Length: 3\r\n\r\nxyz"), half, silence}, status: 200, body: "xyz"},
		{name: "half-closed as the end", steps: []harness.Step{send(oldHead + "\r\nxyz"), half, silence}, status: 200, body: "xyz"},
		{name: "reset at once", steps: []harness.Step{harness.ResetConn()}, status: 502, code: reset},
		{name: "reset in the head", steps: []harness.Step{send(okHead), harness.ResetConn()}, status: 502, code: closed},
		{name: "reset in the body", steps: []harness.Step{send(okHead + "Content-Length: 8\r\n\r\n" + planted), harness.ResetConn()}, status: 502, code: cut},
		{name: "reset where only the end would be the end", steps: []harness.Step{send(oldHead + "\r\n" + planted), harness.ResetConn()}, status: 502, code: cut},
		{name: "reset behind a whole document", path: jsonPath, steps: []harness.Step{send(oldHead + "\r\n" + document), harness.ResetConn()}, status: 502, code: cut},
	})
	t.Logf("all in %s", time.Since(begin))
	// One by one, each of the silent ones ends in time.
	for _, silent := range []string{"", okHead, okHead + "Content-Length: 8\r\n\r\n" + planted} {
		s.play("silent", harness.Send(silent), harness.Silence())
		begin := time.Now()
		if got, err := (&http10{address: s.address}).ask(http.MethodGet, textPath, "silent"); err != nil || got.status < 500 || time.Since(begin) > inTime {
			t.Errorf("%q: %d %q %v after %s", silent, got.status, got.body, err, time.Since(begin))
		}
	}
}

// watchedConn counts what came.
type watchedConn struct {
	net.Conn
	read atomic.Int64
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// No byte of an answer passes before the server has sent the last one.
func TestAnswerWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	s := newAnswerSite(t, byAddress, "", nil)
	for name, server := range map[string]string{
		"length":  okHead + "Content-Length: 8\r\n\r\nPLANTED!",
		"chunked": chunkedHead + "\r\n8\r\nPLANTED!\r\n0\r\n\r\n",
		"100":     "HTTP/1.1 100 Continue\r\n\r\n" + okHead + "Content-Length: 8\r\n\r\nPLANTED!",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached, goOn := make(chan struct{}), make(chan struct{})
			last := len(server) - 1
			s.play("paused/"+name, harness.Send(server[:last]), harness.Tell(reached), harness.Pause(goOn), harness.Send(server[last:]))
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			watched := &watchedConn{Conn: conn}
			client := &http11{conn: watched, reader: bufio.NewReader(watched)}
			done := make(chan error, 1)
			var got reply
			go func() {
				var err error
				got, err = client.ask(http.MethodGet, textPath, "paused/"+name)
				done <- err
			}()
			<-reached
			select { // everything but the last byte is at the guard; give it time to do wrong
			case err := <-done:
				t.Fatalf("an answer came: %+v %v", got, err)
			case <-time.After(200 * time.Millisecond):
			}
			if n := watched.read.Load(); n != 0 {
				t.Errorf("%d bytes came before the end", n)
			}
			close(goOn)
			if err := <-done; err != nil || got.status != 200 || got.body != "PLANTED!" {
				t.Errorf("%d %q %v", got.status, got.body, err)
			}
			if err := client.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An answer without an end is refused at max_buffer, and no more of it is read.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	s := newAnswerSite(t, byAddress+"\nresponse {\n\tmax_buffer 64KiB\n}", "", nil)
	part := strings.Repeat("x", 1024)
	for name, server := range map[string][2]string{
		"until the end": {okHead + "\r\n" + planted, part},
		"chunked":       {chunkedHead + "\r\n7\r\n" + planted + "\r\n", "400\r\n" + part + "\r\n"},
		"one chunk":     {chunkedHead + "\r\n7fffffffffffffff\r\n" + planted, part},
		"HTTP/1.0":      {oldHead + "\r\n" + planted, part},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for version, client := range askers(s.address) {
				agent := "endless/" + name + "/" + version
				gone := make(chan struct{})
				s.play(agent, harness.Send(server[0]), harness.Flood(server[1], 0), harness.Tell(gone))
				got, err := client.ask(http.MethodGet, textPath, agent)
				if err != nil || got.status != 502 || !strings.Contains(got.body, "response_too_large") || strings.Contains(got.body, planted) {
					t.Errorf("%s: %d %q %v", version, got.status, got.body, err)
				}
				if err := client.end(); err != nil {
					t.Errorf("%s: %v", version, err)
				}
				select {
				case <-gone:
				case <-time.After(inTime):
					t.Errorf("%s: the guard reads on", version)
				}
			}
		})
	}
}

// A client that leaves takes the request to the server with it.
func TestClientLeavesASilentServer(t *testing.T) {
	t.Parallel()
	s := newAnswerSite(t, byAddress, "", nil)
	for name, server := range map[string]string{"silent": "", "in the body": okHead + "Content-Length: 8\r\n\r\n" + planted} {
		reached, gone := make(chan struct{}), make(chan struct{})
		s.play(name, harness.Send(server), harness.Tell(reached), harness.Silence(), harness.Tell(gone))
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: m\r\nUser-Agent: %s\r\n\r\n", textPath, name)
		<-reached
		conn.Close()
		select {
		case <-gone:
		case <-time.After(inTime):
			t.Errorf("%s: the guard keeps the server's connection", name)
		}
	}
	for _, line := range s.decisions(t, 2) {
		if line["outcome"] != "aborted" {
			t.Errorf("%v", line)
		}
	}
}

// Where no server is, every client is told so.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t}")
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, fmt.Sprintf("upstream 127.0.0.1:%d", harness.FreePort(t)))
	s.Run(s.address)
	test := answerCase{status: 502, code: "upstream_unreachable/dial"}
	var ids []string
	for _, path := range []string{textPath, jsonPath, listingPath} {
		for version, client := range askers(s.address) {
			got, err := client.ask(http.MethodGet, path, "x")
			head, headErr := client.ask(http.MethodHead, path, "x")
			for _, wrong := range append(test.compare(got, err), test.compareHead(got, head, headErr)...) {
				t.Errorf("%s: %s", version, wrong)
			}
			if err := client.end(); err != nil {
				t.Errorf("%s: %v", version, err)
			}
			ids = append(ids, got.id(), head.id())
		}
	}
	site := &answerSite{site: s}
	for id, line := range site.decisionsOf(t, ids) {
		if said := logged(line); strings.Contains(fmt.Sprint(ids), id) && said != test.logged() {
			t.Errorf("the log says %q, want %q", said, test.logged())
		}
	}
}

// Each answer is its own request's, however many are under way: the server's
// connections are not shared, nor is the memory that answers are held in.
func TestAnswersDoNotMix(t *testing.T) {
	t.Parallel()
	s := newAnswerSite(t, byAddress, "", nil)
	const each = 60
	bodyOf := func(worker, i int) string {
		return fmt.Sprintf(`{"worker": %d, "i": %d, "fill": %q}`, worker, i, strings.Repeat(fmt.Sprintf("%d.%d,", worker, i), (i*7+worker*31)%900))
	}
	done := make(chan error)
	workers := 0
	for worker := range 4 {
		for version, client := range askers(s.address) {
			workers++
			go func() {
				var failed error
				for i := range each {
					agent := fmt.Sprintf("mix/%d/%s/%d", worker, version, i)
					want := bodyOf(worker, i)
					kept := strings.Replace(want, `{"worker"`, `{"admin_pass": "`+planted+`", "worker"`, 1)
					// What comes behind an answer belongs to nobody.
					s.play(agent, harness.Send(says("200 OK", "", kept)+says("200 OK", "", `{"stray": "`+planted+`"}`)), harness.Silence())
					got, err := client.ask(http.MethodGet, jsonPath, agent)
					if err != nil || got.status != 200 || got.body != want {
						failed = errors.Join(failed, fmt.Errorf("%s: %d %.200q %w, want %.200q", agent, got.status, got.body, err, want))
						break
					}
				}
				done <- errors.Join(failed, client.end())
			}()
		}
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
