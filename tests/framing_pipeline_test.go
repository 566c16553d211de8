// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// read is the one canonical request that a read of user data becomes.
func (f *framed) read(from string) string {
	return fmt.Sprintf("GET /openstack/latest/user_data HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\n"+
		"Via: 1.1 Caddy\r\nX-Forwarded-For: %s\r\nConnection: close\r\n\r\n", f.server.address, from)
}

// Requests that come in one packet are answered in turn, each for itself, as
// long as every body was read to its end.
func TestFramingPipelining(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", nil)
	const get = getLine + "\r\n"
	post := postLine + withLength("hello")
	postChunked := postLine + chunked("hello", "", 2)
	for _, test := range []struct {
		name    string
		send    string
		answers []string // status and reason
		arrived string   // r: a read, w: the write
	}{
		{"reads", get + get + get, []string{"200", "200", "200"}, "rrr"},
		{"50 reads", strings.Repeat(get, 50), strings.Split(strings.Repeat("200 ", 49)+"200", " "), strings.Repeat("r", 50)},
		{"good, bad, good", get + strings.Replace(get, "user_data", "../user_data", 1) + get, []string{"200", "400 request_ambiguous", "200"}, "rr"},
		{"good, refused by the policy, good", get + strings.Replace(get, "openstack", "secret", 1) + get, []string{"200", "404 policy_deny", "200"}, "rr"},
		{"write, read", post + get, []string{"200", "200"}, "wr"},
		{"read, chunked write, read", get + postChunked + get, []string{"200", "200", "200"}, "rwr"},
		{"two writes", post + post + get, []string{"200", "409 password_already_set", "200"}, "wr"},
		{"empty write, write", postLine + withLength("") + postLine + chunked("", "", 1) + post, []string{"400 password_empty", "400 password_empty", "200"}, "w"},
		{"not UTF-8, write", postLine + withLength("\xff") + post, []string{"400 body_unreadable", "200"}, "w"},
		{"too long but read, write", postLine + withLength(passwordOf(1021)) + postLine + chunked(passwordOf(1300), "", 99) + post, []string{"413 body_too_large", "413 body_too_large", "200"}, "w"},
		{"empty line between", post + "\r\n" + get, []string{"200", "200"}, "wr"},
		{"bad for Go, good", get + getLine + "Content-Length: x\r\n\r\n" + get, []string{"200", "400"}, "r"},
		{"close, good", getLine + "Connection: close\r\n\r\n" + get, []string{"200"}, "r"},
		{"HTTP/1.0, good", strings.Replace(get, "1.1", "1.0", 1) + get, []string{"200"}, "R"},
	} {
		t.Run(test.name, func(t *testing.T) {
			from := f.caller(t)
			client := harness.Dial(t, from, f.address).Send(test.send)
			for i, want := range test.answers {
				answer := client.Answer("GET")
				got := fmt.Sprint(answer.Status)
				if why := reason(answer); answer.Status >= 400 && answer.Header.Get("X-Metaguard-Decision") != "" {
					got += " " + why
				}
				if answer.Err != nil || got != want {
					t.Fatalf("answer %d: %s %v, want %s", i+1, got, answer.Err, want)
				}
			}
			if rest, closed := client.End().Rest(); rest != "" || !closed {
				t.Errorf("then %q, closed: %t", rest, closed)
			}
			var want []string
			for _, kind := range test.arrived {
				switch kind {
				case 'r':
					want = append(want, f.read(from))
				case 'R':
					want = append(want, strings.Replace(f.read(from), "Via: 1.1", "Via: 1.0", 1))
				case 'w':
					want = append(want, f.written("1.1", from, "hello"))
				}
			}
			f.wantArrived(t, want...)
		})
	}
}

// The body of a refused request is never the next request, however it is
// framed and whenever it comes.
func TestFramingRefusedBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "body_timeout 300ms", nil)
	const hidden = getLine + "\r\n"
	many := strings.Repeat(hidden, 30)
	elsewhere := strings.Replace(postLine, "/password", "/user_data", 1)
	type frame struct{ name, head, body string }
	frames := []frame{
		{"length", fmt.Sprintf("Content-Length: %d\r\n\r\n", len(many)), many},
		{"length of 10 MB", "Content-Length: 10000000\r\n\r\n", many},
		{"chunked", "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(many), many)},
		{"chunk of 10 MB", "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s", 10_000_000, many)},
		{"no chunk", "Transfer-Encoding: chunked\r\n\r\n", many},
		{"expect", fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(many)), many},
		{"expect, and half of it", fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(many)), hidden},
	}
	group := func(t *testing.T) {
		for _, test := range []struct {
			name, head string
			status     int
			reason     string
		}{
			{"not writable", elsewhere, 405, "method_not_allowed"},
			{"GET", getLine, 400, "body_unexpected"},
			{"PUT", strings.Replace(postLine, "POST", "PUT", 1), 405, "method_not_allowed"},
			{"bad path", strings.Replace(postLine, "latest", "..", 1), 400, "request_ambiguous"},
			{"bad header", postLine + "Upgrade: x\r\n", 400, "header_refused"},
			{"too large", postLine, 413, "body_too_large"},
		} {
			for _, frame := range frames {
				for _, late := range []bool{false, true} { // the body comes when the answer is there
					if strings.Contains(frame.head, "chunked") && test.head == postLine && (late || frame.name == "no chunk") {
						continue // its chunks are read first
					}
					t.Run(fmt.Sprintf("%s/%s/late=%t", test.name, frame.name, late), func(t *testing.T) {
						t.Parallel()
						client := harness.Dial(t, f.caller(t), f.address)
						method := strings.Fields(test.head)[0]
						var answer harness.Answer
						if late {
							answer = client.Send(test.head + frame.head).Answer(method)
							client.Send(frame.body)
						} else {
							answer = client.Send(test.head + frame.head + frame.body).Answer(method)
						}
						f.judge(t, answer, framing{status: test.status, reason: test.reason})
						if answer.Header.Get("Connection") != "close" {
							t.Fatalf("the client is not told that the connection ends: %v", answer.Header)
						}
						if rest, closed := client.Rest(); rest != "" || !closed {
							t.Errorf("then %q, closed: %t", rest, closed)
						}
					})
				}
			}
		}
	}
	t.Run("refused", group)
	f.wantArrived(t)
}

// 100 comes if the body is wanted, and not before a refusal.
func TestFramingExpect(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "body_timeout 500ms", nil)
	const expect = "Expect: 100-continue\r\n"
	head := func(line, framing string) string { return line + expect + framing + "\r\n\r\n" }

	t.Run("wanted", func(t *testing.T) {
		for _, request := range [][2]string{
			{head(postLine, "Content-Length: 5"), "hello"},
			{head(postLine, "Transfer-Encoding: chunked"), "5\r\nhello\r\n0\r\n\r\n"},
			{strings.Replace(head(postLine, "Content-Length: 5"), "100-continue", "100-CONTINUE", 1), "hello"},
		} {
			from := f.caller(t)
			client := harness.Dial(t, from, f.address).Send(request[0])
			if answer := client.Answer("POST"); answer.Status != 100 {
				t.Errorf("got %d %q %v, want 100", answer.Status, answer.Body, answer.Err)
			}
			// Not a byte of it may be there before the body.
			f.wantArrived(t)
			client.Send(request[1])
			if answer := client.Answer("POST"); answer.Status != 200 {
				t.Errorf("got %d %q %v, want 200", answer.Status, answer.Body, answer.Err)
			}
			f.wantArrived(t, f.written("1.1", from, "hello"))
			// The connection is in step.
			if answer := client.Send(getLine + "\r\n").Answer("GET"); answer.Status != 200 {
				t.Errorf("then got %d %q %v, want 200", answer.Status, answer.Body, answer.Err)
			}
			f.wantArrived(t, f.read(from))
		}
	})
	t.Run("wanted and sent at once", func(t *testing.T) {
		from := f.caller(t)
		client := harness.Dial(t, from, f.address).Send(head(postLine, "Content-Length: 5") + "hello")
		answer := client.Answer("POST")
		if answer.Status == 100 {
			answer = client.Answer("POST")
		}
		if answer.Status != 200 {
			t.Errorf("got %d %q %v, want 200", answer.Status, answer.Body, answer.Err)
		}
		f.wantArrived(t, f.written("1.1", from, "hello"))
	})
	t.Run("wanted and never sent", func(t *testing.T) {
		client := harness.Dial(t, f.caller(t), f.address).Send(head(postLine, "Content-Length: 5"))
		if answer := client.Answer("POST"); answer.Status != 100 {
			t.Errorf("got %d %q %v, want 100", answer.Status, answer.Body, answer.Err)
		}
		if answer := client.Answer("POST"); answer.Status != 408 || reason(answer) != "body_timeout" {
			t.Errorf("got %d %q %v, want 408", answer.Status, answer.Body, answer.Err)
		}
	})
	t.Run("HTTP/1.0 knows no 100", func(t *testing.T) {
		from := f.caller(t)
		client := harness.Dial(t, from, f.address).Send("POST /openstack/latest/password HTTP/1.0\r\n" + expect + "Content-Length: 5\r\n\r\n")
		if !client.Silent(100 * time.Millisecond) {
			t.Error("something was answered before the body")
		}
		if answer := client.Send("hello").Answer("POST"); answer.Status != 200 {
			t.Errorf("got %d %q %v, want 200", answer.Status, answer.Body, answer.Err)
		}
		f.wantArrived(t, f.written("1.0", from, "hello"))
	})
	t.Run("no body", func(t *testing.T) {
		client := harness.Dial(t, f.caller(t), f.address).Send(head(postLine, "Content-Length: 0"))
		if answer := client.Answer("POST"); answer.Status != 400 || reason(answer) != "password_empty" {
			t.Errorf("got %d %q %v, want 400", answer.Status, answer.Body, answer.Err)
		}
		if answer := client.Send(getLine + "\r\n").Answer("GET"); answer.Status != 200 {
			t.Errorf("then got %d %q %v, want 200", answer.Status, answer.Body, answer.Err)
		}
	})
	f.arrived()

	elsewhere := strings.Replace(postLine, "/password", "/user_data", 1)
	for name, test := range map[string]struct {
		from, send string
		status     int
		reason     string
	}{
		"too large":        {"", head(postLine, "Content-Length: 5000"), 413, "body_too_large"},
		"far too large":    {"", head(postLine, "Content-Length: 10000000"), 413, "body_too_large"},
		"not writable":     {"", head(elsewhere, "Content-Length: 5"), 405, "method_not_allowed"},
		"not writable, c.": {"", head(elsewhere, "Transfer-Encoding: chunked"), 405, "method_not_allowed"},
		"GET":              {"", head(getLine, "Content-Length: 5"), 400, "body_unexpected"},
		"bad path":         {"", head(strings.Replace(postLine, "latest", "..", 1), "Content-Length: 5"), 400, "request_ambiguous"},
		"unknown caller":   {"127.9.9.9", head(postLine, "Content-Length: 5"), 401, "identity_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			from := test.from
			if from == "" {
				from = f.caller(t)
			}
			client := harness.Dial(t, from, f.address).Send(test.send)
			answer := client.Answer("POST")
			f.judge(t, answer, framing{status: test.status, reason: test.reason})
			if answer.Header.Get("Connection") != "close" {
				t.Fatalf("the client is not told that the connection ends: %v", answer.Header)
			}
			if rest, closed := client.Rest(); rest != "" || !closed {
				t.Errorf("then %q, closed: %t", rest, closed)
			}
		})
	}
	f.wantArrived(t)
}
