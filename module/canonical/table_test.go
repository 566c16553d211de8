// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// guard is a real server of Go's with Canonicalize behind it. Its answers say
// what came of the request.
func guard(t testing.TB, c *Canonicalizer) net.Addr {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q, refusal := c.Canonicalize(r); refusal != nil {
			w.Header().Set("X-Result", refusal.Code)
		} else {
			w.Header().Set("X-Result", q.Method+" "+target(q))
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr()
}

// ask sends raw bytes to a guard and gives what Canonicalize said, or the
// status with which Go's server answered before it.
func ask(t testing.TB, addr net.Addr, raw string) string {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	defer response.Body.Close()
	if result := response.Header.Get("X-Result"); result != "" {
		return result
	}
	return fmt.Sprint("go ", response.StatusCode)
}

// passwordPaths are the password's resource as the real server that table A was
// measured on has it.
var passwordPaths = map[string]bool{
	"/openstack/2013-04-04/password": true,
	"/openstack/2020-10-14/password": true,
	"/openstack/latest/password":     true,
}

// Every spelling of table A is either refused, or the real servers read the
// same resource in it as Metaguard judges.
func TestTableA(t *testing.T) {
	c := compile(t, nova)
	server := guard(t, c)
	for _, row := range tableA(t) {
		t.Run(fmt.Sprintf("%q", row.target), func(t *testing.T) {
			q, refusal := c.Canonicalize(request(row.target))
			var got string
			if refusal != nil {
				got = refusal.Code
			} else {
				got = target(q)
			}
			if got != row.canonical {
				t.Fatalf("canonicalises to %s, want %s", got, row.canonical)
			}
			want := row.canonical
			switch {
			case row.first == "go":
				want = "go 400"
			case refusal == nil:
				want = "GET " + want
			}
			if got := ask(t, server, "GET "+row.target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); got != want {
				t.Errorf("behind Go's server: %s, want %s", got, want)
			}
			if refusal != nil {
				return
			}
			judged := passwordPaths["/"+strings.Join(q.Segments, "/")]
			for server, said := range map[string]string{"uWSGI": row.uwsgi, "eventlet": row.eventlet} {
				if served := said == "PASSWORD"; served != judged {
					t.Errorf("judged as the password: %v; %s said %s", judged, server, said)
				}
			}
		})
	}
}
