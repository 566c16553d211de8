// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// streaming is a site that passes on text over 1 KiB.
const streaming = byAddress + "\nresponse {\n\tmax_buffer 1KiB\n\toverflow stream\n}"

// streamingSite is a streaming site in front of a scripted server.
func streamingSite(t *testing.T, settings string, script func(request string) []harness.Step) *site {
	t.Helper()
	server := harness.NewScripted(t, script)
	s := prepareSite(t, settings, map[string]string{"policy/team.rego": "package metaguard.team\n\nallow contains \"anything\" if startswith(input.caller.address, \"127.\")\n"})
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+server.Address)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t}")
	s.Run(s.address)
	return s
}

const userData = "/openstack/latest/user_data"

func ask(method, version, path string) string {
	return method + " " + path + " HTTP/" + version + "\r\nHost: m\r\n\r\n"
}

// With `overflow stream` large text passes whole, and one that breaks off ends
// in a broken connection: in chunks, since there are clients that take a body
// that is shorter than its length for whole. What is hidden in, checked or
// sensitive is refused as ever, and so is everything for an HTTP/1.0 client.
func TestStream(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 20_000)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(large), large)
	const ok = "HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a=b\r\nTrailer: X-T\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(large))
	var answer atomic.Pointer[string]
	s := streamingSite(t, streaming, func(string) []harness.Step { return []harness.Step{harness.Send(*answer.Load())} })
	for n, test := range []struct {
		name, path, server string
		version            string // of the client, 1.1 where empty
		status             int
		reason             string
		cut                bool // the connection breaks after the header
		framed             bool // with a Content-Length; else in chunks
	}{
		{name: "length", server: ok + length + large, status: 200},
		{name: "length, HTTP/1.0", server: ok + length + large, version: "1.0", status: 502, reason: "response_too_large"},
		{name: "chunked", server: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunk + "0\r\nX-T: 1\r\n\r\n", status: 200},
		{name: "close-delimited", server: ok + "\r\n" + large, status: 200},
		{name: "at the limit", server: ok + "Content-Length: 1024\r\n\r\n" + large[:1024], status: 200, framed: true},
		{name: "chunked, HTTP/1.0", server: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunk + "0\r\n\r\n", version: "1.0", status: 502, reason: "response_too_large"},
		{name: "close-delimited, HTTP/1.0", server: ok + "\r\n" + large, version: "1.0", status: 502, reason: "response_too_large"},
		{name: "cut by length", server: ok + length + large[:len(large)-1], status: 200, cut: true},
		{name: "cut in a chunk", server: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunk[:len(chunk)-9], status: 200, cut: true},
		{name: "last chunk missing", server: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunk, status: 200, cut: true},
		{name: "bad chunk", server: ok + "Transfer-Encoding: chunked\r\n\r\n" + chunk + "zz\r\n", status: 200, cut: true},
		{name: "cut before the limit", server: ok + length + large[:1000], status: 502, reason: "response_incomplete"},
		{name: "exactly the limit, then cut", server: ok + length + large[:1024], status: 502, reason: "response_incomplete"},
		{name: "error page", server: "HTTP/1.1 404 Not Found\r\n" + length + large, status: 502, reason: "response_too_large"},
		{name: "redirect", server: "HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n" + length + large, status: 502, reason: "upstream_redirect"},
		{name: "no content", server: "HTTP/1.1 205 Reset Content\r\n" + length + large, status: 502, reason: "response_unreadable"},
		{name: "partial", server: "HTTP/1.1 206 Partial Content\r\n" + length + large, status: 502, reason: "response_unreadable"},
		{name: "gzip", server: ok + "Content-Encoding: gzip\r\n" + length + large, status: 502, reason: "response_unreadable"},
		{name: "JSON", path: "/openstack/latest/meta_data.json", server: ok + length + large, status: 502, reason: "response_too_large"},
		{name: "listing", path: "/openstack/latest/", server: ok + length + large, status: 502, reason: "response_too_large"},
		{name: "password", path: "/openstack/latest/password", server: ok + length + large, status: 502, reason: "response_too_large"},
		{name: "unknown resource", path: "/openstack/latest/own", server: ok + length + large, status: 502, reason: "response_too_large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer.Store(&test.server)
			version, path := test.version, test.path
			if version == "" {
				version = "1.1"
			}
			if path == "" {
				path = userData
			}
			client := harness.Dial(t, "", s.address).Send(ask("GET", version, path))
			got := client.Answer("GET")
			if got.Status != test.status || (test.reason != "" && reason(got) != test.reason) {
				t.Fatalf("%d %.100q %v, want %d %s", got.Status, got.Body, got.Err, test.status, test.reason)
			}
			if (got.Err != nil) != test.cut {
				t.Errorf("the answer ended with %v", got.Err)
			}
			if test.status != 200 {
				if got.Header.Get("Content-Length") == "" || strings.Contains(got.Body, "0123456789") {
					t.Errorf("a refusal is whole and shows nothing: %v %.100q", got.Header, got.Body)
				}
				return
			}
			want := large
			if test.name == "at the limit" {
				want = large[:1024]
			}
			if !test.cut && got.Body != want || !strings.HasPrefix(large, got.Body) {
				t.Errorf("%d bytes passed, want %d", len(got.Body), len(want))
			}
			if framed := got.Header.Get("Content-Length") != ""; framed != test.framed || (!framed && !got.Chunked) {
				t.Errorf("%v, in chunks %t", got.Header, got.Chunked)
			}
			for _, name := range []string{"Server", "Set-Cookie", "Trailer"} {
				if value := got.Header.Get(name); value != "" && value != "Caddy" {
					t.Errorf("%s: %s", name, value)
				}
			}
			if test.cut {
				if rest, closed := client.Rest(); rest != "" || !closed {
					t.Errorf("after the cut: %q, closed %t", rest, closed)
				}
			}
			line := s.decisions(t, n+1)[n]
			wantOutcome, wantReason := "streamed", "policy_allow"
			switch {
			case test.cut:
				wantOutcome, wantReason = "failed", "response_incomplete"
			case test.name == "at the limit":
				wantOutcome = "forwarded"
			}
			if line["outcome"] != wantOutcome || line["reason"] != wantReason || line["status"] != 200.0 {
				t.Errorf("published as %v", line)
			}
		})
	}
}

// Over HTTP/2 a streamed answer that breaks off ends in a reset of its stream.
func TestStreamHTTP2(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 20_000)
	for name, end := range map[string]string{"whole": "0\r\n\r\n", "cut": ""} {
		s := streamingSite(t, streaming, func(string) []harness.Step {
			return []harness.Step{harness.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(large), large) + end)}
		})
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
		defer client.CloseIdleConnections()
		answer, err := client.Get("http://" + s.address + userData)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if (err == nil) != (name == "whole") || (err == nil && string(body) != large) {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}

// A HEAD request gets the header alone, and the connection serves others.
func TestStreamHead(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 100_000)
	s := streamingSite(t, streaming, func(string) []harness.Step {
		return []harness.Step{harness.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large))}
	})
	client := harness.Dial(t, "", s.address)
	for _, method := range []string{"HEAD", "GET", "HEAD"} {
		got := client.Send(ask(method, "1.1", userData)).Answer(method)
		if got.Err != nil || got.Status != 200 || (got.Header.Get("Content-Length") == "100000") != (method == "HEAD") || (method == "GET") != (got.Body == large) {
			t.Errorf("%s: %d %d bytes %v", method, got.Status, len(got.Body), got.Err)
		}
	}
}

// A streamed answer begins before it is whole, and then holds nothing of
// max_total.
func TestStreamBeginsEarly(t *testing.T) {
	t.Parallel()
	finish := make(chan struct{})
	s := streamingSite(t, byAddress+"\nresponse {\n\tmax_buffer 4KiB\n\tmax_total 8KiB\n\toverflow stream\n}", func(request string) []harness.Step {
		return []harness.Step{
			harness.Send("HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + strings.Repeat("x", 100_000)),
			harness.Pause(finish), harness.Send("y"),
		}
	})
	clients := make([]*harness.Client, 8) // of which max_total would hold two
	for i := range clients {
		clients[i] = harness.Dial(t, "", s.address).Send(ask("GET", "1.1", userData))
		if clients[i].Silent(20 * time.Second) {
			t.Error("nothing came before the answer was whole")
		}
	}
	close(finish)
	for _, client := range clients {
		if got := client.Answer("GET"); got.Err != nil || got.Status != 200 || len(got.Body) != 100_001 {
			t.Errorf("%d %d bytes %v", got.Status, len(got.Body), got.Err)
		}
	}
}

// Neither a stream that never ends nor a client that does not read keeps HEAD
// from being answered; and the grace period of the shipped Caddyfiles ends both.
func TestStreamEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, streaming, nil)
	server := harness.NewScripted(t, func(string) []harness.Step {
		return []harness.Step{harness.Send("HTTP/1.1 200 OK\r\n\r\n"), harness.Flood(strings.Repeat("x", 2000), 50*time.Millisecond)}
	})
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+server.Address)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tgrace_period 1s")
	s.Run(s.address)
	head := harness.Dial(t, "", s.address).Send(ask("HEAD", "1.1", userData))
	if got := head.Answer("HEAD"); got.Status != 200 || got.Err != nil {
		t.Errorf("HEAD: %d %v", got.Status, got.Err)
	}
	client := harness.Dial(t, "", s.address).Send(ask("GET", "1.1", userData))
	if client.Silent(20 * time.Second) {
		t.Error("nothing came")
	}
	s.Stop() // which fails the test if it takes more than 20 s
	if got := client.Answer("GET"); got.Status != 200 || got.Err == nil {
		t.Errorf("a stream that the end of the process cut: %d %v", got.Status, got.Err)
	}
}
