// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// logBatch is how many bytes are written at one time, if there are as many.
	logBatch = 64 << 10
	// logCloseTimeout is how long the end of a log may take: a pipe that nobody
	// reads must not keep the process.
	logCloseTimeout = 5 * time.Second
)

// fullLogs are how many logs with `full refuse` have no room for a request's lines.
var fullLogs atomic.Int32

// logQueue holds lines back and writes many at one time, in a goroutine of its own.
// Whoever adds a line never waits for the writer. One that finds no room is dropped
// and counted.
type logQueue struct {
	to       io.WriteCloser
	size     int           // of all that waits and is being written, in bytes
	mark     int           // from which on it counts as full, if it may
	interval time.Duration // how long a line waits at most
	starting atomic.Bool   // no configuration was in force yet: lines go straight to the writer

	mu      sync.Mutex
	waiting []byte
	writing int // bytes
	spare   []byte
	full    bool // counts in fullLogs
	failing bool // the last batch was not written
	closed  bool // it is to end
	ended   bool // nothing waits any more: lines go straight to the writer
	stuck   bool // the writer takes no more

	filled  chan struct{} // there is something to write
	batch   chan struct{} // there is a batch of it
	closing chan struct{}
	done    chan struct{}
}

// newLogQueue begins to write to a writer, and closes it in the end. With refuse,
// requests are refused while the last eighth of it, which is for those on their way,
// is in use, and after a batch that could not be written: the lines of refused
// requests try again.
func newLogQueue(to io.WriteCloser, size int, interval time.Duration, refuse bool) *logQueue {
	q := &logQueue{
		to: to, size: size, interval: interval, mark: size - size/8,
		filled: make(chan struct{}, 1), batch: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	if !refuse {
		q.mark = size + 1 // never
	}
	go q.run()
	return q
}

// Write takes a line. It never fails: zap would report every line that does, on
// the standard error, and wait for it.
func (q *logQueue) Write(line []byte) (int, error) {
	if q.starting.Load() {
		if !reloading() {
			return q.writeNow(line), nil
		}
		q.starting.Store(false)
	}
	q.mu.Lock()
	if q.ended { // such as for the last words of the process
		stuck := q.stuck
		q.mu.Unlock()
		if !stuck {
			return q.writeNow(line), nil
		}
		logLinesDropped.failed.Inc()
		return len(line), nil
	}
	if len(q.waiting)+q.writing+len(line) > q.size {
		q.mu.Unlock()
		logLinesDropped.buffer.Inc()
		return len(line), nil
	}
	first := len(q.waiting) == 0
	q.waiting = append(q.waiting, line...)
	batch := len(q.waiting) >= logBatch
	q.noteFull()
	q.mu.Unlock()
	if first {
		signal(q.filled)
	}
	if batch {
		signal(q.batch)
	}
	return len(line), nil
}

// writeNow writes a line, or counts it.
func (q *logQueue) writeNow(line []byte) int {
	if _, err := q.to.Write(line); err != nil {
		logLinesDropped.failed.Inc()
	}
	return len(line)
}

// signal wakes up who waits, now or later.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// noteFull counts this log among those that are full, or not any more.
func (q *logQueue) noteFull() {
	full := len(q.waiting)+q.writing >= q.mark || q.failing && q.mark <= q.size
	switch {
	case full && !q.full:
		fullLogs.Add(1)
	case !full && q.full:
		fullLogs.Add(-1)
	}
	q.full = full
}

// run writes until the end.
func (q *logQueue) run() {
	defer close(q.done)
	timer := time.NewTimer(q.interval)
	timer.Stop()
	for {
		select {
		case <-q.closing:
			for q.flush() {
			}
			return
		case <-q.filled:
		}
		timer.Reset(q.interval)
		select {
		case <-q.closing:
		case <-q.batch:
		case <-timer.C:
		}
		timer.Stop()
		for q.flush() {
		}
	}
}

// flush writes what waits, and tells whether a whole batch has come meanwhile.
func (q *logQueue) flush() (more bool) {
	q.mu.Lock()
	lines := q.waiting
	q.waiting, q.writing = q.spare[:0], len(lines)
	q.spare = nil
	q.mu.Unlock()
	failing := false
	for rest := lines; len(rest) > 0; {
		batch := firstLines(rest)
		rest = rest[len(batch):]
		if _, err := q.to.Write(batch); err != nil {
			logLinesDropped.failed.Add(float64(bytes.Count(batch, newline)))
			failing = true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(lines) <= 4*logBatch { // what one burst needed is not kept
		q.spare = lines[:0]
	}
	if len(lines) > 0 {
		q.failing = failing && !q.stuck // what is at an end refuses nobody
	}
	q.writing = 0
	q.noteFull()
	if len(q.waiting) >= logBatch || q.closed && len(q.waiting) > 0 {
		return true
	}
	if len(q.waiting) > 0 {
		signal(q.filled)
	}
	q.ended = q.closed
	return false
}

var newline = []byte("\n")

// firstLines is as many whole lines as make a batch, at least one: a file that is
// rolled takes no more at one time than it may hold.
func firstLines(lines []byte) []byte {
	if len(lines) <= logBatch {
		return lines
	}
	if end := bytes.LastIndexByte(lines[:logBatch], '\n'); end >= 0 {
		return lines[:end+1]
	}
	if end := bytes.IndexByte(lines, '\n'); end >= 0 {
		return lines[:end+1]
	}
	return lines
}

// errLogStuck is the end of a log whose writer takes no more.
var errLogStuck = errors.New("the writer of a log takes no more: what waited is lost")

// Close writes what waits and closes the writer. Where the writer takes no more,
// what waits is lost, and counted.
func (q *logQueue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	q.mu.Unlock()
	close(q.closing)
	select {
	case <-q.done:
		q.mu.Lock()
		q.failing = false
		q.noteFull()
		q.mu.Unlock()
	case <-time.After(logCloseTimeout):
		q.mu.Lock()
		logLinesDropped.failed.Add(float64(bytes.Count(q.waiting, newline)))
		q.waiting, q.writing, q.ended, q.stuck, q.failing = nil, 0, true, true, false
		q.noteFull()
		q.mu.Unlock()
		go func() { _ = q.to.Close() }() // which may wait for the write that hangs
		return errLogStuck
	}
	return q.to.Close()
}
