// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// cutAnswer is a whole answer that is cut behind each of its bytes.
type cutAnswer struct {
	name, path, head, body string
	// told says what a client gets when the connection ends orderly behind so
	// many bytes of the body: the whole of an answer, or a refusal's reason. It is
	// nil where the framing always shows the cut.
	told func(part string) (body, reason string)
	// short keeps a long body to one client: how it is asked for was shown by others.
	short bool
}

const incomplete = "response_incomplete"

// rsaAnswer is an RSA-2048 result as cloudbase-init posts it.
var rsaAnswer = base64.StdEncoding.EncodeToString([]byte(strings.Repeat(planted+"!", 32)))

// cutAnswers are the ways in which an answer can show its end, or not.
func cutAnswers() []cutAnswer {
	const document = `{"` + planted + `": [1, {"a": "b\u00e9"}], "n": null}`
	half := func(part string) (string, string) { return "", incomplete }
	return []cutAnswer{
		{name: "length", path: textPath, head: okHead + "Content-Length: 30\r\n\r\n", body: planted + strings.Repeat("x", 23)},
		{name: "document with a length", path: jsonPath, head: fmt.Sprintf("%sContent-Length: %d\r\n\r\n", okHead, len(document)), body: document},
		{
			name: "two chunks and a trailer", path: textPath, head: chunkedHead + "Trailer: X-Sum\r\n\r\n",
			body: "7\r\n" + planted + "\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 12\r\n\r\n",
		},
		{
			name: "informational first", path: textPath,
			head: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + okHead + "Content-Length: 12\r\n\r\n", body: planted + "hello",
		},
		{name: "an error with a length", path: textPath, head: "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n", body: planted + "hello"},
		{name: "a password with a length", path: passwordPath, head: fmt.Sprintf("%sContent-Length: %d\r\n\r\n", okHead, len(rsaAnswer)), body: rsaAnswer, short: true},

		// From here on the end of the connection is the end of the answer. A
		// document shows by itself that it is cut.
		{name: "HTTP/1.0 document", path: jsonPath, head: oldHead + "\r\n", body: document, told: half},
		{name: "document until the end", path: jsonPath, head: "HTTP/1.1 200 OK\r\n\r\n", body: document, told: half},
		{
			name: "list until the end, with white space behind it", path: jsonPath, head: "HTTP/1.1 200 OK\r\n\r\n", body: "[\"" + planted + "\"] \r\n",
			told: func(part string) (string, string) {
				if strings.Contains(part, "]") {
					return part, "" // what is missing is nothing
				}
				return "", incomplete
			},
		},
		// Of these nothing can be known: what is there is whole by itself.
		{
			name: "number until the end", path: jsonPath, head: "HTTP/1.1 200 OK\r\n\r\n", body: "12345",
			told: func(part string) (string, string) {
				if part == "" {
					return "", incomplete
				}
				return part, ""
			},
		},
		{name: "text until the end", path: textPath, head: oldHead + "\r\n", body: planted + "hello", told: func(part string) (string, string) { return part, "" }},
		{name: "listing until the end", path: listingPath, head: oldHead + "\r\n", body: "meta_data.json\nuser_data", told: func(part string) (string, string) { return part, "" }},
		// An RSA result has a length of its own. One that ends where a smaller
		// key's would looks like that one, and none at all like none set.
		{
			name: "password until the end", path: passwordPath, head: oldHead + "\r\n", body: rsaAnswer, short: true,
			told: func(part string) (string, string) {
				if len(part) == 0 || len(part) == base64.StdEncoding.EncodedLen(1536/8) {
					return part, ""
				}
				return "", "password_unverified"
			},
		},
	}
}

const passwordPath = "/openstack/latest/password"

// An answer that is cut behind any of its bytes never passes as a whole one,
// where anything shows the cut: the framing, a reset, or the document itself.
func TestAnswerCutAtEveryByte(t *testing.T) {
	t.Parallel()
	type cut struct {
		answer cutAnswer
		n      int
		reset  bool
	}
	s := prepareAnswerSite(t, byAddress, "", map[string]string{"policy/data.json": grant(instance1, "password:read"), "policy/team.rego": unknownEntries})
	s.edit(t, "Caddyfile", "level DEBUG", "level INFO") // thousands of requests
	s.Run(s.address)
	var cuts []cut
	for _, answer := range cutAnswers() {
		whole := answer.head + answer.body
		s.play(fmt.Sprintf("%s/%d/false", answer.name, len(whole)), harness.Send(whole))
		for n := range len(whole) {
			for _, reset := range []bool{false, true} {
				steps := []harness.Step{harness.Send(whole[:n])}
				if reset {
					steps = append(steps, harness.ResetConn())
				}
				s.play(fmt.Sprintf("%s/%d/%t", answer.name, n, reset), steps...)
				cuts = append(cuts, cut{answer, n, reset})
			}
		}
	}
	// Each goes to all clients. One connection carries many answers, so that a
	// byte of a cut one would spoil the next.
	const workers = 6
	work := make(chan cut)
	var group sync.WaitGroup
	var mu sync.Mutex
	asked := 0
	for range workers {
		group.Go(func() {
			clients := askers(s.address)
			for c := range work {
				for version, client := range clients {
					methods := []string{http.MethodGet}
					if c.answer.short && version != "HTTP/2" {
						continue
					}
					if version == "HTTP/1.1" {
						methods = append(methods, http.MethodHead)
					}
					for _, method := range methods {
						got, err := client.ask(method, c.answer.path, fmt.Sprintf("%s/%d/%t", c.answer.name, c.n, c.reset))
						if wrong := c.answer.wrong(method, c.n, c.reset, got, err); wrong != "" {
							t.Errorf("%s, cut behind %d bytes, reset %t, %s %s: %s", c.answer.name, c.n, c.reset, version, method, wrong)
						}
						if err != nil {
							clients[version] = askers(s.address)[version] // the next answer would be wrong too
						}
					}
					mu.Lock()
					asked += len(methods)
					mu.Unlock()
				}
			}
			for version, client := range clients {
				if err := client.end(); err != nil {
					t.Errorf("%s: %v", version, err)
				}
			}
		})
	}
	for _, c := range cuts {
		work <- c
	}
	close(work)
	group.Wait()
	// Uncut, each passes: it was not refused for another reason.
	for _, answer := range cutAnswers() {
		got := harness.Raw(t, s.address, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: m\r\nUser-Agent: %s/%d/false\r\n\r\n", answer.path, answer.name, len(answer.head+answer.body)))
		if want := answer.whole(); got.Body != want {
			t.Errorf("%s, not cut: %d %q %v, want %q", answer.name, got.Status, got.Body, got.Err, want)
		}
		asked++
	}
	t.Logf("%d answers that were cut, %d requests", len(cuts), asked)
	s.finish(t, asked, nil)
}

// whole is what a client gets when nothing is cut.
func (a cutAnswer) whole() string {
	switch {
	case strings.Contains(a.head, "404"):
		return "Not Found\n"
	case strings.Contains(a.head, "chunked"):
		return planted + "hello"
	}
	return a.body
}

// wrong says what is wrong with the answer to a cut one, if anything is.
func (a cutAnswer) wrong(method string, n int, reset bool, got reply, err error) string {
	if err != nil {
		return err.Error()
	}
	body, reason := "", incomplete
	if !reset && a.told != nil && n >= len(a.head) {
		body, reason = a.told(a.body[:n-len(a.head)])
	}
	status := http.StatusOK
	if reason != "" {
		status = http.StatusBadGateway
		body = fmt.Sprintf("Bad Gateway: %s (decision %s)\n", reason, got.id())
	}
	if method == http.MethodHead {
		if length := got.header.Get("Content-Length"); length != fmt.Sprint(len(body)) {
			return "Content-Length " + length
		}
		body = ""
	}
	if got.status != status || got.body != body {
		return fmt.Sprintf("got %d %q, want %d %q", got.status, got.body, status, body)
	}
	return ""
}

// Where the password was written through Metaguard, the fingerprint tells it
// also from a cut at the length of a smaller key's.
func TestCutPasswordIsNotTheOneWritten(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	s.Run(s.address)
	if answer := s.post(t, "", rsaAnswer); answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	for n := 1; n <= len(rsaAnswer); n++ {
		s.upstream.Script(func(string) string { return oldHead + "\r\n" + rsaAnswer[:n] })
		answer := s.get(t, passwordPath)
		if n == len(rsaAnswer) && (answer.Status != 200 || answer.Body != rsaAnswer) {
			t.Errorf("whole: %d %q", answer.Status, answer.Body)
		}
		if n < len(rsaAnswer) && (answer.Status != 502 || reason(answer) != "password_mismatch") {
			t.Errorf("cut behind %d bytes: %d %q", n, answer.Status, answer.Body)
		}
	}
}
