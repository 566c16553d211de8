// SPDX-License-Identifier: Apache-2.0

package pace

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

// work keeps a processor busy, with a step for each of about a microsecond.
func work(p *Pace, long time.Duration) (took time.Duration) {
	began := time.Now()
	for worked := time.Duration(0); worked < long; {
		start := time.Now()
		for time.Since(start) < time.Microsecond {
		}
		worked += time.Since(start)
		p.Step()
	}
	return time.Since(began)
}

// What is short is done at once, and what is long rests for most of the time.
func TestGentle(t *testing.T) {
	p := Gentle(nil)
	work(p, free/2)
	if p.worked > free {
		t.Errorf("it worked for %v", p.worked)
	}
	if took := work(p, 4*free); took < 6*free { // much longer on a busy machine, never shorter
		t.Errorf("work of %v took %v", 4*free, took)
	}
}

// Who is in a hurry gets it done.
func TestHurry(t *testing.T) {
	hurry := make(chan struct{})
	p := Gentle(hurry)
	p.worked = free
	close(hurry)
	work(p, 2*atOnce)
	for p.gentle { // the first look that rests
		work(p, atOnce)
	}
}

// A reader reads all that there is.
func TestReader(t *testing.T) {
	content := bytes.Repeat([]byte("metaguard\n"), 20_000)
	for _, p := range []*Pace{new(Pace), Gentle(nil)} {
		if err := iotest.TestReader(p.Reader(bytes.NewReader(content)), content); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(p.Reader(bytes.NewReader(content))); err != nil || !bytes.Equal(got, content) {
			t.Error("it read something else", err)
		}
	}
}
