// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// orderedRead is a read of a client that reads once more when it has its answer.
type orderedRead struct {
	seen      Seen
	password  string
	delivered bool
	end       int // it is told after so many reads
}

// TestHandoverInOrder: one client reads again and again, and the ends of its reads are
// told at once or later, in any order. It may acknowledge what it has got and the
// server was last seen to hold, and nothing else.
func TestHandoverInOrder(t *testing.T) {
	const length = 3
	var tell func(story []orderedRead)
	stories, sent := 0, 0
	tell = func(story []orderedRead) {
		if len(story) == length {
			stories++
			if tellOrdered(t, story) {
				sent++
			}
			return
		}
		for _, read := range []orderedRead{{SeenPassword, "P1", true, 0}, {SeenPassword, "P1", false, 0}, {SeenPassword, "P2", true, 0}, {SeenNone, "", true, 0}, {SeenNothing, "", true, 0}} {
			for read.end = len(story) + 1; read.end <= length; read.end++ {
				tell(append(slices.Clip(story), read))
			}
		}
	}
	tell(nil)
	if stories != 5*5*5*3*2 || sent == 0 || sent == stories {
		t.Errorf("%d of %d stories end with an acknowledgement", sent, stories)
	}
}

// tellOrdered tells whether the acknowledgement after the reads is sent.
func tellOrdered(t *testing.T, story []orderedRead) bool {
	t.Helper()
	w := newHandoverWorld(t, &memoryLatch{records: map[Key]string{}})
	var reads []*Read
	for i, next := range story {
		read := w.begins("vm")
		reads = append(reads, read)
		read.Saw(next.seen, []byte(next.password))
		wantRefusal(t, read.Record(), "", "") // and now the client has its answer
		for j, told := range slices.Backward(story[:i+1]) {
			if told.end == i+1 {
				wantRefusal(t, reads[j].Settle(told.delivered), "", "")
			}
		}
	}
	newest, has, had := "", false, map[string]bool{}
	for _, read := range story {
		switch read.seen { //nolint:exhaustive // the other two change nothing
		case SeenPassword:
			has = (has && newest == read.password) || read.delivered
			newest = read.password
			had[newest] = had[newest] || read.delivered
		case SeenNone:
			newest, has = "", false
			clear(had)
		}
	}
	_, _, refusal := w.keepers[1].Acknowledge(context.Background(), instance, "vm")
	sent := refusal == nil
	// One that was replaced and is there again may count as got, whenever that was.
	if (has && !sent) || (sent && !had[newest]) {
		t.Errorf("%+v: %v", story, refusal)
	}
	return sent
}

// failingLatch fails the calls to Swap that are named, with or without doing them.
type failingLatch struct {
	Latch
	calls int
	fail  int
	done  bool
}

func (l *failingLatch) Swap(ctx context.Context, key Key, old Version, next Record) (Version, error) {
	l.calls++
	if l.calls != l.fail {
		return l.Latch.Swap(ctx, key, old, next)
	}
	if l.done {
		if _, err := l.Latch.Swap(ctx, key, old, next); err != nil {
			return "", err
		}
	}
	return "", errors.New("down")
}

// What could not be recorded before the answer is at the end, whether it was recorded
// all the same or not.
func TestHandoverIsRecordedLate(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, seen := range []Seen{SeenPassword, SeenNone} {
			t.Run(fmt.Sprint(seen, done), func(t *testing.T) {
				latch := &failingLatch{Latch: &memoryLatch{records: map[Key]string{}}, done: done}
				w := newHandoverWorld(t, latch)
				w.reads("vm", "P1")
				read := w.begins("vm")
				read.Saw(seen, []byte("P2"))
				latch.fail = latch.calls + 1
				wantRefusal(t, read.Record(), decision.LatchUnavailable, "latch_failed")
				wantRefusal(t, read.Settle(false), "", "")
				w.acknowledges("vm", notRead)
				w.reads("vm", "P2")
				w.acknowledges("vm", "sent")
			})
		}
	}
}

// Before anybody has an answer, the newest password that was seen is nobody's.
func TestHandoverIsNobodysUntilDelivered(t *testing.T) {
	w := newHandoverWorld(t, &memoryLatch{records: map[Key]string{}})
	w.reads("vm", "P1")
	read := w.begins("vm")
	read.Saw(SeenPassword, []byte("P2"))
	wantRefusal(t, read.Record(), "", "")
	w.acknowledges("vm", pendingRead)
	w.clock.Advance(readTerm) // a crash
	w.acknowledges("vm", notRead)
	wantRefusal(t, read.Settle(true), "", "") // too late
	w.acknowledges("vm", notRead)
}

// The same password once more costs no write but those of the beginning and the end.
func TestHandoverWritesWhatIsNew(t *testing.T) {
	latch := &failingLatch{Latch: &memoryLatch{records: map[Key]string{}}}
	w := newHandoverWorld(t, latch)
	for i, want := range []int{3, 2, 2} {
		before := latch.calls
		read := w.begins("vm")
		read.Saw(SeenPassword, []byte("P1"))
		wantRefusal(t, read.Record(), "", "")
		wantRefusal(t, read.Settle(true), "", "")
		if writes := latch.calls - before; writes != want {
			t.Errorf("read %d: %d writes, want %d", i, writes, want)
		}
	}
}

// A replica that has no key cannot tell whether it saw what another one saw meanwhile.
func TestHandoverWithoutAKey(t *testing.T) {
	for _, late := range []bool{false, true} {
		w := newHandoverWorld(t, &memoryLatch{records: map[Key]string{}})
		w.late = late
		keyed := w.keepers[0]
		w.keepers[0] = newKeeper(t, w.latch, w.clock, func(c *Config) { c.FingerprintKeys = nil })
		read := w.begins("vm")
		w.keepers[0] = keyed
		w.reads("console", "P2")
		w.ends(read, SeenPassword, "P1", true)
		w.acknowledges("vm", notRead)
		w.acknowledges("console", notRead)
	}
}
