// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// twoGuards are two replicas on one latch with one key of fingerprints.
func twoGuards(t *testing.T, nova *server, with setup) [2]*guard {
	t.Helper()
	shared := t.TempDir()
	with.latch = filepath.Join(shared, "latch")
	key := filepath.Join(shared, "fingerprint.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	with.password = "fingerprint_key {file." + key + "}"
	var guards [2]*guard
	for n := range guards {
		guards[n] = guardBefore(t, nova.address, with)
	}
	return guards
}

// TestFlippingCaches writes through two replicas to a Nova of eight processes,
// each of which says for 15 s what it knew before: alone it would accept another
// password from every one of them.
func TestFlippingCaches(t *testing.T) {
	t.Parallel()
	need(t)
	nova := manyNovas.get(t)
	guards := twoGuards(t, nova, setup{grants: mayRead(lifeOf)})
	for range 40 { // so that every process has cached that there is none
		if got := get(t, nova.address, passwordPath, lifeOf); got.status != 200 || got.body != "" {
			t.Fatalf("%v", got)
		}
	}
	var first string
	replies := make([]reply, 16)
	bodies := make([]string, len(replies))
	var all sync.WaitGroup
	writing.Lock()
	for n := range replies {
		bodies[n] = encrypted()
		guards[n%2].hide(bodies[n])
		all.Go(func() { replies[n] = post(t, guards[n%2].address, passwordPath, lifeOf, bodies[n]) })
	}
	all.Wait()
	writing.Unlock()
	for n, got := range replies {
		switch {
		case got.status == 200 && first == "":
			first = bodies[n]
		case got.status != 409 && !busy(got):
			t.Errorf("writer %d: %v", n, got)
		}
	}
	if first == "" {
		t.Fatal("nobody won")
	}
	// Until every process has noticed: reads flip between nothing and the one
	// password, and nobody else's write goes through.
	reads := map[string]int{}
	writes := 0
	for last := 0; last < 40; writes++ { // as many in a row as make it certain that all have
		for _, g := range guards {
			got := get(t, g.address, passwordPath, lifeOf)
			if busy(got) {
				continue
			}
			if got.status != 200 || (got.body != "" && got.body != first) {
				t.Fatalf("read %v", got)
			}
			reads[got.body]++
			if last++; got.body == "" {
				last = 0
			}
			if got := post(t, g.address, passwordPath, lifeOf, "of a later writer"); got.status != 409 && !busy(got) {
				t.Fatalf("a later write: %v", got)
			}
		}
		if writes > 2000 {
			t.Fatal("the caches do not come to an end")
		}
	}
	t.Logf("%d reads found nothing yet, %d the password; %d later writes were refused", reads[""], reads[first], 2*writes)
	if reads[""] == 0 {
		t.Error("no cache said otherwise: the test shows nothing")
	}
	if got, rows := nova.stored(t, lifeOf); got != first {
		t.Errorf("stored is %q, want %q", rows, first)
	}
	if sent := len(posts(t, guards[0])) + len(posts(t, guards[1])); sent != 1 {
		t.Errorf("%d writes went upstream", sent)
	}
}

// busy tells whether the machine was too slow for a decision, which is a refusal.
func busy(got reply) bool { return got.status == 500 && strings.Contains(got.body, "policy_timeout") }

// posts are the writes that a guard has forwarded since it was last asked.
func posts(t *testing.T, g *guard) (found []sent) {
	t.Helper()
	for _, request := range g.upstream.take(t) {
		if request.method == "POST" {
			found = append(found, request)
		}
	}
	return found
}

// TestRebuild clears Nova's rows, as a rebuild does. The new first write works
// when the window has passed, and at once after a reset.
func TestRebuild(t *testing.T) {
	t.Parallel()
	need(t)
	nova := manyNovas.get(t)
	admin := harness.NewAdmin(t)
	g := guardBefore(t, nova.address, setup{grants: mayRead(chunked, restarted), admin: admin.Listen, password: "write_once 20s"})
	old := map[rune]string{chunked: encrypted(), restarted: encrypted()}
	for digit, password := range old {
		g.hide(password)
		write(t, g, digit, password)
		writing.Lock()
		nova.clear(t, digit)
		writing.Unlock()
	}
	written := time.Now()
	g.upstream.take(t)

	refusedOnce(t, g, chunked, "too early")
	if output, err := g.Command("password", "reset", instanceID(chunked), "--address", admin.Address); err != nil {
		t.Fatalf("%v %s", err, output)
	}
	again := map[rune]string{chunked: encrypted(), restarted: encrypted()}
	write(t, g, chunked, again[chunked])
	if passed := time.Since(written); passed > 15*time.Second {
		t.Logf("the machine is slow: %s", passed)
	}

	g.hide(again[restarted])
	var got reply
	eventually(t, "the window ends", func() bool {
		writing.Lock()
		defer writing.Unlock()
		got = post(t, g.address, passwordPath, restarted, again[restarted])
		return got.status != 409
	})
	if passed := time.Since(written); got.status != 200 || passed < 15*time.Second {
		t.Errorf("after %s: %v", passed, got)
	}
	for digit, password := range again {
		if got, rows := nova.stored(t, digit); got != password {
			t.Errorf("stored is %q, want %q", rows, password)
		}
		eventually(t, "Nova shows the new password", func() bool {
			got = get(t, g.address, passwordPath, digit)
			return got.status != 200 || got.body != ""
		})
		if got.status != 200 || got.body != password {
			t.Errorf("read back: %v", got)
		}
	}
}
