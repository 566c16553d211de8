// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/redis/go-redis/v9"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

func TestRedisCaddyfile(t *testing.T) {
	for name, test := range map[string]struct{ input, want, err string }{
		"a variable":     {"redis {env.REDIS_URL}", `{"url":"{env.REDIS_URL}"}`, ""},
		"a file":         {"redis {file./run/secrets/redis}", `{"url":"{file./run/secrets/redis}"}`, ""},
		"an empty block": {"redis {env.A} {\n}\n", `{"url":"{env.A}"}`, ""},
		"nothing":        {"redis", "", "needs the placeholder of a URL"},
		"empty":          {`redis ""`, "", "would stand in the running configuration"},
		"a literal":      {"redis redis://:" + plantedPassword + "@h", "", "would stand in the running configuration"},
		"within text":    {"redis redis://{env.HOST}", "", "would stand in the running configuration"},
		"two in one":     {"redis {env.A}{env.B}", "", "alone and with nothing around it"},
		"another kind":   {"redis {http.request.host}", "", "other placeholders are not allowed"},
		"both kinds":     {"redis {env.file.X}", "", "other placeholders are not allowed"},
		"no name":        {"redis {env.}", "", "alone and with nothing around it"},
		"two":            {"redis {env.A} {env.B}", "", "takes one placeholder"},
		"a block":        {"redis {env.A} {\n db 1\n}", "", "no settings"},
	} {
		t.Run(name, func(t *testing.T) {
			latch := new(RedisLatch)
			err := latch.UnmarshalCaddyfile(caddyfile.NewTestDispenser(test.input))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), "Testfile:") {
					t.Fatalf("got %v, want %q", err, test.err)
				}
				if strings.Contains(err.Error(), plantedPassword) {
					t.Errorf("the error quotes the URL: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(latch); err != nil || string(got) != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

// TestRedisProvision: Provision checks the URL and starts nothing; a failed one
// holds nothing.
func TestRedisProvision(t *testing.T) {
	if _, err := caddy.GetModule("metaguard.latches.redis"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("redis://:"+plantedPassword+"@192.0.2.1:6379/3?min_idle_conns=4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ placeholder, err string }{
		"a file":         {"{file." + file + "}", ""},
		"a variable":     {redisVariable(t, " rediss://192.0.2.1 \n"), ""},
		"nothing":        {"", "is required"},
		"a literal":      {"redis://:" + plantedPassword + "@h", "would stand in the running configuration"},
		"an unset one":   {"{env.METAGUARD_TEST_UNSET}", "METAGUARD_TEST_UNSET"},
		"an empty one":   {redisVariable(t, " "), "is empty"},
		"a missing file": {"{file." + file + ".missing}", "cannot be read"},
		"no URL":         {redisVariable(t, "redis://:"+plantedPassword), "it is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			latch := &RedisLatch{URL: test.placeholder}
			err := latch.Provision(caddy.Context{})
			if n := runtime.NumGoroutine(); n > goroutines {
				t.Errorf("%d goroutines more", n-goroutines)
			}
			if test.err == "" && err != nil {
				t.Error(err)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			if err != nil && strings.Contains(err.Error(), plantedPassword) {
				t.Errorf("the error quotes the URL: %v", err)
			}
			for range 3 {
				if err := latch.Cleanup(); err != nil {
					t.Error(err)
				}
			}
			if n := holders(latch); n != 0 {
				t.Errorf("%d references after Cleanup", n)
			}
		})
	}
}

// TestRedisCleanup: each latch gives up its own reference, once, and the client
// is closed after its last user.
func TestRedisCleanup(t *testing.T) {
	server := harness.StartRedis(t)
	key := mustKey(t, instance)
	first, second := newRedisLatch(t, redisURL(server)), newRedisLatch(t, redisURL(server))
	if n := holders(first); n != 2 {
		t.Fatalf("%d references", n)
	}
	if _, err := first.Swap(context.Background(), key, "", sampleRecords(t)["pending"]); err != nil {
		t.Fatal(err)
	}
	pooled, err := first.acquire()
	if err != nil {
		t.Fatal(err)
	}
	client := pooled.client
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := first.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if n := holders(second); n != 1 {
		t.Fatalf("%d references", n)
	}
	if err := client.Ping(context.Background()).Err(); err != nil {
		t.Errorf("the client of the second latch: %v", err)
	}
	if err := second.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(context.Background()).Err(); err == nil {
		t.Error("the client is open after its last user")
	}
	// Requests still run while the old configuration is cleaned up.
	if _, version := loadState(t, first, key); version == "" {
		t.Error("nothing is loaded after Cleanup")
	}
	eventually(t, "that one's client is gone, too", func() bool { return holders(first) == 0 })
}

// TestRedisInFlight: a call that is under way when the last latch is cleaned up
// ends as if nothing had happened.
func TestRedisInFlight(t *testing.T) {
	proxy := newRedisProxy(t, harness.StartRedis(t))
	latch := newRedisLatch(t, "redis://"+proxy.address)
	key := mustKey(t, instance)
	loadState(t, latch, key)
	asked, hold := make(chan struct{}, 9), make(chan struct{})
	proxy.set(func(string) bool { asked <- struct{}{}; return false }, hold)
	swapped := make(chan error, 1)
	go func() {
		_, err := latch.Swap(context.Background(), key, "", sampleRecords(t)["pending"])
		swapped <- err
	}()
	<-asked
	if err := latch.Cleanup(); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if err := <-swapped; err != nil {
		t.Errorf("got %v", err)
	}
	eventually(t, "the client is closed", func() bool { return holders(latch) == 0 })
}

// TestRedisRecords: what is under a key that is no record never counts as free,
// and a reset replaces it.
func TestRedisRecords(t *testing.T) {
	server := harness.StartRedis(t)
	client := redisClient(t, server)
	ctx := context.Background()
	key := mustKey(t, instance)
	name := redisPrefix + key.Name()
	for what, spoil := range map[string]func() error{
		"an empty value": func() error { return client.Set(ctx, name, "", 0).Err() },
		"text":           func() error { return client.Set(ctx, name, "free", 0).Err() },
		"a cut record":   func() error { return client.SetRange(ctx, name, 100, "\x00").Err() },
		"a longer one":   func() error { return client.Append(ctx, name, "\n").Err() },
		"a huge one":     func() error { return client.SetRange(ctx, name, 8<<20, "x").Err() },
		"a list":         func() error { return errors.Join(client.Del(ctx, name).Err(), client.RPush(ctx, name, "x").Err()) },
		"another instance's": func() error {
			data, err := EncodeRecord(mustKey(t, "another"), sampleRecords(t)["free"])
			return errors.Join(err, client.Set(ctx, name, data, 0).Err())
		},
	} {
		t.Run(what, func(t *testing.T) {
			latch, clock := newRedisLatch(t, redisURL(server)), newClock()
			keeper := newKeeper(t, latch, clock)
			write(t, keeper, clock, "first", Accepted)
			_, version := loadState(t, latch, key)
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			_, refusal := keeper.Reserve(ctx, instance, []byte("second"))
			wantRefusal(t, refusal, decision.LatchUnavailable, "latch_corrupt")
			wantRefusal(t, keeper.CheckRead(ctx, instance, []byte("first")), decision.LatchUnavailable, "latch_corrupt")
			for _, old := range []Version{"", version} {
				_, err := latch.Swap(ctx, key, old, sampleRecords(t)["pending"])
				if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrCorrupt) {
					t.Errorf("a swap got %v", err)
				}
			}
			if _, err := keeper.Reset(ctx, instance); err != nil {
				t.Fatal(err)
			}
			if _, err := latch.Swap(ctx, key, version, sampleRecords(t)["pending"]); !errors.Is(err, ErrConflict) {
				t.Errorf("a swap from before the reset got %v", err)
			}
			write(t, keeper, clock, "second", Accepted)
			if err := client.Del(ctx, name).Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRedisHuge: a foreign value does not fill the memory.
func TestRedisHuge(t *testing.T) {
	server := harness.StartRedis(t, "--appendonly", "no")
	key := mustKey(t, instance)
	if err := redisClient(t, server).SetRange(context.Background(), redisPrefix+key.Name(), 64<<20, "x").Err(); err != nil {
		t.Fatal(err)
	}
	latch := newRedisLatch(t, redisURL(server))
	loadState(t, latch, mustKey(t, "another"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := latch.Load(context.Background(), key)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrCorrupt) || after.TotalAlloc-before.TotalAlloc > 8<<20 {
		t.Errorf("%v, %d bytes", err, after.TotalAlloc-before.TotalAlloc)
	}
}

// TestRedisStores: one key per instance, without an expiry, and nothing after a
// reset of what is not there.
func TestRedisStores(t *testing.T) {
	server := harness.StartRedis(t)
	client := redisClient(t, server)
	ctx := context.Background()
	latch, clock := newRedisLatch(t, redisURL(server)), newClock()
	keeper := newKeeper(t, latch, clock)
	if _, err := keeper.Reset(ctx, "nobody"); err != nil {
		t.Fatal(err)
	}
	if _, version := loadState(t, latch, mustKey(t, "nobody")); version != "" {
		t.Errorf("a reset made version %q", version)
	}
	write(t, keeper, clock, plantedPassword, Accepted)
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil || len(keys) != 1 || keys[0] != "metaguard:latch:"+mustKey(t, instance).Name() {
		t.Fatalf("keys %q, %v", keys, err)
	}
	if ttl, err := client.TTL(ctx, keys[0]).Result(); err != nil || ttl != -1 {
		t.Errorf("expires in %v, %v", ttl, err)
	}
	if value, err := client.Get(ctx, keys[0]).Result(); err != nil || strings.Contains(value, plantedPassword) {
		t.Errorf("stored is %s, %v", value, err)
	}
	// What was answered outlasts a crash.
	_, version := loadState(t, latch, mustKey(t, instance))
	server.Kill()
	server.Run()
	if _, now := loadState(t, latch, mustKey(t, instance)); now != version {
		t.Errorf("after a crash the record is %q, not %q", now, version)
	}
}

// TestRedisLostAnswers: a swap whose answer is lost is sent again and counts
// once, whether it had been done or not.
func TestRedisLostAnswers(t *testing.T) {
	server := harness.StartRedis(t)
	for _, old := range []string{"nothing before", "a record before"} {
		for _, lose := range []int{1, 2} {
			t.Run(fmt.Sprint(old, ", lost ", lose), func(t *testing.T) {
				proxy := newRedisProxy(t, server)
				latch := newRedisLatch(t, "redis://"+proxy.address)
				key := mustKey(t, fmt.Sprint(old, lose))
				var version Version
				var err error
				if old == "a record before" {
					if version, err = latch.Swap(context.Background(), key, "", sampleRecords(t)["free"]); err != nil {
						t.Fatal(err)
					}
				}
				loadState(t, latch, key) // both scripts are known now, and a connection is there
				var lost atomic.Int32
				proxy.set(func(sent string) bool {
					return strings.Contains(sent, swapScript.Hash()) && int(lost.Add(1)) <= lose
				}, nil)
				made, err := latch.Swap(context.Background(), key, version, sampleRecords(t)["pending"])
				if err != nil {
					t.Fatalf("got %v after %d tries", err, lost.Load())
				}
				if n := int(lost.Load()); n <= lose {
					t.Fatalf("sent %d times", n)
				}
				if _, stored := loadState(t, latch, key); stored != made {
					t.Errorf("stored is %q, not %q", stored, made)
				}
			})
		}
	}
	t.Run("another writer came between", func(t *testing.T) {
		proxy := newRedisProxy(t, server)
		latch, other := newRedisLatch(t, "redis://"+proxy.address), newRedisLatch(t, redisURL(server))
		key := mustKey(t, "between")
		if _, err := latch.Swap(context.Background(), key, "", sampleRecords(t)["free"]); err != nil {
			t.Fatal(err)
		}
		_, version := loadState(t, latch, key)
		var once atomic.Bool
		proxy.set(func(sent string) bool {
			return strings.Contains(sent, swapScript.Hash()) && once.CompareAndSwap(false, true)
		}, nil)
		proxy.mu.Lock()
		first := proxy.swallow
		proxy.swallow = func(sent string) bool {
			if once.Load() { // the second try: the record has been reset meanwhile
				if err := other.Reset(context.Background(), key); err != nil {
					t.Error(err)
				}
			}
			return first(sent)
		}
		proxy.mu.Unlock()
		if _, err := latch.Swap(context.Background(), key, version, sampleRecords(t)["pending"]); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRedisHangs: a Redis that says nothing holds a call up no longer than its
// context, whether it has a deadline or is cancelled.
func TestRedisHangs(t *testing.T) {
	ctxFor := map[string]func() (context.Context, context.CancelFunc){
		"a deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 300*time.Millisecond)
		},
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		},
		"over before": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		},
	}
	key := mustKey(t, instance)
	for name, context := range ctxFor {
		t.Run(name, func(t *testing.T) {
			latch := newRedisLatch(t, "redis://:"+plantedPassword+"@"+silentListener(t))
			for what, call := range map[string]func() error{
				"load": func() error { ctx, cancel := context(); defer cancel(); _, _, err := latch.Load(ctx, key); return err },
				"swap": func() error {
					ctx, cancel := context()
					defer cancel()
					_, err := latch.Swap(ctx, key, "", sampleRecords(t)["free"])
					return err
				},
				"reset": func() error { ctx, cancel := context(); defer cancel(); return latch.Reset(ctx, key) },
			} {
				began := time.Now()
				err := call()
				if took := time.Since(began); err == nil || took > 2*time.Second {
					t.Errorf("%s: %v after %s", what, err, took)
				}
				if refusal := unavailable(err); refusal.Code != "latch_timeout" {
					t.Errorf("%s: %v", what, refusal)
				}
				if strings.Contains(err.Error(), plantedPassword) {
					t.Errorf("the error quotes the URL: %v", err)
				}
			}
			eventually(t, "all calls are over", func() bool { return holders(latch) == 1 })
		})
	}
}

// TestRedisStops: a Redis that is stopped in the middle, gone and back again.
func TestRedisStops(t *testing.T) {
	server := harness.StartRedis(t)
	latch, clock := newRedisLatch(t, "redis://"+server.Address+"?read_timeout=200ms&max_retries=-1"), newClock()
	keeper := newKeeper(t, latch, clock)
	write(t, keeper, clock, "first", Accepted)
	server.Signal(syscall.SIGSTOP)
	_, refusal := keeper.Reserve(context.Background(), "other", []byte("x"))
	wantRefusal(t, refusal, decision.LatchUnavailable, "latch_timeout")
	server.Signal(syscall.SIGCONT)
	eventually(t, "it goes on", func() bool {
		return keeper.CheckRead(context.Background(), instance, []byte("first")) == nil
	})
	server.Kill()
	began := time.Now()
	_, refusal = keeper.Reserve(context.Background(), "other", []byte("x"))
	wantRefusal(t, refusal, decision.LatchUnavailable, "latch_failed")
	if !strings.Contains(refusal.Error(), "connection refused") || time.Since(began) > 2*time.Second {
		t.Errorf("after %s: %v", time.Since(began), refusal)
	}
	server.Run()
	eventually(t, "it is back", func() bool {
		return keeper.CheckRead(context.Background(), instance, []byte("first")) == nil
	})
	write(t, keeper, clock, "second", Accepted)
}

// arrivesLate lets a swap reach Redis only after something else has happened
// there, and after its caller has given up.
type arrivesLate struct {
	redis.Hook
	meanwhile func()
}

func (h arrivesLate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		if len(command.Args()) > 1 && command.Args()[1] == swapScript.Hash() {
			h.meanwhile()
		}
		return next(context.WithoutCancel(ctx), command)
	}
}

func (arrivesLate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (arrivesLate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestRedisLateReset: a reset that was given up on frees nothing that came
// after it.
func TestRedisLateReset(t *testing.T) {
	server := harness.StartRedis(t)
	other, client := redisClient(t, server), redisClient(t, server)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	key := redisPrefix + "late"
	set := func(value string) {
		if err := other.Set(context.Background(), key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("old")
	if err := swapRedis(ctx, client, key, "old", "older"); err != nil { // so that Redis knows the script
		t.Fatal(err)
	}
	client.AddHook(arrivesLate{meanwhile: func() { cancel(); set("newer") }})
	_ = resetRedis(ctx, client, key, "reset")
	if got := other.Get(context.Background(), key).Val(); got != "newer" {
		t.Errorf("the newer record became %q", got)
	}
}
