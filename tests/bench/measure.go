// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// settling is how many requests a proxy gets before it is measured whose decisions are
// not remembered, so that what is made once is made.
const settling = 4000

// measure runs the rounds: as fast as it goes first, and then all at the same rate.
func (b *bench) measure(ctx context.Context) error {
	if err := b.rest(ctx); err != nil {
		return err
	}
	for _, s := range b.subjects {
		if err := b.warm(ctx, s, b.crowd); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	before, err := b.usage()
	if err != nil {
		return err
	}
	if err := b.interleave(ctx, "as fast as it goes", b.round); err != nil {
		return err
	}
	after, err := b.usage()
	if err != nil {
		return err
	}
	b.others = after.othersSince(before)
	for _, s := range b.subjects {
		var err error
		if s.busy, err = total(s, residentSize); err != nil {
			return err
		}
	}
	if b.pace == 0 {
		b.pace = b.commonRate()
	}
	return b.interleave(ctx, fmt.Sprintf("at %.0f requests per second", b.pace), b.paced)
}

// interleave gives every subject its turn in every round.
func (b *bench) interleave(ctx context.Context, what string, turn func(context.Context, *subject) error) error {
	for n := range b.rounds {
		say("%s: round %d of %d", what, n+1, b.rounds)
		for _, s := range b.subjects {
			if err := turn(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
		}
	}
	return nil
}

// rest asks each once and lets them all come to rest, to see how large they are when
// nobody asks.
func (b *bench) rest(ctx context.Context) error {
	for _, s := range b.subjects {
		if _, err := s.ask(ctx, 1, patience, &everyone{crowd: b.crowd, until: 1}); err != nil {
			return s.proxy().explain(err)
		}
	}
	say("at rest")
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, s := range b.subjects {
		var err error
		if s.idle, err = total(s, residentSize); err != nil {
			return err
		}
		if s.log == "" {
			continue
		}
		if err := os.Truncate(s.log, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// warm lets the runtime settle, and asks for everything once where it shall have been seen.
func (b *bench) warm(ctx context.Context, s *subject, crowd *crowd) error {
	say("warming %s", s.name)
	var from source = &everyone{crowd: crowd, until: settling}
	if s.from == always {
		from = newStrangers(settling)
	} else if s.guarded {
		from = &everyone{crowd: crowd, until: len(crowd.headers) * len(paths)}
	}
	result, err := s.ask(ctx, b.connections, 60*patience, from)
	if err != nil {
		return s.proxy().explain(err)
	}
	s.last = int(float64(result.requests) / result.elapsed.Seconds() * b.duration.Seconds())
	return s.counted(result.requests)
}

func (s *subject) ask(ctx context.Context, clients int, duration time.Duration, from source) (load, error) {
	return closedLoop(ctx, s.address, s.right, clients, duration, from)
}

// askers are the crowd, or as many strangers as there are requests.
func (s *subject) askers(crowd *crowd, requests int) source {
	if s.from == always {
		return newStrangers(requests)
	}
	return crowd
}

// round measures one subject for a while.
func (b *bench) round(ctx context.Context, s *subject) error {
	defer b.profile(ctx, s)()
	cpu, rate, err := b.once(ctx, s, b.crowd, b.connections)
	if err != nil {
		return err
	}
	s.cpu, s.rate = append(s.cpu, cpu), append(s.rate, rate)
	return nil
}

// once gives microseconds of CPU per request, and requests per second.
func (b *bench) once(ctx context.Context, s *subject, crowd *crowd, clients int) (cpu, rate float64, err error) {
	from := s.askers(crowd, s.last*3/2+settling)
	before, err := total(s, cpuTime)
	if err != nil {
		return 0, 0, err
	}
	result, err := s.ask(ctx, clients, b.duration, from)
	if err != nil {
		return 0, 0, s.proxy().explain(err)
	}
	if result.requests == 0 {
		return 0, 0, errors.New("not one request was answered in this round")
	}
	if err := s.counted(result.requests); err != nil {
		return 0, 0, err
	}
	after, err := total(s, cpuTime) // with what it did after its last answer
	if err != nil {
		return 0, 0, err
	}
	s.last = result.requests
	return float64((after - before).Nanoseconds()) / 1e3 / float64(result.requests), float64(result.requests) / result.elapsed.Seconds(), nil
}

// latencyShare is the part of what a proxy can do with all the machine at which latencies
// are measured. At half of it this program, the upstream and the proxy together leave so
// little of two processors that latencies are those of the queue for them.
const latencyShare = 1. / 4

// commonRate is that of the slowest that has no OPA server beside it: at what those can do,
// nothing else has anything to do.
func (b *bench) commonRate() float64 {
	slowest := b.subjects[0].rate
	for _, s := range b.subjects {
		if !slices.Contains(s.needs, "opa") && quantile(s.rate, 0.5) < quantile(slowest, 0.5) {
			slowest = s.rate
		}
	}
	return slices.Min(slowest) * latencyShare
}

// paced measures one subject's latency for a while.
func (b *bench) paced(ctx context.Context, s *subject) error {
	from := s.askers(b.crowd, int(b.pace*b.duration.Seconds())+1)
	before, err := b.usage()
	if err != nil {
		return err
	}
	result, err := constantRate(ctx, s.address, s.right, b.connections, b.pace, b.duration, from)
	if err != nil {
		return s.proxy().explain(err)
	}
	after, err := b.usage()
	if err != nil {
		return err
	}
	s.machine = append(s.machine, after.busySince(before))
	s.p50 = append(s.p50, quantile(result.latencies, 0.5))
	s.p99 = append(s.p99, quantile(result.latencies, 0.99))
	s.p999 = append(s.p999, quantile(result.latencies, 0.999))
	s.late = append(s.late, quantile(result.late, 0.99))
	return s.counted(len(result.latencies))
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
