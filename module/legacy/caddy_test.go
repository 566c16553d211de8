// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
)

// TestThroughCaddy is about what stands between the handler and the wire in
// earnest: Caddy's own writers and headers. It also pins that a reload begins
// anew.
func TestThroughCaddy(t *testing.T) {
	for kind, want := range map[string]string{
		UWSGI:    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n[bare][0][1][10][2][3][evil]",
		Eventlet: "\r\n\r\n[bare][0][1][10][2][3][evil]",
	} {
		t.Run(kind, func(t *testing.T) {
			s := &server{t: t, address: runCaddy(t, kind)}
			got := s.raw("GET /openstack//../latest/password HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.33\r\n\r\n")
			if kind == Eventlet {
				got = s.raw("GET /x//../openstack/../%6fpenstack/latest/password HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.33\r\n\r\n")
				if strings.Contains(got, "Server:") || !strings.Contains(got, "Content-Length: 28\r\n") {
					t.Errorf("%q", got)
				}
			}
			if !strings.HasSuffix(got, want) || kind == UWSGI && got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if crash := s.do("POST", passwordPath, "", "0\r\n\r\n", "Transfer-Encoding: chunked"); crash.status != failed(kind) {
				t.Errorf("chunked: %+v", crash)
			}
			// 127.0.0.1 is the first instance.
			if post := s.do("POST", passwordPath, "", "written"); post.status != 200 {
				t.Errorf("POST: %+v", post)
			}
			s.address = runCaddy(t, kind)
			if post := s.do("POST", passwordPath, "", "written again"); post.status != 200 {
				t.Errorf("POST after a reload: %+v", post)
			}
		})
	}
}

// runCaddy loads a Caddyfile with one site and gives its address.
func runCaddy(t *testing.T, kind string) string {
	t.Helper()
	config := "{\n admin off\n persist_config off\n storage file_system " + t.TempDir() + "\n log {\n  output discard\n }\n}\n" +
		"http://:0 {\n bind 127.0.0.1\n metaguard_legacy {\n  server " + kind + "\n }\n}\n"
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(adapted, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, running := range app.(*caddyhttp.App).Servers {
		for _, listener := range running.Listeners() {
			return listener.Addr().String()
		}
	}
	t.Fatal("nothing listens")
	return ""
}

// TestLinger is the end of an answer to a client that never stops sending.
func TestLinger(t *testing.T) {
	s := start(t, &Handler{})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "POST "+passwordPath+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 400 Bad Request\r\n") {
		t.Fatalf("%q %v", all, err)
	}
	block := bytes.Repeat([]byte("x"), 32<<10)
	for err == nil { // until the server has had enough
		_, err = conn.Write(block)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the server goes on reading")
	}
}
