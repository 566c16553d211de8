// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	crowd    = 50
	tenMB    = 10_000_000
	atMost   = 64 << 20
	settling = 200 // requests, so that what is made once is made
)

// Fifty clients that send 10 MB each at one time cost less than 64 MiB,
// wherever they send it and however it is framed: what is too large is not
// read, and what is not wanted neither. A binary with the race detector, which
// takes more for every byte, stays below it too.
func TestFiftyClientsOf10MB(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	for range settling {
		harness.RawFrom(t, framedAddress(0), f.address, getLine+"Connection: close\r\n\r\n")
		harness.RawFrom(t, framedAddress(0), f.address, postLine+withLength(passwordOf(1020)))
	}
	f.arrived()
	elsewhere := strings.Replace(postLine, "/password", "/user_data", 1)
	chunk := strings.Repeat("x", 64<<10)
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", tenMB)
	for _, way := range []struct {
		name   string
		head   string
		chunks bool
		status int
	}{
		{"length", postLine + length, false, 413},
		{"chunked", postLine + "Transfer-Encoding: chunked\r\n\r\n", true, 413},
		{"not writable", elsewhere + length, false, 405},
		{"not writable, chunked", elsewhere + "Transfer-Encoding: chunked\r\n\r\n", true, 405},
		{"unexpected", getLine + length, false, 400},
	} {
		t.Run(way.name, func(t *testing.T) {
			piece := chunk
			if way.chunks {
				piece = fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk)
			}
			clients := make([]*harness.Client, crowd)
			for i := range clients {
				clients[i] = harness.Dial(t, f.caller(t), f.address).Send(way.head[:20])
			}
			rise := f.peak(t, func() {
				answers := make(chan harness.Answer, crowd)
				for _, client := range clients {
					go func() {
						go func() {
							client.Send(way.head[20:])
							for range tenMB / len(chunk) {
								client.Send(piece)
							}
						}()
						answers <- client.Answer("POST")
					}()
				}
				for range clients {
					if answer := <-answers; answer.Status != way.status {
						t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
					}
				}
			})
			if rise > atMost {
				t.Errorf("the peak rose by %.1f MiB, at most %.0f are allowed", mib(rise), mib(atMost))
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		clients := make([]*harness.H2, crowd)
		for i := range clients {
			clients[i] = harness.DialH2(t, f.caller(t), f.address, nil)
		}
		rise := f.peak(t, func() {
			answers := make(chan harness.Answer, crowd)
			for _, client := range clients {
				go func() {
					// A client may not send more than its window, 64 KiB, unasked.
					client.Head(1, false, h2Post()...).Body(1, false, inPieces(chunk[:65535], 16<<10)...)
					answers <- client.Answer(1)
				}()
			}
			for range clients {
				if answer := <-answers; answer.Status != 413 {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
			}
		})
		if rise > atMost {
			t.Errorf("the peak rose by %.1f MiB, at most %.0f are allowed", mib(rise), mib(atMost))
		}
	})
	f.wantArrived(t)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// peak tells by how much the process's resident memory rises above what it was,
// at the most, while something happens.
func (f *framed) peak(t *testing.T, happens func()) int64 {
	t.Helper()
	before := f.memory(t, "VmRSS")
	// 5 sets the peak back to what is there now.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", f.Pid()), []byte("5"), 0); err != nil {
		t.Skipf("the peak cannot be measured here: %v", err)
	}
	happens()
	rise := f.memory(t, "VmHWM") - before
	t.Logf("%.1f MiB before, the peak is %.1f MiB above", mib(before), mib(rise))
	return rise
}

// memory is a line of the process's status, in bytes.
func (f *framed) memory(t *testing.T, line string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), line+":")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("%s in %s: %v", line, status, err)
	}
	return kib << 10
}

// crowded is a site with room for four bodies of up to 4 KiB, or for two
// answers of up to 8, and a server that sends an answer in two halves, the
// second when it is told to.
type crowded struct {
	*framed
	legacy  *harness.Scripted
	release func()
	halves  chan struct{} // one for each first half that is sent
}

// emptyAnswer is what Nova says under uWSGI.
const emptyAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"

func newCrowded(t *testing.T, toWrites string) *crowded {
	t.Helper()
	until := make(chan struct{})
	c := &crowded{release: sync.OnceFunc(func() { close(until) }), halves: make(chan struct{}, 100)}
	t.Cleanup(c.release)
	server := harness.NewScripted(t, func(request string) []harness.Step {
		if !strings.Contains(request, "/user_data ") {
			return []harness.Step{harness.Send(toWrites)}
		}
		answer := harness.OK(passwordOf(5000))
		reached := make(chan struct{})
		go func() { <-reached; c.halves <- struct{}{} }()
		return []harness.Step{harness.Send(answer[:2000]), harness.Tell(reached), harness.Pause(until), harness.Send(answer[2000:])}
	})
	c.legacy = server
	c.framed = prepareFramed(t, "body_timeout 20s\nresponse {\n\tmax_buffer 8KiB\n\tmax_total 16KiB\n}", nil)
	c.edit(t, "Caddyfile", "upstream "+c.server.address, "upstream "+server.Address)
	c.Run(c.address)
	return c
}

// hold is a client whose body is not there yet.
func (c *crowded) hold(t *testing.T) *harness.Client {
	t.Helper()
	client := harness.Dial(t, c.caller(t), c.address).Send(postLine + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
	if answer := client.Answer("POST"); answer.Status != 100 { // which says that its memory is taken
		t.Fatalf("%d %q %v", answer.Status, answer.Body, answer.Err)
	}
	return client
}

// ask is a client whose answer is not there yet.
func (c *crowded) ask(t *testing.T) *harness.Client {
	t.Helper()
	client := harness.Dial(t, c.caller(t), c.address).Send(getLine + "\r\n")
	<-c.halves
	return client
}

// wantOverloaded sends one request more, and no word of it may get through.
func (c *crowded) wantOverloaded(t *testing.T, request string) {
	t.Helper()
	answer := harness.Dial(t, c.caller(t), c.address).Send(request).Answer("POST")
	if answer.Status != 503 || reason(answer) != "overloaded" || answer.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %q %v %v, want 503 overloaded", answer.Status, answer.Body, answer.Header, answer.Err)
	}
}

// goesOn lets everything end and tells that all the memory is there again.
func (c *crowded) goesOn(t *testing.T, held ...*harness.Client) {
	t.Helper()
	c.release()
	for _, client := range held {
		client.Reset()
	}
	c.Eventually("requests are served again", func() bool {
		client := harness.Dial(t, c.caller(t), c.address).Send(postLine + withLength("hello"))
		if answer := client.Answer("POST"); answer.Status != 200 {
			return false
		}
		return client.Send(getLine+"\r\n").Answer("GET").Status == 200
	})
	for range 4 {
		held = append(held, c.hold(t))
	}
	c.wantOverloaded(t, oneMoreBody)
}

const (
	oneMoreBody   = postLine + "Content-Length: 10\r\n\r\n0123456789"
	oneMoreChunk  = postLine + "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
	oneMoreExpect = postLine + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n"
	oneMoreAnswer = getLine + "\r\n"
)

// max_total holds bodies and answers together. Beyond it a request is refused
// as overloaded, a body before a byte of it is read, and afterwards all goes on.
func TestMaxTotal(t *testing.T) {
	t.Parallel()
	t.Run("bodies", func(t *testing.T) {
		t.Parallel()
		c := newCrowded(t, emptyAnswer)
		held := []*harness.Client{c.hold(t), c.hold(t), c.hold(t), c.hold(t)}
		for _, request := range []string{oneMoreBody, oneMoreChunk, oneMoreExpect, oneMoreAnswer} {
			c.wantOverloaded(t, request)
		}
		c.goesOn(t, held...)
	})
	t.Run("answers", func(t *testing.T) {
		t.Parallel()
		c := newCrowded(t, emptyAnswer)
		asked := []*harness.Client{c.ask(t), c.ask(t)}
		for _, request := range []string{oneMoreAnswer, oneMoreBody, oneMoreChunk, oneMoreExpect} {
			c.wantOverloaded(t, request)
		}
		c.release()
		for _, client := range asked {
			if answer := client.Answer("GET"); answer.Status != 200 || answer.Body != passwordOf(5000) {
				t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
			}
		}
		c.goesOn(t)
	})
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		c := newCrowded(t, emptyAnswer)
		asked := c.ask(t)
		held := []*harness.Client{c.hold(t), c.hold(t)}
		for _, request := range []string{oneMoreBody, oneMoreAnswer, oneMoreExpect} {
			c.wantOverloaded(t, request)
		}
		held[0].Reset() // one body's room is enough for one body, not for an answer
		var third *harness.Client
		c.Eventually("there is room for one body", func() bool {
			third = harness.Dial(t, c.caller(t), c.address).Send(oneMoreExpect)
			return third.Answer("POST").Status == 100
		})
		c.wantOverloaded(t, oneMoreAnswer)
		c.release()
		if answer := asked.Answer("GET"); answer.Status != 200 || answer.Body != passwordOf(5000) {
			t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
		}
		for _, client := range []*harness.Client{held[1], third} { // both were in time
			if answer := client.Send("0123456789").Answer("POST"); answer.Status != 200 {
				t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
			}
		}
		c.goesOn(t)
	})
	// A write that the server has taken is answered so: for want of memory it is
	// refused before it is forwarded, or not at all. A client that is told to
	// come back would find its password pending.
	t.Run("a write under way", func(t *testing.T) {
		t.Parallel()
		c := newCrowded(t, harness.OK("ok"))
		var last *harness.Client
		for range 4 {
			last = c.hold(t)
		}
		answer := last.Send("0123456789").Answer("POST")
		if asked := c.legacy.Asked(); answer.Status != 200 && asked != 0 {
			t.Errorf("the server took the password, and the client is told %d %q", answer.Status, answer.Body)
		}
	})
}
