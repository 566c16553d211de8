// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tests

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// network is three network namespaces in a row: a client, a router and a server.
// The router is also a client that is on the server's own network.
type network struct{ client, router, server string }

// The addresses of a network.
const (
	far4, near4, server4 = "10.77.1.2", "10.77.2.1", "10.77.2.2"
	far6, near6, server6 = "fd77:1::2", "fd77:2::1", "fd77:2::2"
)

func newNetwork(t *testing.T) *network {
	t.Helper()
	prefix := fmt.Sprintf("mg%d", os.Getpid())
	n := &network{prefix + "c", prefix + "r", prefix + "s"}
	t.Cleanup(func() {
		for _, name := range []string{n.client, n.router, n.server} {
			_ = exec.Command("ip", "netns", "delete", name).Run() // not there if a step failed
		}
	})
	script := `set -e
ip netns add C; ip netns add R; ip netns add S
ip link add eth netns C type veth peer name left netns R
ip link add eth netns S type veth peer name right netns R
for n in C R S; do ip -n $n link set lo up; done
ip -n C link set eth up; ip -n R link set left up; ip -n R link set right up; ip -n S link set eth up
ip -n C addr add 10.77.1.2/24 dev eth; ip -n R addr add 10.77.1.1/24 dev left
ip -n R addr add 10.77.2.1/24 dev right; ip -n S addr add 10.77.2.2/24 dev eth
ip -n C addr add fd77:1::2/64 dev eth nodad; ip -n R addr add fd77:1::1/64 dev left nodad
ip -n R addr add fd77:2::1/64 dev right nodad; ip -n S addr add fd77:2::2/64 dev eth nodad
ip netns exec R sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
ip -n C route add default via 10.77.1.1; ip -n S route add default via 10.77.2.1
ip -n C -6 route add default via fd77:1::1; ip -n S -6 route add default via fd77:2::1
`
	script = strings.NewReplacer(" C", " "+n.client, " R", " "+n.router, " S", " "+n.server).Replace(script)
	output, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err == nil {
		return n
	}
	if os.Getenv(harness.NamespacesVariable) == "required" {
		t.Fatalf("no network namespaces: %v\n%s", err, output)
	}
	t.Skipf("needs root and `ip netns` (%s=required makes this a failure): %v\n%s", harness.NamespacesVariable, err, output)
	return nil
}

// connect dials from a namespace.
func connect(t *testing.T, namespace, address string) (conn net.Conn) {
	t.Helper()
	harness.Inside(t, namespace, func() {
		var err error
		if conn, err = net.DialTimeout("tcp", address, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// guardedIn is a guarded site in the server's namespace, on all its addresses.
func (n *network) guardedIn(t *testing.T, session string) (s *site, port string) {
	t.Helper()
	harness.Inside(t, n.server, func() {
		s = prepareSite(t, byAddress+"\n"+session, map[string]string{"inventory.json": fmt.Sprintf(`[
			{"address": %q, "instance_id": %q, "project_id": %q}, {"address": %q, "instance_id": %q, "project_id": %q},
			{"address": %q, "instance_id": %q, "project_id": %q}, {"address": %q, "instance_id": %q, "project_id": %q}]`,
			far4, instance1, projectA, far6, instance1, projectA, near4, instance2, projectA, near6, instance2, projectA)})
		s.edit(t, "Caddyfile", "\tbind 127.0.0.1\n", "")
		s.Run(s.address)
	})
	_, port, _ = net.SplitHostPort(s.address)
	return s, port
}

const putToken = "PUT /latest/api/token HTTP/1.1\r\nHost: m\r\n" + ttlHeader + ": 60\r\n\r\n"

// within is how long an answer may take that comes. One that does not come is
// waited for less.
const (
	within    = 20 * time.Second
	nothingIn = 2 * time.Second
)

// request sends one and reads its answer, if one comes in time.
func request(conn net.Conn, wait time.Duration, text string) harness.Answer {
	_ = conn.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(conn, text); err != nil {
		return harness.Answer{Err: err}
	}
	return harness.ReadAnswer(bufio.NewReader(conn), text)
}

// A token does not get past more routers than hop_limit says less one, and
// everything else does.
func TestSessionHops(t *testing.T) {
	n := newNetwork(t)
	one, onePort := n.guardedIn(t, "session optional") // 1 is the default
	_, twoPort := n.guardedIn(t, "session optional {\n\thop_limit 2\n}")
	for _, version := range []struct{ name, far, near, server string }{
		{"IPv4", far4, near4, server4},
		{"IPv6", far6, near6, server6},
	} {
		t.Run(version.name, func(t *testing.T) {
			at := func(port string) string { return net.JoinHostPort(version.server, port) }
			get := "GET " + userData + " HTTP/1.1\r\nHost: m\r\n"

			near := request(connect(t, n.router, at(onePort)), within, putToken)
			if near.Status != 200 || near.Body == "" {
				t.Fatalf("on the same network: %+v", near)
			}
			with := request(connect(t, n.router, at(onePort)), within, get+tokenHeader+": "+near.Body+"\r\n\r\n")
			if with.Status != 200 {
				t.Errorf("with the token: %+v", with)
			}

			// The answer before it on the same connection comes, the token does not.
			far := connect(t, n.client, at(onePort))
			if answer := request(far, within, get+"\r\n"); answer.Status != 200 {
				t.Fatalf("a GET through the router: %+v", answer)
			}
			before := strings.Count(one.Log(), `"outcome":"answered"`)
			answer := request(far, nothingIn, putToken)
			if !errors.Is(answer.Err, os.ErrDeadlineExceeded) {
				t.Errorf("a token went through the router: %+v", answer)
			}
			one.Eventually("the token is answered", func() bool { return strings.Count(one.Log(), `"outcome":"answered"`) > before })
			if answer := request(connect(t, n.client, at(onePort)), within, get+"\r\n"); answer.Status != 200 {
				t.Errorf("a GET through the router, later: %+v", answer)
			}
			// What refuses a token says so.
			if answer := request(connect(t, n.client, at(onePort)), within, strings.Replace(putToken, ": 60", ": 0", 1)); answer.Status != 400 {
				t.Errorf("a refusal through the router: %+v", answer)
			}

			if answer := request(connect(t, n.client, at(twoPort)), within, putToken); answer.Status != 200 || answer.Body == "" {
				t.Errorf("hop_limit 2, one router: %+v", answer)
			}

			// The same in HTTP/2.
			if token, err := putH2(t, n.router, at(onePort), within); err != nil || token == "" {
				t.Errorf("HTTP/2, on the same network: %q %v", token, err)
			}
			if token, err := putH2(t, n.client, at(onePort), nothingIn); err == nil {
				t.Errorf("HTTP/2: a token went through the router: %q", token)
			}
			if token, err := putH2(t, n.client, at(twoPort), within); err != nil || token == "" {
				t.Errorf("HTTP/2, hop_limit 2, one router: %q %v", token, err)
			}
		})
	}
}

// putH2 asks for a token in HTTP/2 with prior knowledge.
func putH2(t *testing.T, namespace, address string, wait time.Duration) (string, error) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	conn := connect(t, namespace, address)
	client := &http.Client{Timeout: wait, Transport: &http.Transport{
		Protocols:   protocols,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	put, err := http.NewRequest(http.MethodPut, "http://"+address+"/latest/api/token", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	put.Header.Set(ttlHeader, "60")
	answer, err := client.Do(put)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.ProtoMajor != 2 || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s", answer.Proto, answer.Status)
	}
	token, err := io.ReadAll(answer.Body)
	return string(token), err
}
