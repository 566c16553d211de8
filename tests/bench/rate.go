// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// latency is what a round at a constant rate gave, in microseconds. A latency counts from
// the moment when the request ought to have been sent, whether or not a client was free
// then: a server that stalls makes all wait that would have come meanwhile (without this,
// the omission is coordinated with the stall, and the worst is not seen).
type latency struct {
	latencies []float64
	// late is how much of that the generator itself was late in sending.
	late []float64
}

// pacedClient is one connection of the constant-rate generator. One goroutine sends for
// all of them, at the right time; each has a reader of its own.
type pacedClient struct {
	conn net.Conn
	sent chan struct{}
	due  time.Time
	path int

	buffer    []byte
	latencies []float64
}

// constantRate asks at a constant rate and checks every answer. The first wrong one ends it.
func constantRate(ctx context.Context, address string, right *expectation, clients int, rate float64, duration time.Duration, from source) (latency, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns, err := connect(ctx, address, clients, duration)
	if err != nil {
		return latency{}, err
	}
	defer closeAll(conns)
	free := make(chan *pacedClient, clients)
	all := make([]*pacedClient, clients)
	var readers sync.WaitGroup
	for i, conn := range conns {
		c := &pacedClient{conn: conn, sent: make(chan struct{}, 1)}
		all[i] = c
		free <- c
		readers.Go(func() {
			if err := c.read(right, free); err != nil {
				cancel(err)
			}
		})
	}
	result := latency{late: make([]float64, 0, int(rate*duration.Seconds()))}
	err = result.send(ctx, free, rate, duration, from)
	for _, c := range all {
		close(c.sent)
	}
	if err != nil {
		closeAll(conns) // what is still awaited is of no use
	}
	readers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return latency{}, cause
	}
	for _, c := range all {
		result.latencies = append(result.latencies, c.latencies...)
	}
	return result, err
}

// send sends each request when it is due, by the next client that is free.
func (l *latency) send(ctx context.Context, free <-chan *pacedClient, rate float64, duration time.Duration, from source) error {
	pacer := newPacer()
	defer pacer.close()
	began := time.Now()
	for n := range int(rate * duration.Seconds()) {
		due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		pacer.until(due)
		var c *pacedClient
		select {
		case c = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		request, path, ok := from.next(0, c.buffer[:0])
		if !ok {
			return errors.New("there are too few requests for this rate")
		}
		c.buffer, c.path, c.due = request, path, due
		l.late = append(l.late, micros(time.Since(due)))
		c.sent <- struct{}{}
		if _, err := c.conn.Write(request); err != nil {
			return err
		}
	}
	return nil
}

// read reads an answer for each request that was sent.
func (c *pacedClient) read(right *expectation, free chan<- *pacedClient) error {
	reader := bufio.NewReader(c.conn)
	var got answer
	for range c.sent {
		if err := got.read(reader); err != nil {
			return err
		}
		c.latencies = append(c.latencies, micros(time.Since(c.due)))
		if err := right.check(&got, c.path); err != nil {
			return err
		}
		free <- c
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
