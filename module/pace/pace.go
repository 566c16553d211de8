// SPDX-License-Identifier: Apache-2.0

// Package pace keeps the load of something large from the processors that requests
// need. On a machine with few of them, a goroutine that reads a million entries holds
// one for as long as the scheduler lets it, before each of the several goroutines and
// processes that a request needs one after the other.
package pace

import (
	"io"
	"runtime"
	"time"
)

const (
	// between is how many steps are taken before anything is looked at. A step can take
	// long by itself: the tables of a map that grows are all full at about the same time.
	between = 8
	// free is how much work is done at once: an ordinary file is loaded within it.
	free = 20 * time.Millisecond
	// atOnce is how long work goes on without a rest, and rests how many times as
	// long as the work a rest is.
	atOnce = 500 * time.Microsecond
	rests  = 7
	// longest is the longest rest.
	longest = 50 * time.Millisecond
)

// Pace is that of one load, by one goroutine. The zero value goes on at once, but lets
// other goroutines of the process go first.
type Pace struct {
	steps  uint
	gentle bool
	hurry  <-chan struct{}
	since  time.Time // work was begun
	worked time.Duration
	rested time.Duration
}

// Gentle is for a load while requests are served: it takes an eighth of a processor, and
// eight times as long, but for what is loaded within 20 ms. When hurry is closed, it goes
// on at once.
func Gentle(hurry <-chan struct{}) *Pace { return &Pace{gentle: true, hurry: hurry} }

// IsGentle tells whether the load takes only a part of a processor.
func (p *Pace) IsGentle() bool { return p.gentle }

// Step is called for every entry that is read.
func (p *Pace) Step() {
	if p.steps++; p.steps%between == 0 {
		p.Look()
	}
}

// Rested is for how long nothing was done so far.
func (p *Pace) Rested() time.Duration { return p.rested }

// Reader is r, read at this pace.
func (p *Pace) Reader(r io.Reader) io.Reader { return &reader{r, p} }

// reader looks at the pace at each read.
type reader struct {
	io.Reader
	pace *Pace
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	r.pace.Look()
	return r.Reader.Read(b[:min(len(b), 32<<10)])
}

// Look is called in the place of Step for every entry that takes some time.
func (p *Pace) Look() {
	if !p.gentle {
		runtime.Gosched()
		return
	}
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
		return
	}
	worked := now.Sub(p.since)
	if worked < atOnce {
		return
	}
	if p.worked += worked; p.worked > free {
		p.rest(min(rests*worked, longest))
	}
	p.since = time.Now()
}

func (p *Pace) rest(long time.Duration) {
	began := time.Now()
	defer func() { p.rested += time.Since(began) }()
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-p.hurry:
		p.gentle = false
	case <-timer.C:
	}
}
