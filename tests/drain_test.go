// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// The shipped configuration of HAProxy turns away from a replica whose legacy
// server is away, that has no policy, or that is about to stop, and comes back.
// Meanwhile no request is answered wrongly, and a stop costs none.
func TestHAProxyDrains(t *testing.T) {
	t.Parallel()
	harness.NeedHAProxy(t)
	c := newDrained(t)
	victim := c.replicas[1]

	c.may("upstream_unreachable", "response_incomplete")
	c.links[1].Kill()
	c.becomes("DOWN", "L7STS")
	c.without(victim)
	c.links[1].Run()
	c.becomes("UP", "L7OK")
	c.with(victim)

	c.may("broken off")
	victim.kill()
	c.becomes("DOWN", "L4CON")
	c.without(victim)
	c.policies.setDown(true)
	if err := os.RemoveAll(filepath.Join(victim.Data, "caddy")); err != nil { // the persisted bundle
		t.Fatal(err)
	}
	victim.Run(victim.address)
	c.becomes("DOWN", "L7STS")
	c.without(victim)
	c.policies.setDown(false)
	c.becomes("UP", "L7OK")
	c.with(victim)

	victim.Signal(syscall.SIGTERM)
	c.becomes("DOWN", "L7STS")
	if victim.Ended() {
		t.Error("it ended before the balancer had turned away")
	}
	c.without(victim)
	victim.Eventually("it ends", victim.Ended)
	c.without(victim)
	c.stop()
}

// drained is three replicas with a legacy server each behind HAProxy, and clients.
type drained struct {
	*cluster
	haproxy *harness.HAProxy
	links   []*harness.Relay // from each replica to its server
	stopped atomic.Bool
	wait    sync.WaitGroup

	mu      sync.Mutex
	allowed map[string]bool // what may be answered beside what was asked for
	by      map[string]int  // answers of each replica
	wrong   []string
}

func newDrained(t *testing.T) *drained {
	t.Helper()
	c := &drained{
		cluster: &cluster{t: t, policies: newPolicyServer(t), signer: newSigner(t)},
		allowed: make(map[string]bool), by: make(map[string]int),
	}
	c.policies.publish("1", c.signer.sign(t, shippedTeam(t)))
	var inventory []string
	for n := range firstWriter {
		inventory = append(inventory, fmt.Sprintf(`{"address": %q, "instance_id": %q, "project_id": %q}`, addressOf(n), instanceOf(n), projectA))
	}
	var tcp, requests []string
	tcpPort, httpPort := harness.FreePort(t), harness.FreePort(t)
	for i := range 3 {
		// It says who it is and whom it was told of.
		server := harness.NewUpstream(t, func(request string) string {
			_, instance, _ := strings.Cut(request, "X-Instance-Id: ")
			instance, _, _ = strings.Cut(instance, "\r\n")
			return harness.OK(fmt.Sprint(i, " ", instance))
		})
		r := newClusterReplica(t, i, tcpPort, httpPort, server, c.policies, c.signer)
		link := harness.NewRelay(t, false, server.Address)
		r.Setenv("METAGUARD_UPSTREAM", link.Address)
		r.edit(t, "Caddyfile", "shutdown_delay 4s", "shutdown_delay 10s")
		r.edit(t, "Caddyfile", "ready_timeout 30s", "ready_timeout 1s")
		r.Write("cluster/inventory.json", "["+strings.Join(inventory, ",\n")+"]")
		r.Run(r.address)
		c.replicas, c.links = append(c.replicas, r), append(c.links, link)
		tcp, requests = append(tcp, r.address), append(requests, r.httpAddress)
	}
	addresses := []string{fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))}
	c.haproxy = harness.StartHAProxy(t, haproxyConfig(t, addresses[0], addresses[1], tcp, requests), addresses[0])
	for _, server := range []string{"a", "b", "c"} {
		c.serverBecomes(server, "UP", "L7OK")
	}
	const clients = 4
	for client := range clients {
		c.wait.Go(func() {
			for n := client; !c.stopped.Load(); n += clients {
				c.read(addresses[client%2], n%firstWriter)
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

// read asks through the balancer and notes who answered what.
func (c *drained) read(address string, n int) {
	c.mu.Lock()
	before := c.allowed
	c.mu.Unlock()
	answer := c.ask(address, n, http.MethodGet, userdataPath, "")
	replica, instance, _ := strings.Cut(answer.Body, " ")
	problem := ""
	switch {
	case answer.Err != nil || answer.Header.Get("X-Metaguard-Decision") == "":
		problem = "broken off" // in mode http HAProxy says 502
	case answer.Status != http.StatusOK:
		problem = reason(answer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case problem == "" && instance != instanceOf(n):
		c.wrong = append(c.wrong, fmt.Sprintf("%s got %q", instanceOf(n), answer.Body))
	case problem == "":
		c.by[replica]++
	case !before[problem] && !c.allowed[problem]:
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %d %q, %v", address, answer.Status, answer.Body, answer.Err))
	}
}

// may says what clients may get beside answers, until the balancer has turned away.
func (c *drained) may(problems ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = make(map[string]bool)
	for _, problem := range problems {
		c.allowed[problem] = true
	}
}

// becomes waits until the balancer thinks so of the second replica.
func (c *drained) becomes(state, check string) { c.t.Helper(); c.serverBecomes("b", state, check) }

func (c *drained) serverBecomes(server, state, check string) {
	c.t.Helper()
	for _, backend := range []string{"replicas", "replicas_http"} {
		c.replicas[0].Eventually(fmt.Sprint(backend, "/", server, " is ", state, " by ", check), func() bool {
			is, by := c.haproxy.Checked(backend, server)
			return is == state && by == check
		})
	}
}

// without lets clients ask on: they get what they ask for, and not from this one.
func (c *drained) without(r *clusterReplica) {
	c.t.Helper()
	c.may()
	c.goesOn(20) // what was under way ends
	before := c.answers(r)
	c.goesOn(60)
	if more := c.answers(r) - before; more != 0 {
		c.t.Errorf("it answered %d requests after the balancer had turned away", more)
	}
}

// with waits until this one answers, too.
func (c *drained) with(r *clusterReplica) {
	c.t.Helper()
	before := c.answers(r)
	r.Eventually("it answers again", func() bool { return c.answers(r) > before+10 })
}

// goesOn waits for so many more answers.
func (c *drained) goesOn(n int) {
	c.t.Helper()
	before := c.answers(c.replicas...)
	c.replicas[0].Eventually("clients are answered", func() bool { return c.answers(c.replicas...) >= before+n })
}

// answers tells how many these replicas gave.
func (c *drained) answers(replicas ...*clusterReplica) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.replicas {
		for _, one := range replicas {
			if one == r {
				n += c.by[fmt.Sprint(i)]
			}
		}
	}
	return n
}

// stop ends the clients and tells what was wrong.
func (c *drained) stop() {
	if c.stopped.Swap(true) {
		return
	}
	c.wait.Wait()
	for _, problem := range c.wrong {
		c.t.Error(problem)
	}
	c.t.Logf("answers by replica: %v", c.by)
}
