// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

const instance = "5f1c0000-0000-4000-8000-000000000001"

// TestTransitions is the package comment's table, row by row.
func TestTransitions(t *testing.T) {
	const none = time.Duration(-1) // the record is free at once
	for name, test := range map[string]struct {
		once    time.Duration
		outcome Outcome
		crash   bool          // never settled
		late    time.Duration // from the reservation to its outcome
		held    time.Duration // how long from then on another write is refused
		reason  decision.Reason
	}{
		"accepted":                   {testOnce, Accepted, false, 0, testOnce, decision.PasswordAlreadySet},
		"accepted late":              {testOnce, Accepted, false, 9 * time.Second, testOnce, decision.PasswordAlreadySet},
		"accepted after its time":    {testOnce, Accepted, false, time.Hour, testOnce, decision.PasswordAlreadySet},
		"already set":                {testOnce, AlreadySet, false, time.Second, testOnce, decision.PasswordAlreadySet},
		"refused":                    {testOnce, Refused, false, time.Second, none, ""},
		"unsent":                     {testOnce, Unsent, false, time.Second, none, ""},
		"unknown":                    {testOnce, Unknown, false, 9 * time.Second, testPending, decision.PasswordWritePending},
		"crash":                      {testOnce, Unknown, true, 0, testPending, decision.PasswordWritePending},
		"accepted, write_once off":   {0, Accepted, false, 0, none, ""},
		"already set, off":           {0, AlreadySet, false, 0, none, ""},
		"unknown, write_once off":    {0, Unknown, false, 0, testTimeout, decision.PasswordWritePending},
		"crash, write_once off":      {0, Unknown, true, 0, testTimeout, decision.PasswordWritePending},
		"an outcome out of the list": {testOnce, Outcome(99), false, 0, testPending, decision.PasswordWritePending},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock, func(c *Config) { c.WriteOnce = test.once })
			write := func(body string) (*Reservation, *decision.Refusal) {
				return keeper.Reserve(context.Background(), instance, []byte(body))
			}
			reservation, refusal := write("first")
			wantRefusal(t, refusal, "", "")
			_, refusal = write("while it is pending")
			wantRefusal(t, refusal, decision.PasswordWritePending, "latch_pending")
			clock.Advance(test.late)
			if !test.crash {
				wantRefusal(t, reservation.Settle(test.outcome), "", "")
			}
			if test.held != none {
				code := "latch_set"
				if test.reason == decision.PasswordWritePending {
					code = "latch_pending"
				}
				_, refusal = write("at once")
				wantRefusal(t, refusal, test.reason, code)
				clock.Advance(test.held - time.Nanosecond)
				_, refusal = write("just before the end")
				wantRefusal(t, refusal, test.reason, code)
				clock.Advance(time.Nanosecond)
			}
			_, refusal = write("second")
			wantRefusal(t, refusal, "", "")
			_, refusal = keeper.Reserve(context.Background(), "another instance", []byte("x"))
			wantRefusal(t, refusal, "", "")
		})
	}
}

func TestReserveRefusesBeforeTheLatch(t *testing.T) {
	keeper := newKeeper(t, brokenLatch{errors.New("asked")}, newClock())
	for name, test := range map[string]struct {
		instance, body string
		reason         decision.Reason
		code           string
	}{
		"an empty password":        {instance, "", decision.PasswordEmpty, "body_empty"},
		"a password that is large": {instance, strings.Repeat("x", 1021), decision.BodyTooLarge, "body_over_max_size"},
		"no instance":              {"", "x", decision.TargetUnknown, "instance_id"},
		"a long instance id":       {strings.Repeat("i", 257), "x", decision.TargetUnknown, "instance_id"},
		"a zero byte in the id":    {"a\x00b", "x", decision.TargetUnknown, "instance_id"},
		"an id that is not text":   {"\xff", "x", decision.TargetUnknown, "instance_id"},
		"a good one":               {instance, "x", decision.LatchUnavailable, "latch_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, refusal := keeper.Reserve(context.Background(), test.instance, []byte(test.body))
			wantRefusal(t, refusal, test.reason, test.code)
		})
	}
}

func TestSettleOnce(t *testing.T) {
	clock := newClock()
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
	reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("x"))
	wantRefusal(t, refusal, "", "")
	if want := clock.Now().Add(testTimeout); !reservation.Deadline().Equal(want) {
		t.Errorf("the deadline is %v, want %v", reservation.Deadline(), want)
	}
	wantRefusal(t, reservation.Settle(Accepted), "", "")
	wantRefusal(t, reservation.Settle(Refused), decision.LatchUnavailable, "settled_twice")
	_, refusal = keeper.Reserve(context.Background(), instance, []byte("y"))
	wantRefusal(t, refusal, decision.PasswordAlreadySet, "latch_set")
}

func TestSettleLost(t *testing.T) {
	for name, lose := range map[string]func(*Keeper, *clock) *decision.Refusal{
		"to another writer after its time": func(k *Keeper, c *clock) *decision.Refusal {
			c.Advance(testPending)
			_, refusal := k.Reserve(context.Background(), instance, []byte("second"))
			return refusal
		},
		"to a reset": func(k *Keeper, _ *clock) *decision.Refusal {
			if _, err := k.Reset(context.Background(), instance); err != nil {
				return decision.RefuseWith(decision.LatchUnavailable, "reset", err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
			reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("first"))
			wantRefusal(t, refusal, "", "")
			wantRefusal(t, lose(keeper, clock), "", "")
			wantRefusal(t, reservation.Settle(Accepted), decision.LatchUnavailable, "reservation_lost")
		})
	}
}

// TestReserveOutlivesItsClient: a request that ends does not end its latch.
func TestReserveOutlivesItsClient(t *testing.T) {
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), newClock())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	reservation, refusal := keeper.Reserve(ctx, instance, []byte("x"))
	wantRefusal(t, refusal, "", "")
	wantRefusal(t, reservation.Settle(Accepted), "", "")
}

// TestClockJumps: a clock that was set back only holds longer, and not for ever.
func TestClockJumps(t *testing.T) {
	for _, outcome := range []Outcome{Accepted, Unknown} {
		for _, back := range []time.Duration{time.Second, testOnce, testPending, time.Hour, 1000 * time.Hour} {
			t.Run(fmt.Sprint(outcome, " ", back), func(t *testing.T) {
				clock := newClock()
				keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
				term := map[Outcome]time.Duration{Accepted: testOnce, Unknown: testPending}[outcome]
				reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("first"))
				wantRefusal(t, refusal, "", "")
				wantRefusal(t, reservation.Settle(outcome), "", "")
				clock.Advance(-back)
				for waited := time.Duration(0); ; waited += time.Second {
					_, refusal := keeper.Reserve(context.Background(), instance, []byte("second"))
					if refusal == nil {
						if waited < term || waited > 2*term {
							t.Errorf("free after %s, its term is %s", waited, term)
						}
						return
					}
					if waited > 2*term {
						t.Fatalf("not free after %s, its term is %s", waited, term)
					}
					clock.Advance(time.Second)
				}
			})
		}
	}
}

// TestRedatedReservationSettles: another writer's doubt about the clock does
// not take the reservation away.
func TestRedatedReservationSettles(t *testing.T) {
	clock := newClock()
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
	reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("first"))
	wantRefusal(t, refusal, "", "")
	clock.Advance(-time.Hour)
	_, refusal = keeper.Reserve(context.Background(), instance, []byte("second"))
	wantRefusal(t, refusal, decision.PasswordWritePending, "latch_pending")
	wantRefusal(t, reservation.Settle(Accepted), "", "")
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("first")), "", "")
}

func TestOneInstanceInTwoSpellings(t *testing.T) {
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), newClock())
	reservation, refusal := keeper.Reserve(context.Background(), strings.ToUpper(instance), []byte("first"))
	wantRefusal(t, refusal, "", "")
	_, refusal = keeper.Reserve(context.Background(), instance, []byte("second"))
	wantRefusal(t, refusal, decision.PasswordWritePending, "latch_pending")
	wantRefusal(t, reservation.Settle(Accepted), "", "")
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("first")), "", "")
	// Ids that are no UUIDs are as different as they look.
	_, refusal = keeper.Reserve(context.Background(), "i-0aB", []byte("x"))
	wantRefusal(t, refusal, "", "")
	_, refusal = keeper.Reserve(context.Background(), "i-0ab", []byte("x"))
	wantRefusal(t, refusal, "", "")
}

func TestKeyNames(t *testing.T) {
	for _, id := range []string{"../../etc/passwd", ".", "a/b", "con", strings.Repeat("é", 128), instance, "5F1C0000-0000-4000-8000-00000000000g"} {
		name := mustKey(t, id).Name()
		if strings.Trim(name, "0123456789abcdef-") != "" || (len(name) != 36 && len(name) != 64) {
			t.Errorf("%q has the name %q", id, name)
		}
	}
}

func TestNewKeeperRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"no latch":              {func(c *Config) { c.Latch = nil }, "latch is required"},
		"a negative window":     {func(c *Config) { c.WriteOnce = -1 }, "must not be negative"},
		"a negative timeout":    {func(c *Config) { c.WriteTimeout = -1 }, "must not be negative"},
		"a window of ten years": {func(c *Config) { c.WriteOnce = 10 * 8766 * time.Hour }, "over"},
		"a negative size":       {func(c *Config) { c.Limits.MaxSize = -1 }, "max_size"},
		"unverified any":        {func(c *Config) { c.Unverified = "any" }, "unverified must be"},
		"a short key":           {func(c *Config) { c.FingerprintKeys = []decision.Secret{firstKey, decision.NewSecret("hunter2")} }, "key 2 has less"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Latch: brokenLatch{}, FingerprintKeys: []decision.Secret{firstKey}}
			test.edit(&config)
			_, err := NewKeeper(config)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// brokenLatch is a latch that cannot be asked.
type brokenLatch struct{ err error }

func (l brokenLatch) Load(context.Context, Key) (Record, Version, error) { return Record{}, "", l.err }

func (l brokenLatch) Swap(context.Context, Key, Version, Record) (Version, error) { return "", l.err }

func (l brokenLatch) Reset(context.Context, Key) error { return l.err }

// halfLatch answers Load but not Swap.
type halfLatch struct {
	brokenLatch
	loads int
}

func (l *halfLatch) Load(context.Context, Key) (Record, Version, error) {
	l.loads++
	return Record{}, "", nil
}

func TestLatchErrors(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"any error": {errors.New("disk full"), "latch_failed"},
		"corrupt":   {fmt.Errorf("x: %w", ErrCorrupt), "latch_corrupt"},
		"too slow":  {fmt.Errorf("x: %w", context.DeadlineExceeded), "latch_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := newKeeper(t, brokenLatch{test.err}, newClock())
			_, refusal := broken.Reserve(context.Background(), instance, []byte("x"))
			wantRefusal(t, refusal, decision.LatchUnavailable, test.code)
			wantRefusal(t, broken.CheckRead(context.Background(), instance, []byte("x")), decision.LatchUnavailable, test.code)
			wantRefusal(t, broken.CheckRead(context.Background(), instance, nil), decision.LatchUnavailable, test.code)
			half := newKeeper(t, &halfLatch{brokenLatch: brokenLatch{test.err}}, newClock())
			_, refusal = half.Reserve(context.Background(), instance, []byte("x"))
			wantRefusal(t, refusal, decision.LatchUnavailable, test.code)
			if _, err := broken.Reset(context.Background(), instance); !errors.Is(err, test.err) {
				t.Errorf("Reset says %v", err)
			}
		})
	}
	t.Run("always too late", func(t *testing.T) {
		latch := &halfLatch{brokenLatch: brokenLatch{ErrConflict}}
		_, refusal := newKeeper(t, latch, newClock()).Reserve(context.Background(), instance, []byte("x"))
		wantRefusal(t, refusal, decision.PasswordWritePending, "latch_contended")
		if latch.loads != maxAttempts {
			t.Errorf("%d attempts", latch.loads)
		}
	})
}

// A latch is no app: Caddy would start it, and stop it while requests still run.
func TestLatchesAreNoApps(t *testing.T) {
	for _, latch := range []any{new(FileLatch), new(RedisLatch)} {
		if _, isApp := latch.(caddy.App); isApp {
			t.Errorf("%T has the methods of a Caddy app", latch)
		}
	}
}
