// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"slices"
	"strings"
	"testing"
)

// agentPasses are the statuses that Neutron's agent passes on. Whoever calls
// from the loopback address may be such an agent, so there are no others.
var agentPasses = []int{200, 400, 403, 404, 409, 500}

// TestNobodyReachesThePassword asks with every spelling under the built-in
// policy: no GET reaches the password handler, signed or not.
func TestNobodyReachesThePassword(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := guardBefore(t, novaUnder(t, kind).address, setup{})
			left := patience(50)
			for _, target := range spellings(t, 2000) {
				left.check(t)
				want := read(target)
				got := get(t, g.address, target, withPassword)
				checkAnswer(t, "GET", target, want, got)
				if want.password && (got.status != 200 || got.body != "") {
					t.Errorf("GET %q: %v, want it answered as empty", target, got)
				}
				for _, forwarded := range g.upstream.take(t) {
					if want.password || forwarded.target != want.path || forwarded.method != "GET" {
						t.Errorf("GET %q went upstream as %s %q", target, forwarded.method, forwarded.target)
					}
				}
				for _, method := range []string{"GET", "POST"} {
					var body []byte
					if method == "POST" {
						body = []byte("unsigned")
					}
					got := send(t, "", g.address, request(method, target, nil, body))
					checkAnswer(t, method, target, want, got)
					if want.path != "" && got.status != 403 {
						t.Errorf("unsigned %s %q: %v, want 403", method, target, got)
					}
					for _, forwarded := range g.upstream.take(t) {
						t.Errorf("unsigned %s %q went upstream as %s %q", method, target, forwarded.method, forwarded.target)
					}
				}
			}
		})
	}
}

// TestGrantedSpellings asks with every spelling where a grant allows it: one
// reaches the password handler exactly when it canonicalises to it.
func TestGrantedSpellings(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := guardBefore(t, novaUnder(t, kind).address, setup{
				grants:   mayRead(withPassword),
				password: "write_once off", // so that each POST goes as far as Nova's own 409
			})
			left := patience(50)
			for _, target := range spellings(t, 2000) {
				left.check(t)
				want := read(target)
				got := get(t, g.address, target, withPassword)
				checkAnswer(t, "GET", target, want, got)
				if want.password && (got.status != 200 || got.body != passwordOf2) {
					t.Errorf("GET %q: %v, want the password", target, got)
				}
				checkForwarded(t, g, "GET", target, want)
				got = post(t, g.address, target, withPassword, "another password")
				checkAnswer(t, "POST", target, want, got)
				if want.password && got.status != 409 || !want.password && got.status != 400 {
					t.Errorf("POST %q: %v, want 409 from the password handler or 400", target, got)
				}
				checkForwarded(t, g, "POST", target, want)
			}
			g.hide("another password")
		})
	}
}

// checkAnswer checks what holds for every answer: refused is 400, nothing
// leaks, and the agent can pass it on.
func checkAnswer(t *testing.T, method, target string, want reading, got reply) {
	t.Helper()
	switch {
	case got.err != nil || !slices.Contains(agentPasses, got.status):
		t.Errorf("%s %q: %v", method, target, got)
	case want.path == "" && got.status != 400:
		t.Errorf("%s %q: %v, want 400", method, target, got)
	case want.path == "" && got.value("X-Metaguard-Decision") != "" && !strings.Contains(got.body, "request_ambiguous"):
		t.Errorf("%s %q: %v, want request_ambiguous", method, target, got)
	case want.path != "" && got.status == 500:
		t.Errorf("%s %q: %v", method, target, got)
	case !want.password && got.what() == "PASSWORD":
		t.Errorf("%s %q gave the password", method, target)
	}
}

// checkForwarded checks that upstream saw the canonical path, once, or nothing.
func checkForwarded(t *testing.T, g *guard, method, target string, want reading) {
	t.Helper()
	requests := g.upstream.take(t)
	if want.password && len(requests) != 1 {
		t.Errorf("%s %q reached the password handler %d times", method, target, len(requests))
	}
	for _, forwarded := range requests {
		if want.path == "" || forwarded.target != want.path || forwarded.method != method || method == "POST" && !want.password {
			t.Errorf("%s %q went upstream as %s %q", method, target, forwarded.method, forwarded.target)
		}
	}
}

// TestSpellingsThroughAgent asks through Neutron's haproxy and agent, which
// decode and encode a path before Metaguard sees it: what holds is the target
// that the agent sends.
func TestSpellingsThroughAgent(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	builtIn := guardBefore(t, nova.address, setup{})
	granted := guardBefore(t, nova.address, setup{grants: mayRead(withPassword), password: "write_once off"})
	granted.hide("another password")
	agent := agentBefore(t, builtIn.address)
	all := spellings(t, 2000)

	t.Run("built-in policy", func(t *testing.T) {
		left := patience(50)
		for _, target := range all {
			left.check(t)
			got := send(t, address(withPassword), agent.address, request("GET", target, nil, nil))
			want, asked := agentSent(t, agent, "GET", target, got)
			if asked && want.password && (got.status != 200 || got.body != "") {
				t.Errorf("GET %q: %v, want it answered as empty", target, got)
			}
			for _, forwarded := range builtIn.upstream.take(t) {
				if want.password || forwarded.target != want.path {
					t.Errorf("GET %q went upstream as %s %q", target, forwarded.method, forwarded.target)
				}
			}
		}
	})
	agent.tap.pointTo(granted.address)
	t.Run("granted", func(t *testing.T) {
		left := patience(50)
		for _, target := range all[:len(all)-1000] {
			left.check(t)
			got := send(t, address(withPassword), agent.address, request("GET", target, nil, nil))
			want, asked := agentSent(t, agent, "GET", target, got)
			if asked && want.password && got.body != passwordOf2 {
				t.Errorf("GET %q: %v, want the password", target, got)
			}
			granted.upstream.take(t)
			got = send(t, address(withPassword), agent.address, request("POST", target, nil, []byte("another password")))
			want, asked = agentSent(t, agent, "POST", target, got)
			if asked && (want.password && got.status != 409 || !want.password && got.status != 400) {
				t.Errorf("POST %q: %v, want 409 from the password handler or 400", target, got)
			}
			if asked {
				checkForwarded(t, granted, "POST", target, want)
			}
		}
	})
}

// agentSent tells how the target must be read that the agent sent, if it sent
// one, and checks the answer that it gave.
func agentSent(t *testing.T, a *agent, method, target string, got reply) (want reading, asked bool) {
	t.Helper()
	requests := a.tap.take(t)
	for n, r := range requests {
		if again := read(r.target); n > 0 && again != want {
			t.Errorf("%s %q was sent as %q and %q", method, target, requests[0].target, r.target)
		}
		want = read(r.target)
	}
	switch {
	case got.closed() || !slices.Contains(agentPasses, got.status):
		t.Errorf("%s %q: %v", method, target, got)
	case len(requests) == 0 && got.what() == "PASSWORD":
		t.Errorf("%s %q gave the password, past Metaguard", method, target)
	case len(requests) > 0:
		if want.path == "" && got.status != 400 {
			t.Errorf("%s %q was sent as %q: %v, want 400", method, target, requests[0].target, got)
		}
		if want.path != "" && got.status == 500 {
			t.Errorf("%s %q was sent as %q: %v", method, target, requests[0].target, got)
		}
		if !want.password && got.what() == "PASSWORD" {
			t.Errorf("%s %q was sent as %q and gave the password", method, target, requests[0].target)
		}
		if method == "POST" && len(requests) > 1 {
			t.Errorf("POST %q was sent %d times: %v", target, len(requests), got)
		}
	}
	return want, len(requests) > 0
}
