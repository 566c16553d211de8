// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
)

const passwordPath = "/openstack/2013-04-04/password"

// encrypted makes what cloudbase-init would write: one RSA result.
func encrypted() string {
	value := make([]byte, 256)
	_, _ = rand.Read(value)
	return base64.StdEncoding.EncodeToString(value)
}

// writing keeps tests from writing to one Nova at a time: its sqlite database
// would drop one of them.
var writing sync.Mutex

// TestPasswordLife writes passwords once, in every form that Nova can hold, and
// reads them back byte for byte, also when Metaguard was stopped or killed in
// between.
func TestPasswordLife(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			passwords := map[rune]string{
				lifeOf: encrypted(),
				'a':    "x",
				'b':    strings.Repeat("é\U0001f511ab", 1020/8) + "wxyz",
				'c':    "NUL \x00, CR LF \r\n, TAB \t, DEL \x7f, BOM \ufeff and blanks  \r\n",
				'd':    "<script>alert('&amp;{env.METAGUARD_NEUTRON_SECRET}')</script>",
			}
			granted := setup{grants: mayRead(lifeOf, 'a', 'b', 'c', 'd')}
			g := guardBefore(t, nova.address, granted)
			for digit, password := range passwords {
				g.hide(password, "second of "+string(digit))
				if got := get(t, g.address, passwordPath, digit); got.status != 200 || got.body != "" {
					t.Fatalf("before: %v", got)
				}
				write(t, g, digit, password)
				g.upstream.take(t)
				refusedOnce(t, g, digit, "second of "+string(digit))
				if got, rows := nova.stored(t, digit); got != password {
					t.Errorf("stored is %q, want %q", rows, password)
				}
			}
			g.Stop()
			g.run()
			refusedOnce(t, g, lifeOf, "after a restart")
			g.Kill()
			g.run()
			refusedOnce(t, g, 'a', "after a crash")

			for digit, password := range passwords {
				var got reply
				eventually(t, "Nova shows the new password", func() bool {
					got = get(t, g.address, passwordPath, digit)
					return got.status != 200 || got.body != ""
				})
				if got.status != 200 || got.body != password {
					t.Errorf("instance %c reads %v, want %q", digit, got, password)
				}
				for name, want := range map[string]string{
					"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
				} {
					if got.value(name) != want {
						t.Errorf("%s: %q, want %q", name, got.value(name), want)
					}
				}
				refusedOnce(t, g, digit, "much later")
			}

			// Nobody else reads it, though it is there; and a guard that has
			// not seen it written tells from Nova's answer that it is set.
			other := guardBefore(t, nova.address, setup{})
			if got := get(t, other.address, passwordPath, lifeOf); got.status != 200 || got.body != "" {
				t.Errorf("without a grant: %v", got)
			}
			if got := post(t, other.address, passwordPath, lifeOf, "of a stranger"); got.status != 409 {
				t.Errorf("%v, want Nova's 409", got)
			}
			if got, _ := nova.stored(t, lifeOf); got != passwords[lifeOf] {
				t.Errorf("stored is now %q", got)
			}
		})
	}
}

// write writes an instance's first password.
func write(t *testing.T, g *guard, digit rune, password string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	if got := post(t, g.address, passwordPath, digit, password); got.status != 200 || got.body != "" {
		t.Fatalf("writing %q: %v", password, got)
	}
}

// refusedOnce checks that another write gets 409 without Nova being asked.
func refusedOnce(t *testing.T, g *guard, digit rune, password string) {
	t.Helper()
	g.upstream.take(t)
	if got := post(t, g.address, passwordPath, digit, password); got.status != 409 || !strings.Contains(got.body, "password_already_set") {
		t.Errorf("a second write: %v, want 409", got)
	}
	for _, forwarded := range g.upstream.take(t) {
		t.Errorf("a second write went upstream: %v", forwarded)
	}
}

// TestOneOfManyWins lets writers race: Nova alone would say 200 to most.
func TestOneOfManyWins(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	g := guardBefore(t, nova.address, setup{})
	writing.Lock()
	defer writing.Unlock()
	replies := make([]reply, 12)
	var all sync.WaitGroup
	for n := range replies {
		all.Go(func() { replies[n] = post(t, g.address, passwordPath, restarted, "of racer "+string(rune('a'+n))) })
	}
	all.Wait()
	winners := map[string]bool{}
	for n, got := range replies {
		switch got.status {
		case 200:
			winners["of racer "+string(rune('a'+n))] = true
		case 409:
		default:
			t.Errorf("%v", got)
		}
	}
	got, _ := nova.stored(t, restarted)
	if len(winners) != 1 || !winners[got] {
		t.Errorf("told that they won: %v; stored is %q", winners, got)
	}
	if requests := g.upstream.take(t); len(requests) != 1 {
		t.Errorf("%d writes went upstream", len(requests))
	}
}

// TestChunkedWrite sends a password in chunks straight to Metaguard. Nova alone
// would fail, or store the framing with it.
func TestChunkedWrite(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			g := guardBefore(t, nova.address, setup{})
			password := encrypted()
			g.hide(password)
			writing.Lock()
			defer writing.Unlock()
			got := send(t, "", g.address, request("POST", passwordPath, append(signed(chunked),
				"Transfer-Encoding: chunked", "Trailer: X-Trailer"), nil),
				chunks(password)...)
			if got.status != 200 || got.body != "" {
				t.Fatalf("%v", got)
			}
			requests := g.upstream.take(t) // which has no chunks, or take would say so
			if len(requests) != 1 || requests[0].body != password || len(requests[0].values("Content-Length")) != 1 {
				t.Errorf("upstream saw %q", requests)
			}
			if got, rows := nova.stored(t, chunked); got != password {
				t.Errorf("stored is %q, want %q", rows, password)
			}
		})
	}
}

// TestPasswordThroughAgent is a machine's way: through Neutron's agent, which
// turns a chunked body into an empty one.
func TestPasswordThroughAgent(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	g := guardBefore(t, nova.address, setup{grants: mayRead(lifeOfAgent)})
	agent := agentBefore(t, g.address)
	ask := func(method string, header []string, body []byte, more ...[]byte) reply {
		t.Helper()
		return send(t, address(lifeOfAgent), agent.address, request(method, passwordPath, header, body), more...)
	}
	password := encrypted()
	g.hide(password)

	if got := ask("GET", nil, nil); got.status != 200 || got.body != "" {
		t.Errorf("before: %v", got)
	}
	g.upstream.take(t)
	if got := ask("POST", []string{"Transfer-Encoding: chunked"}, nil, chunks(password)...); got.status != 400 {
		t.Errorf("chunked: %v, want 400", got)
	}
	if got := ask("POST", nil, nil); got.status != 400 {
		t.Errorf("no length: %v, want 400", got)
	}
	for body, why := range map[string]string{"": "empty", strings.Repeat("x", 1021): "too large", "\xff\xfe latin": "not UTF-8"} {
		if got := ask("POST", nil, []byte(body)); got.status != 400 {
			t.Errorf("%s: %v, want 400", why, got)
		}
	}
	for _, forwarded := range g.upstream.take(t) {
		t.Errorf("went upstream: %v", forwarded)
	}
	if _, rows := nova.stored(t, lifeOfAgent); len(rows) != 0 {
		t.Errorf("stored is %q", rows)
	}

	writing.Lock()
	got := ask("POST", nil, []byte(password))
	writing.Unlock()
	if got.status != 200 {
		t.Fatalf("%v", got)
	}
	if got := ask("POST", nil, []byte("another")); got.status != 409 {
		t.Errorf("a second write: %v", got)
	}
	if requests := g.upstream.take(t); len(requests) != 1 {
		t.Errorf("%d writes went upstream", len(requests))
	}
	eventually(t, "Nova shows the new password", func() bool { got = ask("GET", nil, nil); return got.body != "" })
	if got.status != 200 || got.body != password {
		t.Errorf("read: %v", got)
	}
	if text, _ := nova.stored(t, lifeOfAgent); text != password {
		t.Errorf("stored is %q", text)
	}
}

// TestJoinedKeys reads, with a grant, what Nova joined of keys that only begin
// like a password's: it never passes.
func TestJoinedKeys(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	if got := get(t, nova.address, passwordPath, withExtras); !strings.Contains(got.body, "[evil]") {
		t.Fatalf("Nova alone: %v", got)
	}
	g := guardBefore(t, nova.address, setup{grants: mayRead(withExtras)})
	if got := get(t, g.address, passwordPath, withExtras); got.status != 500 || !strings.Contains(got.body, "password_unverified") {
		t.Errorf("%v, want 500, which is 502 for an agent", got)
	}
}
