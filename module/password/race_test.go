// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// raceKeepers: of eight writers to each of the instances, spread over the
// latches, exactly one wins, first and again whenever the record's time is up.
func raceKeepers(t *testing.T, latches []Latch, instances int) {
	t.Helper()
	const writers = 8
	clock := newClock()
	keepers := make([]*Keeper, len(latches))
	for i, latch := range latches {
		keepers[i] = newKeeper(t, latch, clock)
	}
	for round, name := range []string{"first", "at the end of the pending ones", "and again"} {
		wins := make([]atomic.Int32, instances)
		var all sync.WaitGroup
		for i := range instances {
			start := make(chan struct{})
			for w := range writers {
				all.Go(func() {
					<-start
					body := fmt.Appendf(nil, "password %d of round %d", w, round)
					_, refusal := keepers[w%len(keepers)].Reserve(context.Background(), fmt.Sprint("instance ", i), body)
					switch {
					case refusal == nil:
						wins[i].Add(1)
					case refusal.Reason != decision.PasswordWritePending:
						t.Errorf("%s: instance %d: %v", name, i, refusal)
					}
				})
			}
			close(start)
		}
		all.Wait()
		for i := range wins {
			if n := wins[i].Load(); n != 1 {
				t.Errorf("%s: instance %d was won %d times", name, i, n)
			}
		}
		clock.Advance(testPending)
	}
}

func TestRacingWriters(t *testing.T) {
	root := t.TempDir()
	latches := make([]Latch, 4)
	for i := range latches {
		latches[i] = newFileLatch(t, root)
	}
	raceKeepers(t, latches, 200)
}

// TestRacingSettles: of many calls to settle one reservation one counts.
func TestRacingSettles(t *testing.T) {
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), newClock())
	reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("x"))
	wantRefusal(t, refusal, "", "")
	var settled atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if reservation.Settle(Accepted) == nil {
				settled.Add(1)
			}
		})
	}
	all.Wait()
	if n := settled.Load(); n != 1 {
		t.Errorf("settled %d times", n)
	}
}

// TestReadersNeverSeeNothing: while records are replaced and removed, a reader
// always finds one.
func TestReadersNeverSeeNothing(t *testing.T) {
	clock, root := newClock(), t.TempDir()
	writer := newKeeper(t, newFileLatch(t, root), clock)
	write(t, writer, clock, "same", Accepted)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		reader := newKeeper(t, newFileLatch(t, root), clock)
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if refusal := reader.CheckRead(context.Background(), instance, []byte("same")); refusal != nil {
					t.Errorf("a reader was refused: %v", refusal)
					return
				}
			}
		})
	}
	for range 30 {
		write(t, writer, clock, "same", Accepted)
	}
	close(stop)
	all.Wait()
}
