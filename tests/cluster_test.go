// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"net/http"
	"syscall"
	"testing"
	"time"
)

// Three replicas behind a balancer, with a policy server and Redis: while each of
// these is killed and comes back under load, no decision is wrong, no second first
// password passes, and no decision event is lost that is not counted.
func TestCluster(t *testing.T) {
	t.Parallel()
	newCluster(t).suffers(1)
}

// The same again and again, with figures, and with a Redis that hangs or is slow.
func TestLongCluster(t *testing.T) {
	long(t)
	newCluster(t).suffers(4)
}

func (c *cluster) suffers(rounds int) {
	t := c.t
	current := []everywhere{{1, time.Time{}}}
	c.eachReplica(t, "the first policy is there", func(r *clusterReplica) bool { return c.status(r.address, userdataPath) == http.StatusForbidden })
	token, password := c.share()
	load := c.load(4)
	for round := range rounds {
		load.goesOn(50)
		current = append(current, c.switches("everywhere after it was published", func() { c.publish() }))
		c.replicaDies(load, round)
		c.redisDies(load, "killed", c.redis.Kill, c.redis.Run)
		if rounds > 1 {
			c.redisDies(load, "stopped", func() { c.redis.Signal(syscall.SIGSTOP) }, func() { c.redis.Signal(syscall.SIGCONT) })
			c.redisIsSlow(load)
		}
		current = append(current, c.policiesDie(load, round))
		c.replicaIsReplaced(load, round)
		c.balancerDies(load)
		c.isShared(token, password)
	}
	load.goesOn(50)
	load.stop()
	decisions, events := c.lines()
	load.checkReads(decisions, current)
	load.checkPasswords()
	c.checkEvents(events)
	if n := c.replicasOf(c.policies.received()); n != len(c.replicas) {
		t.Errorf("the events of %d replicas arrived", n)
	}
}

// share gets a token from the first replica and writes a password through it.
func (c *cluster) share() (token, password string) {
	c.t.Helper()
	first := c.replicas[0]
	answer := c.ask(first.address, 0, http.MethodPut, "/latest/api/token", "", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 3600")
	if answer.Status != http.StatusOK {
		c.t.Fatalf("a token: %d %q", answer.Status, answer.Body)
	}
	password = "pA55word that the first replica accepted"
	if written := c.ask(first.address, 0, http.MethodPost, guestPath, password); written.Status != http.StatusOK {
		c.t.Fatalf("a password: %d %q", written.Status, written.Body)
	}
	return answer.Body, password
}

// isShared fails if a replica does not know the token or the password of the first.
func (c *cluster) isShared(token, password string) {
	c.t.Helper()
	for i, r := range c.replicas {
		header := "X-Aws-Ec2-Metadata-Token: " + token
		if answer := c.ask(r.address, 0, http.MethodGet, guestPath, "", header); answer.Status != http.StatusOK || answer.Body != password {
			c.t.Errorf("replica %d: %d %q", i, answer.Status, answer.Body)
		}
		if answer := c.ask(r.address, 1, http.MethodGet, metadataPath, "", header); reason(answer) != "session_invalid" {
			c.t.Errorf("replica %d takes another's token: %d %q", i, answer.Status, answer.Body)
		}
	}
}

// switches does what brings the next revision, and waits for it on every replica.
func (c *cluster) switches(what string, bring func()) everywhere {
	c.t.Helper()
	bring()
	took := c.eachReplica(c.t, "the revision decides", func(r *clusterReplica) bool {
		return c.status(r.address, userdataPath) == right(c.revision, userdataPath)
	})
	c.t.Logf("revision %d was %s: %.1f s", c.revision, what, took.Seconds())
	return everywhere{c.revision, time.Now()}
}

// replicaDies kills one replica, which the others stand in for, and starts it again.
func (c *cluster) replicaDies(load *clusterLoad, round int) {
	c.t.Helper()
	victim := c.replicas[round%len(c.replicas)]
	victim.kill()
	began := time.Now()
	victim.Eventually("the others serve", func() bool { return c.status(c.address, metadataPath) == http.StatusOK })
	c.t.Logf("a replica was killed, the balancer served again: %.2f s", time.Since(began).Seconds())
	load.goesOn(30)
	began = time.Now()
	victim.Run(victim.address)
	victim.Eventually("it serves", func() bool { return c.status(victim.address, metadataPath) == http.StatusOK })
	c.t.Logf("it was started again, and decided: %.2f s", time.Since(began).Seconds())
}

// redisDies takes Redis away: passwords are refused, and nothing else is.
func (c *cluster) redisDies(load *clusterLoad, what string, away, back func()) {
	c.t.Helper()
	away()
	for i, r := range c.replicas {
		if answer := c.ask(r.address, c.probe(), http.MethodPost, guestPath, "pA55word"); answer.Status != http.StatusServiceUnavailable || reason(answer) != "latch_unavailable" {
			c.t.Errorf("Redis is %s, a password to replica %d: %d %q", what, i, answer.Status, answer.Body)
		}
		if answer := c.ask(r.address, 0, http.MethodGet, guestPath, ""); answer.Status != http.StatusServiceUnavailable || reason(answer) != "latch_unavailable" {
			c.t.Errorf("Redis is %s, a password from replica %d: %d %q", what, i, answer.Status, answer.Body)
		}
		if status := c.status(r.address, metadataPath); status != http.StatusOK {
			c.t.Errorf("Redis is %s, replica %d: %d", what, i, status)
		}
	}
	load.goesOn(30)
	back()
	c.passwordsAreTaken("Redis was " + what + " and is back")
}

func (c *cluster) passwordsAreTaken(after string) {
	c.t.Helper()
	took := c.eachReplica(c.t, "passwords are taken", func(r *clusterReplica) bool {
		return c.ask(r.address, c.probe(), http.MethodPost, guestPath, "pA55word").Status == http.StatusOK
	})
	c.t.Logf("%s, passwords were taken by every replica: %.2f s", after, took.Seconds())
}

// redisIsSlow holds Redis's answers back: passwords take their time, and then,
// beyond what a replica waits for, are refused.
func (c *cluster) redisIsSlow(load *clusterLoad) {
	c.t.Helper()
	c.link.Delay(200 * time.Millisecond)
	c.passwordsAreTaken("Redis was 200 ms away")
	load.goesOn(30)
	c.link.Delay(10 * time.Second)
	began := time.Now()
	answer := c.ask(c.address, c.probe(), http.MethodPost, guestPath, "pA55word")
	if answer.Status != http.StatusServiceUnavailable || reason(answer) != "latch_unavailable" {
		c.t.Errorf("Redis is 10 s away: %d %q", answer.Status, answer.Body)
	}
	c.t.Logf("Redis was 10 s away, a password was refused: %.1f s", time.Since(began).Seconds())
	load.goesOn(30)
	c.link.Delay(0)
	c.passwordsAreTaken("Redis was 10 s away and is near")
}

// policiesDie kills the policy server. Replicas go on, one that starts anew
// decides by what it had, and a revision that is published meanwhile comes when
// the server is back.
func (c *cluster) policiesDie(load *clusterLoad, round int) everywhere {
	c.t.Helper()
	c.policies.kill()
	load.goesOn(30)
	victim := c.replicas[(round+1)%len(c.replicas)]
	victim.kill()
	began := time.Now()
	victim.Run(victim.address)
	if answer := c.ask(victim.address, c.probe(), http.MethodGet, userdataPath, ""); answer.Status != right(c.revision, userdataPath) {
		c.t.Errorf("a replica that started without the policy server: %d %q", answer.Status, answer.Body)
	}
	c.t.Logf("a replica started without the policy server, and decided: %.2f s", time.Since(began).Seconds())
	load.goesOn(30)
	c.publish()
	return c.switches("everywhere after the policy server was back", func() { c.policies.run(c.t) })
}

// replicaIsReplaced stops a replica as an upgrade would, and starts it again. What
// it has in memory is sent.
func (c *cluster) replicaIsReplaced(load *clusterLoad, round int) {
	c.t.Helper()
	victim := c.replicas[(round+2)%len(c.replicas)]
	before := load.broken()
	victim.Stop()
	victim.Run(victim.address)
	load.goesOn(30)
	c.t.Logf("a replica was stopped and started again: %d reads were broken off", load.broken()-before)
}

// balancerDies kills the balancer, which breaks every connection off.
func (c *cluster) balancerDies(load *clusterLoad) {
	c.t.Helper()
	began := time.Now()
	c.balancer.Kill()
	c.balancer.Run()
	c.replicas[0].Eventually("the balancer serves", func() bool { return c.status(c.address, metadataPath) == http.StatusOK })
	c.t.Logf("the balancer was killed and started again: %.2f s", time.Since(began).Seconds())
	load.goesOn(30)
}
