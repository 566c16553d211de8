// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// The bounds of a batch, which make the memory that a log takes independent of
// its length.
const (
	batchLines = 64
	batchBytes = 256 << 10
)

// batch is some lines on their way to a worker.
type batch struct {
	lines []line
	text  []byte
}

func (b *batch) add(l line) {
	start := len(b.text)
	b.text = append(b.text, l.text...)
	l.text = b.text[start:len(b.text):len(b.text)]
	b.lines = append(b.lines, l)
}

func (b *batch) full() bool { return len(b.lines) >= batchLines || len(b.text) >= batchBytes }

// readParallel is readLogs with one goroutine for each of the functions: every
// decision is given to one of them, in no order. It adds the bytes that it has
// read to read.
func readParallel(ctx context.Context, paths []string, read *atomic.Int64, each []func(*record) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	batches := make(chan *batch, len(each))
	free := sync.Pool{New: func() any { return &batch{} }}
	unreadable := make([]unreadableError, len(each))

	var workers sync.WaitGroup
	for i, do := range each {
		workers.Go(func() {
			p := newParser()
			for b := range batches {
				for _, l := range b.lines {
					if ctx.Err() != nil {
						break // whoever ended it says why
					}
					if err := p.each(l, &unreadable[i], do); err != nil {
						stop(err)
					}
				}
				b.lines, b.text = b.lines[:0], b.text[:0]
				if cap(b.text) <= 2*batchBytes {
					free.Put(b)
				}
			}
		})
	}

	next := free.Get().(*batch)
	send := func() error {
		select {
		case batches <- next:
			next = free.Get().(*batch)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := scanLogs(ctx, paths, read, func(l line) error {
		if next.add(l); !next.full() {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	close(batches)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return merge(paths, unreadable).orNil()
}

// merge puts together what several workers could not read, in the log's order.
func merge(paths []string, parts []unreadableError) *unreadableError {
	all := &unreadableError{}
	for _, part := range parts {
		all.Count += part.Count
		all.First = append(all.First, part.First...)
	}
	slices.SortFunc(all.First, func(a, b *lineError) int {
		return cmp.Or(
			cmp.Compare(slices.Index(paths, a.File), slices.Index(paths, b.File)),
			cmp.Compare(a.Line, b.Line),
		)
	})
	all.First = all.First[:min(len(all.First), maxNamedLines)]
	return all
}
