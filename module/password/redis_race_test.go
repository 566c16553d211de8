// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

// redisReplicas are latches of one Redis, each with a client of its own.
func redisReplicas(tb testing.TB, n int, url func(i int) string) []Latch {
	tb.Helper()
	latches := make([]Latch, n)
	for i := range latches {
		latches[i] = newRedisLatch(tb, url(i))
	}
	return latches
}

func TestRedisRacingWriters(t *testing.T) {
	server := harness.StartRedis(t)
	raceKeepers(t, redisReplicas(t, 4, func(i int) string { return redisURL(server, fmt.Sprint("client_name=r", i)) }), 200)
}

// TestRedisRacingOverLostAnswers: while connections are cut in all places, no
// instance is won twice.
func TestRedisRacingOverLostAnswers(t *testing.T) {
	const instances, writers = 100, 8
	server := harness.StartRedis(t)
	var cut atomic.Int32
	latches := redisReplicas(t, 4, func(int) string {
		proxy := newRedisProxy(t, server)
		proxy.set(func(sent string) bool {
			lose := strings.Contains(sent, swapScript.Hash()) && rand.IntN(3) == 0
			if lose {
				cut.Add(1)
			}
			return lose
		}, nil)
		return "redis://" + proxy.address + "?pool_size=8"
	})
	clock := newClock()
	var won, unknown [instances]atomic.Int32
	var all sync.WaitGroup
	for i := range instances {
		for w := range writers {
			keeper := newKeeper(t, latches[w%len(latches)], clock)
			all.Go(func() {
				_, refusal := keeper.Reserve(context.Background(), fmt.Sprint("instance ", i), fmt.Append(nil, w))
				switch {
				case refusal == nil:
					won[i].Add(1)
				case refusal.Reason == decision.LatchUnavailable:
					unknown[i].Add(1)
				}
			})
		}
	}
	all.Wait()
	if cut.Load() < instances/4 {
		t.Errorf("only %d answers were lost", cut.Load())
	}
	nobody := 0
	for i := range won {
		if n := won[i].Load(); n > 1 {
			t.Errorf("instance %d was won %d times", i, n)
		} else if n == 0 {
			nobody++
		}
	}
	// A winner that lost every answer does not know that it won.
	if nobody > instances/4 {
		t.Errorf("nobody won %d instances", nobody)
	}
}

// latchContract drives two latches on one store through any order of calls and
// holds them against a register: a swap succeeds from the version that is
// stored and from no other, also not from one of long ago.
func latchContract(t *testing.T, latches []Latch, keys func(name string) Key) {
	var run atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		type cell struct {
			key    Key
			record Record
			is     Version
			was    []Version
		}
		n := run.Add(1)
		cells := []*cell{{key: keys(fmt.Sprint("one ", n)), was: []Version{""}}, {key: keys(fmt.Sprint("two ", n)), was: []Version{""}}}
		base := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
		prints, err := newPrinter([]decision.Secret{firstKey})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[Version]bool{"": true}
		draw := func() (*cell, Latch) {
			return rapid.SampledFrom(cells).Draw(t, "key"), rapid.SampledFrom(latches).Draw(t, "latch")
		}
		load := func(c *cell, latch Latch) (Record, Version) {
			record, version, err := latch.Load(context.Background(), c.key)
			if err != nil {
				t.Fatal(err)
			}
			return record, version
		}
		swap := func(c *cell, latch Latch, old Version) {
			term := terms{once: testOnce, timeout: testTimeout}
			candidate := prints.sign(c.key, []byte(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "password")))
			next := c.record.reserved(base, term, newToken(), candidate)
			if rapid.Bool().Draw(t, "settled") {
				next = next.settled(base, term, Accepted)
			}
			version, err := latch.Swap(context.Background(), c.key, old, next)
			if old != c.is {
				if !errors.Is(err, ErrConflict) {
					t.Fatalf("a swap from %q, while %q is stored, got %v", old, c.is, err)
				}
				return
			}
			if err != nil || seen[version] {
				t.Fatalf("a swap from the stored version got %q, %v", version, err)
			}
			seen[version] = true
			c.record, c.is, c.was = next, version, append(c.was, version)
		}
		t.Repeat(map[string]func(*rapid.T){
			"swap": func(*rapid.T) { c, latch := draw(); swap(c, latch, c.is) },
			"swap an old one": func(t *rapid.T) {
				c, latch := draw()
				swap(c, latch, rapid.SampledFrom(c.was).Draw(t, "version"))
			},
			"swap another's": func(*rapid.T) {
				_, latch := draw()
				if cells[0].is != "" && cells[0].is != cells[1].is {
					swap(cells[1], latch, cells[0].is)
				}
			},
			"reset": func(*rapid.T) {
				c, latch := draw()
				if err := latch.Reset(context.Background(), c.key); err != nil {
					t.Fatal(err)
				}
				record, version := load(c, latch)
				if record.held(base) || len(record.prints()) > 0 || (version == "") != (c.is == "") || (version != "" && seen[version]) {
					t.Fatalf("after a reset of %q: %q %+v", c.is, version, record)
				}
				if version != "" {
					seen[version] = true
					c.was = append(c.was, version)
				}
				c.record, c.is = record, version
			},
			"": func(*rapid.T) {
				for _, c := range cells {
					for _, latch := range latches {
						record, version := load(c, latch)
						if version != c.is || fmt.Sprint(record) != fmt.Sprint(c.record) {
							t.Fatalf("loaded %q %+v, want %q %+v", version, record, c.is, c.record)
						}
					}
				}
			},
		})
	})
}

func TestRedisContract(t *testing.T) {
	server := harness.StartRedis(t, "--appendonly", "no") // this is about states, not disks
	latches := redisReplicas(t, 2, func(i int) string { return redisURL(server, fmt.Sprint("client_name=r", i)) })
	latchContract(t, latches, func(name string) Key { return mustKey(t, name) })
}

// BenchmarkRedisReserveSettle is one password write with Redis on this machine:
// with every write synced to disk, and with none.
func BenchmarkRedisReserveSettle(b *testing.B) {
	for _, fsync := range []string{"always", "everysec"} {
		server := harness.StartRedis(b, "--appendfsync", fsync)
		for _, parallel := range []bool{false, true} {
			b.Run(fmt.Sprintf("fsync=%s/parallel=%t", fsync, parallel), func(b *testing.B) {
				keeper := newKeeper(b, newRedisLatch(b, redisURL(server)), newClock())
				var count atomic.Int64
				run := rand.Int64()
				one := func() {
					reservation, refusal := keeper.Reserve(context.Background(), fmt.Sprint(run, count.Add(1)), []byte("correct horse battery staple"))
					if refusal != nil {
						b.Fatal(refusal)
					}
					if refusal := reservation.Settle(Accepted); refusal != nil {
						b.Fatal(refusal)
					}
				}
				if !parallel {
					for b.Loop() {
						one()
					}
					return
				}
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
	}
}

// BenchmarkRedisCheckRead is a password answer that matches its fingerprint.
func BenchmarkRedisCheckRead(b *testing.B) {
	keeper := newKeeper(b, newRedisLatch(b, redisURL(harness.StartRedis(b))), newClock())
	body := []byte("correct horse battery staple")
	if _, refusal := keeper.Reserve(context.Background(), "instance", body); refusal != nil {
		b.Fatal(refusal)
	}
	for b.Loop() {
		if refusal := keeper.CheckRead(context.Background(), "instance", body); refusal != nil {
			b.Fatal(refusal)
		}
	}
}
