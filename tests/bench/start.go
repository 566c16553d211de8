// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// startOf names what starts are measured of: plain Caddy, and Metaguard with the built-in
// policy, which has to be compiled and tried first.
var startVariants = []variant{
	{name: "start-caddy", title: "Caddy", site: plainSite},
	{name: "start-metaguard", title: "Metaguard, built-in policy", site: builtin, guarded: true, logs: decisionLogger},
}

// started is how long one of them takes from the start of its process to its first answer.
type started struct {
	Name  string  `json:"name"`
	Title string  `json:"title"`
	Time  summary `json:"start_ms"`
}

// starts measures each several times, in turns.
func (b *bench) starts(ctx context.Context) ([]started, error) {
	times := make([][]float64, len(startVariants))
	for n := range b.rounds {
		say("starting: round %d of %d", n+1, b.rounds)
		for i, v := range startVariants {
			took, err := b.startOnce(ctx, v)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			times[i] = append(times[i], float64(took.Nanoseconds())/1e6)
		}
	}
	all := make([]started, len(times))
	for i, v := range startVariants {
		all[i] = started{Name: v.name, Title: v.title, Time: summarize(times[i])}
	}
	return all, nil
}

func (b *bench) startOnce(ctx context.Context, v variant) (time.Duration, error) {
	s, err := b.start(ctx, v, b.metaguard)
	defer func() {
		if s != nil {
			b.drop(s)
		}
	}()
	if err != nil {
		return 0, err
	}
	var took time.Duration
	err = s.proxy().until(ctx, "its first answer is a wrong one", func() bool {
		_, err := s.ask(ctx, 1, patience, &everyone{crowd: b.crowd, until: 1})
		took = time.Since(s.proxy().began)
		return err == nil
	})
	return took, err
}
