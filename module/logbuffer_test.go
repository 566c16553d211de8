// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/metaguard/metaguard/module/decision"
)

// sink is a log that keeps what it gets, and waits where it is told to.
type sink struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
	most   int
	closed bool
	gate   chan struct{} // nil: open
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes++
	s.most = max(s.most, len(p))
	return s.text.Write(p)
}

func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *sink) lines() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), "\n")
}

// Every line that was taken arrives, whole and in its order, in far fewer writes,
// and none waits longer than it may.
func TestLogQueue(t *testing.T) {
	to := new(sink)
	q := newLogQueue(to, 1<<20, time.Millisecond, false)
	_, _ = q.Write([]byte("first\n"))
	eventually(t, "the first line is written by itself", func() bool { return to.lines() == 1 })
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 1000 {
				if written, err := fmt.Fprintf(q, "%d %04d %s\n", i, n, strings.Repeat("x", 100)); err != nil || written != 108 {
					t.Errorf("%d %v", written, err)
				}
			}
		})
	}
	all.Wait()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(to.text.String()) {
		who, rest, _ := strings.Cut(line, " ")
		if who == "first\n" {
			continue
		}
		if !strings.HasPrefix(rest, fmt.Sprintf("%04d ", seen[who])) || len(line) != 108 {
			t.Fatalf("%q after %d of its lines", line, seen[who])
		}
		seen[who]++
	}
	if len(seen) != 4 || to.lines() != 4001 || !to.closed {
		t.Errorf("%v, %d lines, closed %v", seen, to.lines(), to.closed)
	}
	if to.writes > 2000 || to.most > logBatch {
		t.Errorf("%d writes of up to %d bytes", to.writes, to.most)
	}
	_, _ = q.Write([]byte("last words\n"))
	if !strings.HasSuffix(to.text.String(), "\nlast words\n") {
		t.Error("what comes after the end is not written")
	}
}

// A writer that hangs holds nobody up: what finds no room is dropped and counted,
// and from a mark on the log counts as full, if it may.
func TestLogQueueIsFull(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		to := &sink{gate: make(chan struct{})}
		dropped := testutil.ToFloat64(logLinesDropped.buffer)
		line := []byte(strings.Repeat("x", 1023) + "\n")
		q := newLogQueue(to, 64<<10, time.Hour, refuse)
		full := 0
		for range 100 {
			_, _ = q.Write(line)
			full += int(fullLogs.Load())
		}
		if got := testutil.ToFloat64(logLinesDropped.buffer) - dropped; got != 36 {
			t.Errorf("%v lines dropped", got)
		}
		if refuse != (full == 100-55) || !refuse && full != 0 {
			t.Errorf("refuse %v: full for %d lines", refuse, full)
		}
		x := &exchange{h: new(Handler)}
		if refuse {
			if refusal := x.record(nil); refusal == nil || refusal.Reason != decision.LogFull || x.verdict != decision.Deny {
				t.Errorf("%v, %v", refusal, x.verdict)
			}
		}
		close(to.gate)
		eventually(t, "there is room again", func() bool { return to.lines() == 64 && fullLogs.Load() == 0 })
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What a writer refuses is counted.
func TestLogQueueThatFails(t *testing.T) {
	failed := testutil.ToFloat64(logLinesDropped.failed)
	q := newLogQueue(&sink{err: errors.New("the disk is full")}, 1<<20, time.Hour, false)
	for range 1000 {
		if _, err := q.Write([]byte(strings.Repeat("x", 99) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	_ = q.Close()
	if got := testutil.ToFloat64(logLinesDropped.failed) - failed; got != 1000 {
		t.Errorf("%v lines", got)
	}
}

// Where the lines of each request must be written, none is taken while they are not.
func TestLogQueueRefusesWhatItCannotWrite(t *testing.T) {
	to := &sink{err: errors.New("the disk is full")}
	q := newLogQueue(to, 1<<20, time.Millisecond, true)
	line := []byte("x\n")
	write := func() { _, _ = q.Write(line) } // never fails
	write()
	eventually(t, "requests are refused", func() bool { return fullLogs.Load() == 1 })
	to.mu.Lock()
	to.err = nil
	to.mu.Unlock()
	write() // of a request that is refused
	eventually(t, "requests are served again", func() bool { return fullLogs.Load() == 0 && to.lines() == 1 })
	to.mu.Lock()
	to.err = errors.New("the disk is full")
	to.mu.Unlock()
	write()
	eventually(t, "requests are refused again", func() bool { return fullLogs.Load() == 1 })
	if _ = q.Close(); fullLogs.Load() != 0 {
		t.Error("a log that was closed refuses requests")
	}
}

// A line that comes while the log ends, and its writer hangs, waits for nothing, and is
// written.
func TestLogQueueWhileItEnds(t *testing.T) {
	to := &sink{gate: make(chan struct{})}
	q := newLogQueue(to, 1<<20, time.Hour, false)
	write := func(line string) { _, _ = q.Write([]byte(line)) } // never fails
	write("first\n")
	ended := make(chan error)
	go func() { ended <- q.Close() }()
	eventually(t, "the log ends", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.writing > 0
	})
	write("last words\n")
	close(to.gate)
	if err := <-ended; err != nil || to.text.String() != "first\nlast words\n" {
		t.Errorf("%v, %q", err, to.text.String())
	}
}

// A line that comes after the end is written, or counted, and waits for no writer that
// takes no more.
func TestLogQueueAfterItsEnd(t *testing.T) {
	to := new(sink)
	q := newLogQueue(to, 1<<20, time.Hour, false)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Write([]byte("last words\n")); err != nil || to.lines() != 1 {
		t.Errorf("%v, %d lines", err, to.lines())
	}
	failed := testutil.ToFloat64(logLinesDropped.failed)
	to.err = errors.New("closed")
	if _, err := q.Write([]byte("x\n")); err != nil {
		t.Error(err)
	}
	q.stuck, to.gate = true, make(chan struct{})
	if _, err := q.Write([]byte("x\n")); err != nil {
		t.Error(err)
	}
	if got := testutil.ToFloat64(logLinesDropped.failed) - failed; got != 2 {
		t.Errorf("%v lines are counted as lost", got)
	}
}

// A batch ends with a line.
func TestFirstLines(t *testing.T) {
	short, long := strings.Repeat("x", 999)+"\n", strings.Repeat("y", 2*logBatch)+"\n"
	for name, test := range map[string]struct {
		lines string
		want  int
	}{
		"few":             {short, 1000},
		"many":            {strings.Repeat(short, 100), 65000},
		"a long one":      {long + short, 2*logBatch + 1},
		"one and a long":  {short + long, 1000},
		"no end":          {strings.Repeat("z", 2*logBatch), 2 * logBatch},
		"exactly a batch": {strings.Repeat("x", logBatch-1) + "\n" + short, logBatch},
	} {
		if got := len(firstLines([]byte(test.lines))); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}

// The settings are read, defaults are set, and what cannot work is refused.
func TestLogBuffer(t *testing.T) {
	for name, test := range map[string]struct{ text, key, problem string }{
		"nothing":        {"metaguard_buffered", "metaguard_buffered 8388608 100ms drop std:err", ""},
		"all":            {"metaguard_buffered {\noutput stdout\nsize 1MiB\ninterval 1s\nfull refuse\n}", "metaguard_buffered 1048576 1s refuse std:out", ""},
		"discard":        {"metaguard_buffered {\noutput discard\n}", "metaguard_buffered 8388608 100ms drop discard", ""},
		"a buffer twice": {"metaguard_buffered {\noutput metaguard_buffered\n}", "", "one buffer is enough"},
		"no output":      {"metaguard_buffered {\noutput\n}", "", "wrong argument count"},
		"unknown output": {"metaguard_buffered {\noutput nowhere\n}", "", "nowhere"},
		"an argument":    {"metaguard_buffered stderr", "", "wrong argument count"},
		"small":          {"metaguard_buffered {\nsize 1KiB\n}", "", "size 1024"},
		"slow":           {"metaguard_buffered {\ninterval 1m\n}", "", "at most 10s"},
		"wait":           {"metaguard_buffered {\nfull wait\n}", "", "full"},
		"twice":          {"metaguard_buffered {\nfull drop\nfull drop\n}", "", "given twice"},
	} {
		key, err := openedLog(t, test.text)
		if key != test.key || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %q %v", name, key, err)
		}
	}
}

func openedLog(t *testing.T, text string) (key string, _ error) {
	b := new(LogBuffer)
	if err := b.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		return "", err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := b.Provision(ctx); err != nil {
		return "", err
	}
	return b.WriterKey(), b.Cleanup()
}

// eventually waits for something that happens in another goroutine.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not: " + what)
		}
	}
}

func BenchmarkLogQueue(b *testing.B) {
	q := newLogQueue(&sink{gate: closedGate()}, 1<<30, time.Hour, false)
	line := []byte(strings.Repeat("x", 999) + "\n")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = q.Write(line)
	}
}

func closedGate() chan struct{} {
	gate := make(chan struct{})
	close(gate)
	return gate
}
