// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// handoverWorld is one instance's password, two replicas and a clock.
type handoverWorld struct {
	*testing.T
	clock   *clock
	latch   Latch
	keepers [2]*Keeper
	late    bool // what reads saw is told with their ends
}

func newHandoverWorld(t *testing.T, latch Latch) *handoverWorld {
	t.Helper()
	w := &handoverWorld{T: t, clock: newClock(), latch: latch}
	for i := range w.keepers {
		w.keepers[i] = newKeeper(t, latch, w.clock)
		w.keepers[i].patience = 0
	}
	return w
}

func (w *handoverWorld) begins(who string) *Read {
	w.Helper()
	read, refusal := w.keepers[0].BeginRead(context.Background(), instance, who)
	wantRefusal(w, refusal, "", "")
	return read
}

// ends tells the end of a read; "" is that the client hung up.
func (w *handoverWorld) ends(read *Read, seen Seen, password string, delivered bool) {
	w.Helper()
	read.Saw(seen, []byte(password))
	if !w.late {
		wantRefusal(w, read.Record(), "", "")
	}
	wantRefusal(w, read.Settle(delivered), "", "")
}

func (w *handoverWorld) reads(who, password string) {
	w.Helper()
	w.ends(w.begins(who), SeenPassword, password, true)
}

// acknowledges wants `sent`, `done` or a refusal's code.
func (w *handoverWorld) acknowledges(who, want string) *Acknowledgement {
	w.Helper()
	a, done, refusal := w.keepers[1].Acknowledge(context.Background(), instance, who)
	got := "sent"
	switch {
	case refusal != nil:
		got = refusal.Code
		if refusal.Code == "acknowledge_without_read" && (refusal.Reason != decision.PasswordUnverified || refusal.Status != 409) {
			w.Errorf("%v", refusal)
		}
	case done:
		got = "done"
	}
	if got != want {
		w.Errorf("%s acknowledges: %s, want %s", who, got, want)
	}
	return a
}

func (w *handoverWorld) accepted(a *Acknowledgement) {
	w.Helper()
	wantRefusal(w, a.Settle(Accepted), "", "")
}

const notRead, pendingRead = "acknowledge_without_read", "read_or_acknowledge_pending"

// TestHandover tells the stories of reading and acknowledging.
func TestHandover(t *testing.T) {
	for name, story := range map[string]func(*handoverWorld){
		"nobody has read": func(w *handoverWorld) { w.acknowledges("vm", notRead) },
		"read, acknowledged, and again": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.acknowledges("console", notRead)
			w.accepted(w.acknowledges("vm", "sent"))
			w.acknowledges("vm", "done")
			w.acknowledges("console", notRead)
			w.ends(w.begins("vm"), SeenNone, "", true) // what the server says then
			w.acknowledges("vm", "done")
			w.reads("vm", "P2")
			w.accepted(w.acknowledges("vm", "sent"))
		},
		"too late": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.clock.Advance(acknowledgeTerm - 1)
			w.reads("console", "P1")
			w.clock.Advance(1)
			w.acknowledges("vm", notRead)
			w.accepted(w.acknowledges("console", "sent"))
		},
		"the clock went back": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.clock.Advance(-time.Hour)
			w.acknowledges("vm", notRead)
			w.reads("vm", "P1")
			w.acknowledges("vm", "sent")
		},
		"two readers of one password": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.reads("console", "P1")
			w.accepted(w.acknowledges("console", "sent"))
			w.acknowledges("vm", "done") // its password is acknowledged: a newer one must not be forgotten
		},
		"replaced, and read by somebody else": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.reads("console", "P2")
			w.acknowledges("vm", notRead)
			w.acknowledges("console", "sent")
		},
		"replaced, and its reader hung up": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.ends(w.begins("vm"), SeenPassword, "P2", false)
			w.acknowledges("vm", notRead)
		},
		"a reader that hung up": func(w *handoverWorld) {
			w.ends(w.begins("vm"), SeenPassword, "P1", false)
			w.acknowledges("vm", notRead)
			w.reads("console", "P1")
			w.acknowledges("vm", notRead)
		},
		"the same password once more, and hung up": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.ends(w.begins("vm"), SeenPassword, "P1", false)
			w.acknowledges("vm", "sent")
		},
		"none": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.ends(w.begins("vm"), SeenNone, "", true)
			w.acknowledges("vm", notRead)
		},
		"an answer that is not fit": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.ends(w.begins("vm"), SeenUnfit, "", false)
			w.acknowledges("vm", notRead)
		},
		"no answer": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.ends(w.begins("vm"), SeenNothing, "", false)
			w.acknowledges("vm", "sent")
		},
		"an end that is told late": func(w *handoverWorld) {
			old := w.begins("vm")
			for _, seen := range []Seen{SeenNone, SeenUnfit} {
				w.ends(w.begins("vm"), seen, "", true)
			}
			w.ends(old, SeenPassword, "old", true) // what a later read did not find any more
			w.acknowledges("vm", "acknowledge_without_read")
			w.reads("vm", "newer")
			w.acknowledges("vm", "sent")
		},
		"while somebody reads": func(w *handoverWorld) {
			w.reads("vm", "P1")
			read := w.begins("console")
			w.acknowledges("vm", pendingRead)
			w.ends(read, SeenPassword, "P1", false)
			w.acknowledges("vm", "sent")
		},
		"a read that never ends": func(w *handoverWorld) {
			w.reads("vm", "P1")
			read := w.begins("console")
			w.clock.Advance(readTerm - 1)
			w.acknowledges("vm", pendingRead)
			w.reads("vm", "P1")
			w.clock.Advance(1)
			w.acknowledges("vm", notRead) // it may have brought a newer one to nobody
			w.ends(read, SeenPassword, "P2", true)
			w.acknowledges("console", notRead) // too late
			w.reads("vm", "P2")
			w.acknowledges("vm", "sent")
		},
		"two reads at once that differ": func(w *handoverWorld) {
			one, two := w.begins("vm"), w.begins("console")
			w.ends(one, SeenPassword, "P2", true)
			w.ends(two, SeenPassword, "P1", true) // it came before
			w.acknowledges("vm", notRead)
			w.acknowledges("console", notRead)
		},
		"two reads at once that agree": func(w *handoverWorld) {
			one, two := w.begins("vm"), w.begins("console")
			w.ends(one, SeenPassword, "P1", true)
			w.ends(two, SeenPassword, "P1", true)
			w.accepted(w.acknowledges("vm", "sent"))
			w.acknowledges("console", "done")
		},
		"read while it was acknowledged": func(w *handoverWorld) {
			w.reads("vm", "P1")
			a := w.acknowledges("vm", "sent")
			one, two := w.begins("late"), w.begins("console")
			w.accepted(a)
			w.ends(one, SeenPassword, "P1", true)
			w.ends(two, SeenPassword, "P2", true)
			w.acknowledges("late", notRead)
			w.acknowledges("console", "sent")
		},
		"read while it was acknowledged, and no newer one": func(w *handoverWorld) {
			w.reads("vm", "P1")
			a := w.acknowledges("vm", "sent")
			read := w.begins("late")
			w.accepted(a)
			w.ends(read, SeenPassword, "P1", true)
			w.acknowledges("late", "done")
		},
		"replaced and read while the old one was acknowledged": func(w *handoverWorld) {
			w.reads("vm", "P1")
			a := w.acknowledges("vm", "sent")
			w.reads("vm", "P2")
			w.accepted(a) // of the old one, perhaps
			w.acknowledges("vm", "sent")
		},
		"the same password made again": func(w *handoverWorld) {
			w.reads("vm", "P1")
			w.accepted(w.acknowledges("vm", "sent"))
			w.reads("console", "P1")
			w.acknowledges("vm", notRead)
			w.acknowledges("console", "sent")
		},
		"two acknowledgements at once": func(w *handoverWorld) {
			w.reads("vm", "P1")
			a := w.acknowledges("vm", "sent")
			w.acknowledges("vm", pendingRead)
			wantRefusal(w, a.Settle(Unknown), "", "")
			w.accepted(w.acknowledges("vm", "sent")) // once more
			wantRefusal(w, a.Settle(Accepted), decision.LatchUnavailable, "settled_twice")
		},
		"an acknowledgement that never ends": func(w *handoverWorld) {
			w.reads("vm", "P1")
			a := w.acknowledges("vm", "sent")
			w.clock.Advance(testTimeout)
			b := w.acknowledges("vm", "sent")
			w.accepted(a) // too late to count
			w.acknowledges("vm", pendingRead)
			w.accepted(b)
			w.acknowledges("vm", "done")
		},
		"reset": func(w *handoverWorld) {
			w.reads("vm", "P1")
			if known, err := w.keepers[0].Reset(context.Background(), instance); err != nil || !known {
				w.Errorf("%t %v", known, err)
			}
			w.acknowledges("vm", notRead)
		},
		"reset while somebody reads": func(w *handoverWorld) {
			read := w.begins("vm")
			if _, err := w.keepers[0].Reset(context.Background(), instance); err != nil {
				w.Error(err)
			}
			w.ends(read, SeenPassword, "P1", true)
			w.acknowledges("vm", notRead)
		},
		"another instance": func(w *handoverWorld) {
			w.reads("vm", "P1")
			_, _, refusal := w.keepers[0].Acknowledge(context.Background(), "another", "vm")
			wantRefusal(w, refusal, decision.PasswordUnverified, notRead)
			_, refusal = w.keepers[0].BeginRead(context.Background(), "", "vm")
			wantRefusal(w, refusal, decision.TargetUnknown, "instance_id")
			_, _, refusal = w.keepers[0].Acknowledge(context.Background(), "", "vm")
			wantRefusal(w, refusal, decision.TargetUnknown, "instance_id")
		},
		"many readers": func(w *handoverWorld) {
			for i := range maxReaders + 1 {
				w.reads(fmt.Sprint("vm ", i), "P1")
			}
			w.acknowledges("vm 0", notRead)
			w.acknowledges(fmt.Sprint("vm ", maxReaders), "sent")
		},
		"many reads under way": func(w *handoverWorld) {
			for range maxReads {
				w.begins("vm")
			}
			_, refusal := w.keepers[0].BeginRead(context.Background(), instance, "vm")
			wantRefusal(w, refusal, decision.PasswordWritePending, "reads_pending")
			w.clock.Advance(readTerm)
			w.reads("vm", "P1")
			w.acknowledges("vm", "sent")
		},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late: %t", name, late), func(t *testing.T) {
				w := newHandoverWorld(t, &memoryLatch{records: map[Key]string{}})
				w.late = late
				story(w)
			})
		}
	}
}

// A read whose end comes a moment later is waited for.
func TestHandoverWaits(t *testing.T) {
	w := newHandoverWorld(t, newFileLatch(t, t.TempDir()))
	w.keepers[1].patience = time.Minute
	read := w.begins("vm")
	var both sync.WaitGroup
	both.Go(func() { w.accepted(w.acknowledges("vm", "sent")) })
	read.Saw(SeenPassword, []byte("P1"))
	wantRefusal(t, read.Settle(true), "", "")
	both.Wait()
	w.begins("vm")
	gone, cancel := context.WithCancel(context.Background())
	both.Go(func() {
		_, _, refusal := w.keepers[1].Acknowledge(gone, instance, "vm")
		wantRefusal(t, refusal, decision.LatchUnavailable, "latch_timeout")
	})
	cancel()
	both.Wait()
}

// Replicas whose clocks differ a little know of each other's reads.
func TestHandoverOfTwoClocks(t *testing.T) {
	w := newHandoverWorld(t, &memoryLatch{records: map[Key]string{}})
	behind := newClock()
	behind.Advance(-time.Second)
	w.keepers[1] = newKeeper(t, w.latch, behind)
	w.keepers[1].patience = 0
	read := w.begins("vm")
	w.acknowledges("vm", pendingRead)
	w.ends(read, SeenPassword, "P1", true)
	a := w.acknowledges("vm", "sent")
	w.keepers[0], w.keepers[1] = w.keepers[1], w.keepers[0]
	w.acknowledges("vm", pendingRead)
	w.accepted(a)
	behind.Advance(-maxAhead)
	w.keepers[0], w.keepers[1] = w.keepers[1], w.keepers[0]
	w.acknowledges("vm", notRead)
}

// Of many acknowledgements at once, over two replicas, one is sent.
func TestHandoverOnce(t *testing.T) {
	directory := t.TempDir()
	w := newHandoverWorld(t, newFileLatch(t, directory))
	w.reads("vm", "P1")
	var all sync.WaitGroup
	var mu sync.Mutex
	sent := 0
	for range 8 {
		keeper := newKeeper(t, newFileLatch(t, directory), w.clock)
		keeper.patience = time.Minute
		all.Go(func() {
			a, done, refusal := keeper.Acknowledge(context.Background(), instance, "vm")
			if refusal != nil || (a == nil) == !done {
				t.Errorf("%v %t %v", a, done, refusal)
				return
			}
			if a != nil {
				mu.Lock()
				sent++
				mu.Unlock()
				w.accepted(a)
			}
		})
	}
	all.Wait()
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}

// A latch that cannot be asked lets nothing be read or acknowledged.
func TestHandoverWithoutALatch(t *testing.T) {
	w := newHandoverWorld(t, brokenLatch{errors.New("down")})
	_, refusal := w.keepers[0].BeginRead(context.Background(), instance, "vm")
	wantRefusal(t, refusal, decision.LatchUnavailable, "latch_failed")
	_, _, refusal = w.keepers[0].Acknowledge(context.Background(), instance, "vm")
	wantRefusal(t, refusal, decision.LatchUnavailable, "latch_failed")
}

// Neither a password nor a caller's name is in a record.
func TestHandoverIsStoredWithoutSecrets(t *testing.T) {
	latch := &memoryLatch{records: map[Key]string{}}
	w := newHandoverWorld(t, latch)
	for i := range maxReaders {
		w.reads(fmt.Sprint("instance:vm", i), "a password")
	}
	for range maxReads - 1 {
		w.begins("instance:vm")
	}
	text := latch.records[mustKey(t, instance)]
	if len(text) > maxRecord || strings.Contains(text, "a password") || strings.Contains(text, ":vm") || !strings.Contains(text, `"handover":{`) {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	for old, with := range map[string]string{
		`"handover":{`: `"handover":{"more":1,`, `"seen":"`: `"seen":"x`, `"who":"`: `"who":"x`, `"reads":[{"token":"`: `"reads":[{"token":"x`,
	} {
		if _, err := DecodeRecord(mustKey(t, instance), []byte(strings.Replace(text, old, with, 1))); err == nil {
			t.Errorf("%s: decoded", with)
		}
	}
}

func TestOneLine(t *testing.T) {
	for answer, want := range map[string]string{
		"": "", "x": "x", "x y\n": "x y", "x\r\n": "x", "\n": "", "é☃": "é☃", " x ": " x ",
		"x\ny": "no", "x\n\n": "no", "x\r": "no", "\x00": "no", "x\t": "no", "\xff": "no", "x\u2028y": "no", "x\u00a0y": "no", "\x1b[2J": "no", "\ufeffx": "no",
	} {
		line, ok := OneLine([]byte(answer))
		if ok != (want != "no") || (ok && string(line) != want) {
			t.Errorf("%q: %q %t", answer, line, ok)
		}
	}
}

// FuzzOneLine: what passes is the answer but for one line end, and is printable.
func FuzzOneLine(f *testing.F) {
	f.Add([]byte("x\r\n"))
	f.Add([]byte("\xffx\n\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		line, ok := OneLine(answer)
		if !ok {
			return
		}
		switch end := strings.TrimPrefix(string(answer), string(line)); end {
		case "", "\n", "\r\n":
		default:
			t.Errorf("%q became %q", answer, line)
		}
		if strings.ContainsFunc(string(line), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q", line)
		}
	})
}
