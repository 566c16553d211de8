// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// memoryLatch is a latch that forgets, for tests of states only.
type memoryLatch struct {
	mu      sync.Mutex
	records map[Key]string
}

func (l *memoryLatch) Load(_ context.Context, key Key) (Record, Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, found := l.records[key]
	if !found {
		return Record{}, "", nil
	}
	record, err := DecodeRecord(key, []byte(text))
	return record, Version(text), err
}

func (l *memoryLatch) Swap(_ context.Context, key Key, old Version, next Record) (Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records[key] != string(old) {
		return "", ErrConflict
	}
	data, err := EncodeRecord(key, next)
	if err != nil {
		return "", err
	}
	l.records[key] = string(data)
	return Version(data), nil
}

func (l *memoryLatch) Reset(_ context.Context, key Key) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.records, key) // no state of these tests has a Swap on the way
	return nil
}

// world is one instance, two replicas and what should be known of them.
type world struct {
	t       *testing.T
	clock   *clock
	latch   *memoryLatch
	keepers [2]*Keeper
	model   model
	open    []*modelWrite // reservations that are neither settled nor lost with their process
	// The promise itself, apart from the model: until when nobody else may
	// write, and why not.
	writing, shut time.Time
	path          []string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: newClock(), latch: &memoryLatch{records: map[Key]string{}}}
	w.keepers = [2]*Keeper{newKeeper(t, w.latch, w.clock), newKeeper(t, w.latch, w.clock)}
	return w
}

// copied is a world of its own in the same state.
func (w *world) copied() *world {
	c := newWorld(w.t)
	c.clock.Advance(w.clock.Now().Sub(c.clock.Now()))
	maps.Copy(c.latch.records, w.latch.records)
	c.model, c.writing, c.shut = w.model, w.writing, w.shut
	c.model.possible = slices.Clone(w.model.possible)
	c.path = slices.Clone(w.path)
	for _, write := range w.open {
		old := write.reservation
		again := &modelWrite{instance: write.instance, body: write.body, reservation: &Reservation{
			keeper: c.keepers[0], ctx: old.ctx, key: old.key, deadline: old.deadline, record: old.record, version: old.version,
		}}
		if w.model.holder == write {
			c.model.holder = again
		}
		c.open = append(c.open, again)
	}
	return c
}

// maxOpen bounds how many writes are under way; with one more nothing new can
// happen, since all but the last have lost their reservation.
const maxOpen = 2

// event is something that can happen, or not, in a state of the world.
type event struct {
	name string
	do   func(*world) bool
}

func events() []event {
	var all []event
	for replica, name := range []string{"one", "the other"} {
		for _, body := range []string{"A", "B"} {
			for _, hangUp := range []bool{false, true} {
				all = append(all, event{fmt.Sprintf("%s replica writes %s, hang-up %t", name, body, hangUp), func(w *world) bool {
					return w.reserve(replica, body, hangUp)
				}})
			}
		}
		all = append(all, event{name + " replica restarts or reloads", func(w *world) bool {
			w.keepers[replica] = newKeeper(w.t, w.latch, w.clock)
			return true
		}})
	}
	for n, which := range []string{"first", "second"} {
		for _, outcome := range []Outcome{Accepted, AlreadySet, Refused, Unsent, Unknown} {
			all = append(all, event{fmt.Sprintf("the %s write under way: %s", which, outcome), func(w *world) bool { return w.settle(n, outcome) }})
		}
		all = append(all, event{fmt.Sprintf("the process of the %s write dies", which), func(w *world) bool {
			_, ok := w.take(n)
			return ok
		}})
	}
	return append(all,
		event{"write_timeout passes", func(w *world) bool { w.clock.Advance(testTimeout); return true }},
		event{"the window is about to end", func(w *world) bool { return w.advanceTo(w.model.end.Add(-1)) }},
		event{"the window ends", func(w *world) bool { return w.advanceTo(w.model.end) }},
		event{"reset", func(w *world) bool {
			if _, err := w.keepers[0].Reset(context.Background(), instance); err != nil {
				w.t.Fatal(err)
			}
			w.model, w.writing, w.shut = model{}, time.Time{}, time.Time{}
			return true
		}},
	)
}

func (w *world) advanceTo(then time.Time) bool {
	step := then.Sub(w.clock.Now())
	if step <= 0 {
		return false
	}
	w.clock.Advance(step)
	return true
}

func (w *world) reserve(replica int, body string, hangUp bool) bool {
	if len(w.open) == maxOpen {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if hangUp {
		cancel()
	}
	now := w.clock.Now()
	reservation, refusal := w.keepers[replica].Reserve(ctx, instance, []byte(body))
	w.check("write", refusal, w.model.reserve(now, body))
	if refusal != nil {
		return true
	}
	if now.Before(w.writing) || now.Before(w.shut) {
		w.fail("a second writer while the first was writing or its password is set")
	}
	w.writing = reservation.Deadline()
	w.model.holder = &modelWrite{reservation: reservation, instance: instance, body: body}
	w.open = append(w.open, w.model.holder)
	return true
}

func (w *world) take(n int) (*modelWrite, bool) {
	if n >= len(w.open) {
		return nil, false
	}
	write := w.open[n]
	w.open = append(w.open[:n:n], w.open[n+1:]...)
	return write, true
}

func (w *world) settle(n int, outcome Outcome) bool {
	write, ok := w.take(n)
	if !ok {
		return false
	}
	want := decision.LatchUnavailable // lost
	if w.model.holder == write {
		want = ""
		w.model.settle(w.clock.Now(), outcome)
		w.writing = time.Time{}
		if outcome == Accepted || outcome == AlreadySet {
			w.shut = w.clock.Now().Add(testOnce)
		}
	}
	w.check("settle", write.reservation.Settle(outcome), want)
	return true
}

func (w *world) check(what string, got *decision.Refusal, want decision.Reason) {
	if (got == nil) != (want == "") || (got != nil && got.Reason != want) {
		w.fail(fmt.Sprintf("%s: got %v, want %q", what, got, want))
	}
}

func (w *world) fail(why string) {
	w.t.Helper()
	w.t.Fatalf("%s, after\n%s", why, strings.Join(w.path, "\n"))
}

// state names all that can make a difference from here on. Times count from
// now, and those that are over are all alike.
func (w *world) state() string {
	now := w.clock.Now()
	left := func(t time.Time) time.Duration { return max(0, t.Sub(now)) }
	text := fmt.Sprint(left(w.model.end), left(w.writing), left(w.shut), w.model.accepted, w.model.possible, w.model.candidate)
	if left(w.model.end) > 0 {
		text += fmt.Sprint(w.model.reason)
	}
	for _, write := range w.open {
		text += fmt.Sprint(" ", write.body, write == w.model.holder, left(write.reservation.Deadline()))
	}
	return text
}

// TestEveryOrder walks every state that one instance can get into by writes
// over two replicas, answers, hang-ups, crashes, restarts, resets and the ends
// of windows, in every order, and every event in each of these states.
func TestEveryOrder(t *testing.T) {
	all := events()
	first := newWorld(t)
	seen := map[string]bool{first.state(): true}
	frontier := []*world{first}
	steps := 0
	for len(frontier) > 0 {
		from := frontier[0]
		frontier = frontier[1:]
		for _, e := range all {
			w := from.copied()
			w.path = append(w.path, e.name)
			if !e.do(w) {
				continue
			}
			steps++
			body := []string{"A", "B", "C", ""}[steps%4] // every state is reached in many ways
			w.check("read of "+body, w.keepers[steps/4%2].CheckRead(context.Background(), instance, []byte(body)), w.model.read(body))
			if state := w.state(); !seen[state] {
				seen[state] = true
				frontier = append(frontier, w)
			}
		}
	}
	t.Logf("%d states, %d events in them", len(seen), steps)
	if len(seen) < 500 {
		t.Errorf("only %d states: the walk does not get around", len(seen))
	}
}
