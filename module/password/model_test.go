// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
)

// model is what the package comment says about one instance, in other words:
// when it is free again and why not now, and which passwords may be read.
type model struct {
	start, end time.Time // of what holds it; equal when nothing does
	reason     decision.Reason
	holder     *modelWrite

	accepted  string
	possible  []string
	candidate string
}

type modelWrite struct {
	reservation *Reservation
	instance    string
	body        string
}

func (m *model) hold(now time.Time, reason decision.Reason, term time.Duration) {
	m.start, m.end, m.reason = now, now.Add(term), reason
}

// doubt makes the candidate one of the possible passwords.
func (m *model) doubt() {
	if m.candidate == "" {
		return
	}
	m.possible = slices.DeleteFunc(m.possible, func(s string) bool { return s == m.candidate })
	m.possible = append(m.possible, m.candidate)
	if len(m.possible) > maxPossible {
		m.possible = m.possible[1:]
	}
	m.candidate = ""
}

func (m *model) reserve(now time.Time, body string) decision.Reason {
	if now.Before(m.end) {
		if term := m.end.Sub(m.start); m.start.Sub(now) > term {
			m.hold(now, m.reason, term) // dated anew
		}
		return m.reason
	}
	m.doubt()
	m.candidate = body
	m.hold(now, decision.PasswordWritePending, testPending)
	return ""
}

func (m *model) settle(now time.Time, outcome Outcome) {
	m.holder = nil
	switch outcome {
	case Accepted:
		m.accepted, m.possible, m.candidate = m.candidate, nil, ""
		m.hold(now, decision.PasswordAlreadySet, testOnce)
	case AlreadySet:
		m.candidate = ""
		m.hold(now, decision.PasswordAlreadySet, testOnce)
	case Refused, Unsent:
		m.candidate = ""
		m.start, m.end = time.Time{}, time.Time{}
	default:
		m.doubt()
		m.hold(now, decision.PasswordWritePending, testPending)
	}
}

func (m *model) read(body string) decision.Reason {
	switch {
	case body == "" || body == m.accepted || body == m.candidate || slices.Contains(m.possible, body):
		return ""
	case m.accepted != "":
		return decision.PasswordMismatch
	case Inspect([]byte(body)).KeyBits > 0:
		return ""
	}
	return decision.PasswordUnverified
}

// TestModel drives two replicas on one directory through events in any order:
// writes, outcomes, crashes, time that passes or jumps back, restarts, resets.
func TestModel(t *testing.T) {
	instances := []string{instance, "i-0abc"}
	bodies := []string{"A", "B", "C", string(rsaResult(1024)), string(bytes.ToLower(rsaResult(2048)))}
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("/dev/shm", "latch") // in memory: this is about states, not disks
		if err != nil {
			if root, err = os.MkdirTemp("", "latch"); err != nil {
				t.Fatal(err)
			}
		}
		defer os.RemoveAll(root)
		clock := newClock()
		start := func() *Keeper {
			latch := new(FileLatch)
			latch.prepare(root)
			keeper, err := NewKeeper(Config{
				Latch: latch, WriteOnce: testOnce, WriteTimeout: testTimeout,
				FingerprintKeys: []decision.Secret{firstKey}, Now: clock.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			return keeper
		}
		keepers := []*Keeper{start(), start()}
		models := map[string]*model{}
		for _, name := range instances {
			models[name] = new(model)
		}
		var open []*modelWrite // neither settled nor crashed
		check := func(what string, got *decision.Refusal, want decision.Reason) {
			if (got == nil) != (want == "") || (got != nil && got.Reason != want) {
				t.Fatalf("%s: got %v, want %q", what, got, want)
			}
		}
		replica := func() *Keeper { return keepers[rapid.IntRange(0, 1).Draw(t, "replica")] }
		take := func() (*modelWrite, bool) {
			if len(open) == 0 {
				return nil, false
			}
			i := rapid.IntRange(0, len(open)-1).Draw(t, "reservation")
			write := open[i]
			open = slices.Delete(open, i, i+1)
			return write, true
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				name := rapid.SampledFrom(instances).Draw(t, "instance")
				body := rapid.SampledFrom(bodies).Draw(t, "body")
				reservation, refusal := replica().Reserve(context.Background(), name, []byte(body))
				m := models[name]
				check("reserve "+name, refusal, m.reserve(clock.Now(), body))
				if refusal == nil {
					m.holder = &modelWrite{reservation: reservation, instance: name, body: body}
					open = append(open, m.holder)
				}
			},
			"settle": func(t *rapid.T) {
				write, ok := take()
				if !ok {
					t.Skip("nothing is open")
				}
				outcome := rapid.SampledFrom([]Outcome{Accepted, AlreadySet, Refused, Unsent, Unknown}).Draw(t, "outcome")
				m := models[write.instance]
				want := decision.LatchUnavailable // lost
				if m.holder == write {
					want = ""
					m.settle(clock.Now(), outcome)
				}
				check(fmt.Sprint("settle ", outcome), write.reservation.Settle(outcome), want)
				check("settle twice", write.reservation.Settle(Refused), decision.LatchUnavailable)
			},
			"crash": func(t *rapid.T) {
				if _, ok := take(); !ok {
					t.Skip("nothing is open")
				}
			},
			"restart": func(t *rapid.T) { keepers[rapid.IntRange(0, 1).Draw(t, "replica")] = start() },
			"time": func(t *rapid.T) {
				clock.Advance(rapid.SampledFrom([]time.Duration{
					time.Second, testTimeout, testOnce - 1, testOnce, testPending - 1, testPending, time.Hour,
					-time.Second, -testOnce, -time.Hour,
				}).Draw(t, "passes"))
			},
			"reset": func(t *rapid.T) {
				name := rapid.SampledFrom(instances).Draw(t, "instance")
				if _, err := replica().Reset(context.Background(), name); err != nil {
					t.Fatal(err)
				}
				models[name] = new(model)
			},
			"": func(t *rapid.T) { // after every event
				for _, name := range instances {
					for _, body := range append([]string{""}, bodies...) {
						check("read "+name, keepers[0].CheckRead(context.Background(), name, []byte(body)), models[name].read(body))
					}
				}
			},
		})
	})
}
