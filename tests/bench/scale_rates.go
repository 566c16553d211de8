// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// rates are those at which latencies are measured, in requests per second.
var rates = []int{125, 250, 500, 1000, 2000}

// leastLatencies is how many latencies make a round, of which one in a hundred is slower
// than p99.
const leastLatencies = 1000

// scaleRates asks more and more often.
func (b *bench) scaleRates(ctx context.Context) (*series, error) {
	s := &series{Name: "latencies", Title: "The slowest hundredth by load", Axis: "requests per second", Latencies: true}
	crowd := newCrowd(1, scaleCallers, callerCount)
	var all []*subject
	defer func() {
		for _, subject := range all {
			b.drop(subject)
		}
	}()
	for _, name := range []string{plainLogged, "seen", "never"} {
		v := *find(name)
		subject, err := b.start(ctx, v, b.metaguard)
		if err != nil {
			return nil, err
		}
		all = append(all, subject)
		if err := b.warm(ctx, subject, crowd); err != nil {
			return nil, err
		}
		s.Lines = append(s.Lines, line{Title: strings.ReplaceAll(v.title, "`", "")})
	}
	for _, rate := range rates {
		p50, p99 := make([][]float64, len(all)), make([][]float64, len(all))
		for n := range b.rounds {
			say("%d requests per second: round %d of %d", rate, n+1, b.rounds)
			for i, subject := range all {
				latencies, err := b.latencies(ctx, subject, crowd, rate)
				if err != nil {
					return nil, err
				}
				p50[i], p99[i] = append(p50[i], quantile(latencies, 0.5)), append(p99[i], quantile(latencies, 0.99))
			}
		}
		for i := range all {
			s.Lines[i].Points = append(s.Lines[i].Points, point{
				Size: rate, P50: summarize(p50[i]), P99: summarize(p99[i]), P99Of: summarize(ratios(p99[i], p99[0])),
			})
		}
	}
	return s, nil
}

// latencies are those of one round, in microseconds.
func (b *bench) latencies(ctx context.Context, s *subject, crowd *crowd, rate int) ([]float64, error) {
	duration := max(b.duration, leastLatencies*time.Second/time.Duration(rate))
	from := s.askers(crowd, int(float64(rate)*duration.Seconds())+1)
	found, err := constantRate(ctx, s.address, s.right, b.connections, float64(rate), duration, from)
	if err != nil {
		return nil, fmt.Errorf("%d requests per second: %w", rate, s.proxy().explain(err))
	}
	return found.latencies, s.counted(len(found.latencies))
}
