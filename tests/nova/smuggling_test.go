// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestNothingIsSmuggled hides a signed request in the body of another one, on a
// connection that stays open: whatever becomes of the outer one, the inner one
// is never answered and never goes upstream.
func TestNothingIsSmuggled(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := guardBefore(t, novaUnder(t, kind).address, setup{grants: mayRead(withPassword)})
			head := strings.Join(signed(withPassword), "\r\n") + "\r\n"
			inner := "GET /openstack/latest/password HTTP/1.1\r\nHost: x\r\n" + head + "\r\n"
			chunked := fmt.Sprintf("0\r\n\r\n%s", inner)
			for name, outer := range map[string]string{
				"a refused path":             "POST /openstack/latest/%2e HTTP/1.1\r\nHost: x\r\n" + head + length(inner),
				"nobody":                     "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\n" + length(inner),
				"a refused method":           "POST /openstack/latest/user_data HTTP/1.1\r\nHost: x\r\n" + head + length(inner),
				"a GET with a body":          "GET /openstack/latest/user_data HTTP/1.1\r\nHost: x\r\n" + head + length(inner),
				"a large body":               "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\n" + head + length(inner+strings.Repeat("x", 2000)),
				"a password":                 "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\n" + head + length(inner),
				"an underscore":              "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n" + head + length(chunked),
				"an underscore in a GET":     "GET /openstack/latest/user_data HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n" + head + length(chunked),
				"two lengths":                "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + head + length(inner),
				"a length and a folded line": "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nX: y\r\n Content-Length: 0\r\n" + head + length(inner),
				"an encoding unknown":        "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n" + head + length(chunked),
				"an encoding twice":          "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n" + head + length(chunked),
				"a blank before the colon":   "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n" + head + length(inner),
				"an expectation":             "POST /openstack/latest/%2e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + head + length(inner),
			} {
				g.upstream.take(t)
				writing.Lock()
				answer := converse(t, g.address, outer)
				writing.Unlock()
				// The outer request and the plain one behind it are answered.
				if strings.Contains(answer, passwordOf2[:40]) || strings.Count(answer, "X-Metaguard-Decision") > 2 {
					t.Errorf("%s: %.600q", name, answer)
				}
				for _, forwarded := range g.upstream.take(t) {
					if forwarded.target == "/openstack/latest/password" && forwarded.method != "POST" {
						t.Errorf("%s: went upstream: %q", name, forwarded)
					}
				}
			}
		})
	}
}

// length is the end of a head, with the length of a body, and the body.
func length(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// converse sends bytes and one plain request behind them, and gives all that
// comes back.
func converse(t *testing.T, to, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	// A last request, so that the server need not be waited for.
	_, _ = io.WriteString(conn, "GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answer, _ := io.ReadAll(conn)
	return string(answer)
}
