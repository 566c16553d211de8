// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestMethods(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "FOO", "get", "Post", "HEAD"} {
			s := start(t, &Handler{Server: kind})
			for _, id := range []string{noPassword, withOne} {
				got := s.do(method, passwordPath, id, "")
				if got.status != http.StatusBadRequest || method != "HEAD" && !strings.Contains(got.body, "GET and POST only are supported.") {
					t.Errorf("%s: %d %q", method, got.status, got.body)
				}
				if got := s.do(method, "/openstack/2012-08-10/password", id, ""); got.status != http.StatusNotFound {
					t.Errorf("%s under 2012-08-10: %d", method, got.status)
				}
			}
			// On any other path a method is a GET.
			if got := s.do(method, "/openstack/latest/user_data", withOne, ""); got.status != http.StatusOK {
				t.Errorf("%s user_data: %d", method, got.status)
			}
		}
		s := start(t, &Handler{Server: kind})
		got := s.do("GET", passwordPath, withOne, "")
		want := demo()[1].SystemMetadata
		if got.status != 200 || got.header.Get("Content-Type") != "text/html; charset=UTF-8" || got.body != want["password_0"]+want["password_1"] {
			t.Errorf("GET: %+v", got)
		}
		if got := s.do("GET", passwordPath, noPassword, ""); got.status != 200 || got.body != "" || got.header.Get("Content-Type") != "text/html; charset=UTF-8" {
			t.Errorf("GET of none: %+v", got)
		}
		if got := s.do("POST", passwordPath, withOne, "x"); got.status != 409 || !strings.Contains(got.body, "There was a conflict when trying to complete your request.") {
			t.Errorf("POST: %+v", got)
		}
	})
}

// TestEnumeration is the prefix fault: every key that begins with "password_".
func TestEnumeration(t *testing.T) {
	s := start(t, &Handler{})
	if got := s.do("GET", passwordPath, evilKeys, ""); got.body != "[bare][0][1][10][2][3][evil]" {
		t.Errorf("joined: %q", got.body)
	}
	only := start(t, &Handler{Instances: []Instance{{
		ID: noPassword, Project: "p", Addresses: []string{"10.0.0.11"},
		SystemMetadata: map[string]string{"password_evil": strings.Repeat("x", 2000), "password": "no", "passwordx": "no"},
	}}})
	if got := only.do("GET", passwordPath, noPassword, ""); got.body != strings.Repeat("x", 2000) {
		t.Errorf("only an unknown key: %d bytes", len(got.body))
	}
	if got := only.do("POST", passwordPath, noPassword, "a"); got.status != 409 {
		t.Errorf("POST over it: %d", got.status)
	}
}

func TestPostSizes(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		gone := failed(kind)
		for _, tt := range []struct {
			name, body string
			status     int
			stored     string
		}{
			{"0", "", 200, "0+0+0+0"},
			{"1", "a", 200, "1+0+0+0"},
			{"254", strings.Repeat("a", 254), 200, "254+0+0+0"},
			{"255", strings.Repeat("a", 255), 200, "255+0+0+0"},
			{"256", strings.Repeat("a", 256), 200, "255+1+0+0"},
			{"344", strings.Repeat("a", 344), 200, "255+89+0+0"},
			{"1019", strings.Repeat("a", 1019), 200, "255+255+255+254"},
			{"1020", strings.Repeat("a", 1020), 200, "255+255+255+255"},
			{"1021", strings.Repeat("a", 1021), 400, "nothing"},
			{"5000", strings.Repeat("a", 5000), 400, "nothing"},
			{"510 two-byte characters", strings.Repeat("é", 510), 200, "255+255+0+0"},
			{"511 two-byte characters", strings.Repeat("é", 511), 400, "nothing"},
			{"255 emoji", strings.Repeat("\U0001f600", 255), 200, "255+0+0+0"},
			{"across the cut", strings.Repeat("a", 254) + "éb", 200, "255+1+0+0"},
			{"not UTF-8", "ab\xff", gone, "nothing"},
			{"latin-1", "\xe9", gone, "nothing"},
			{"cut UTF-8", "a\xc3", gone, "nothing"},
			{"surrogate", "\xed\xa0\x80", gone, "nothing"},
			{"overlong", "\xc0\x80", gone, "nothing"},
			{"NUL", "ab\x00cd", 200, "5+0+0+0"},
			{"CR LF", "a\r\nbc", 200, "5+0+0+0"},
			{"BOM", "\ufeffa", 200, "2+0+0+0"},
			{"html", "<script>alert(1)</script>", 200, "25+0+0+0"},
		} {
			s := start(t, &Handler{Server: kind})
			got := s.do("POST", passwordPath, noPassword, tt.body)
			if got.status != tt.status || got.status == 200 && (got.body != "" || got.header.Get("Content-Type") != htmlText) {
				t.Errorf("%s: %+v, want %d", tt.name, got, tt.status)
			}
			if tt.status == 400 && !strings.Contains(got.body, "Request is too large.") {
				t.Errorf("%s: %q", tt.name, got.body)
			}
			if stored := s.chunksOf(noPassword); stored != tt.stored {
				t.Errorf("%s: stored %s, want %s", tt.name, stored, tt.stored)
			}
			s.clock.advance(DefaultCache)
			if read := s.do("GET", passwordPath, noPassword, ""); tt.status == 200 && read.body != tt.body {
				t.Errorf("%s: read back %q", tt.name, read.body)
			}
		}
	})
}

func TestPostFraming(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for _, tt := range []struct{ name, headers, body string }{
			{"chunked", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
			{"chunked and empty", "Transfer-Encoding: chunked", "0\r\n\r\n"},
			{"no length", "X-Nothing: 1", ""},
			{"no length, body follows", "X-Nothing: 1", "hello"},
		} {
			s := start(t, &Handler{Server: kind})
			raw := s.raw("POST " + passwordPath + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.11\r\n" + tt.headers + "\r\n\r\n" + tt.body)
			if got := s.parse("POST", raw); got.status != failed(kind) || got.body != "" {
				t.Errorf("%s: %q", tt.name, raw)
			}
			if stored := s.chunksOf(noPassword); stored != "nothing" {
				t.Errorf("%s: stored %s", tt.name, stored)
			}
		}

		// A body that ends too early.
		s := start(t, &Handler{Server: kind})
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST "+passwordPath+" HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.11\r\nContent-Length: 10\r\n\r\nhello")
		_ = conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(conn)
		if got := s.parse("POST", string(all)); got.status != failed(kind) || s.chunksOf(noPassword) != "nothing" {
			t.Errorf("short body: %q, stored %s", all, s.chunksOf(noPassword))
		}

		// Too long, and never sent: the answer comes all the same.
		got := s.do("POST", passwordPath, noPassword, "", "Content-Length: 5000")
		if got.status != 400 {
			t.Errorf("5000 bytes promised: %+v", got)
		}
		raw := s.raw("POST " + passwordPath + " HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.11\r\nContent-Length: 5000\r\n\r\n")
		if got := s.parse("POST", raw); got.status != 400 {
			t.Errorf("5000 bytes promised, connection kept: %q", raw)
		}
	})
}

// TestStaleWriteOnce is the 15-second fault.
func TestStaleWriteOnce(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		s := start(t, &Handler{Server: kind})
		post := func(body string, want int) {
			t.Helper()
			if got := s.do("POST", passwordPath, noPassword, body); got.status != want {
				t.Fatalf("POST %q: %d, want %d", body, got.status, want)
			}
		}
		read := func(want string) {
			t.Helper()
			if got := s.do("GET", passwordPath, noPassword, ""); got.status != 200 || got.body != want {
				t.Fatalf("GET: %d %q, want %q", got.status, got.body, want)
			}
		}
		post("first", 200) // cold: it fills the cache itself
		read("")           // the writer cannot read what it wrote
		post("second, in place of the first", 200)
		s.clock.advance(DefaultCache - time.Millisecond)
		post("", 200) // erases
		read("")
		s.clock.advance(time.Millisecond)
		read("")
		post("third", 200)
		s.clock.advance(DefaultCache)
		read("third")
		post("fourth", 409)
		s.clock.advance(10 * DefaultCache)
		post("fifth", 409)
		read("third")

		off := caddy.Duration(0)
		uncached := start(t, &Handler{Server: kind, Cache: &off})
		if got := uncached.do("POST", passwordPath, noPassword, "a"); got.status != 200 {
			t.Errorf("no cache, first: %d", got.status)
		}
		if got := uncached.do("POST", passwordPath, noPassword, "b"); got.status != 409 {
			t.Errorf("no cache, second: %d", got.status)
		}
		if got := uncached.do("GET", passwordPath, noPassword, ""); got.body != "a" {
			t.Errorf("no cache: %q", got.body)
		}
	})
}

// TestParallelPosts is about the race detector, and about one thing that even
// Nova keeps: what is stored is one of the values, never a mixture.
func TestParallelPosts(t *testing.T) {
	s := start(t, &Handler{})
	var group sync.WaitGroup
	for n := range 6 {
		group.Go(func() {
			if got := s.do("POST", passwordPath, noPassword, strings.Repeat(strconv.Itoa(n), 600)); got.status != 200 {
				t.Errorf("%d: %+v", n, got)
			}
			s.do("GET", passwordPath, noPassword, "")
		})
	}
	group.Wait()
	s.clock.advance(DefaultCache)
	got := s.do("GET", passwordPath, noPassword, "").body
	if len(got) != 600 || strings.Trim(got, got[:1]) != "" {
		t.Errorf("%q", got)
	}
}

func TestStateIsItsOwn(t *testing.T) {
	instances := []Instance{{ID: noPassword, Project: "p", Addresses: []string{"10.0.0.11"}, SystemMetadata: map[string]string{"a": "b"}}}
	s := start(t, &Handler{Instances: instances})
	s.do("POST", passwordPath, noPassword, "x")
	if s.chunksOf(noPassword) != "1+0+0+0" || len(instances[0].SystemMetadata) != 1 {
		t.Errorf("the configuration has changed: %v", instances[0].SystemMetadata)
	}
	if b, err := json.Marshal(s.Handler); err != nil || bytes.Contains(b, []byte("password_0")) {
		t.Errorf("%s %v", b, err)
	}
}
