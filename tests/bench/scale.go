// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

// series is one drawing of --scale: what a request costs as something grows.
type series struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Axis is what grows.
	Axis string `json:"axis"`
	// Latencies: the points are of latencies, and not of what requests cost.
	Latencies bool   `json:"latencies,omitempty"`
	Lines     []line `json:"lines"`
	// Facts are what was measured beside it, in the order found.
	Facts []target `json:"facts,omitempty"`
}

// line is one variant's cost by size.
type line struct {
	Title  string  `json:"title"`
	Points []point `json:"points"`
}

// point is the cost at one size.
type point struct {
	Size int `json:"size"`
	// CPU is microseconds per request.
	CPU summary `json:"cpu_us,omitzero"`
	// Rate is requests per second.
	Rate summary `json:"requests_per_second,omitzero"`
	// Of is how many times that of the first size CPU is, round by round.
	Of summary `json:"cpu_of_first,omitzero"`
	// P50 and P99 are latencies in microseconds, P99Of how many times that of the first
	// line P99 is, round by round.
	P50   summary `json:"p50_us,omitzero"`
	P99   summary `json:"p99_us,omitzero"`
	P99Of summary `json:"p99_of_first_line,omitzero"`
}

// growth is how many times what the least size takes another one takes at most. Less is
// none: with more memory in use, the garbage collector runs less often.
func (l *line) growth() float64 {
	most := 0.0
	for _, p := range l.Points[1:] {
		most = max(most, p.Of.Median/l.Points[0].Of.Median)
	}
	return most
}

// Limits of --scale.
const (
	maxGrowth     = 1.2  // of a decision's cost, from ten entries to a million
	maxPerMillion = 300  // MiB of live memory
	maxActivation = 2.0  // times the usual p99, while a million entries are activated
	maxCopies     = 1.05 // of a document in memory, more than plain Caddy takes: one, and what measuring is off by
	maxDocument   = 10   // ms more than plain Caddy takes, for 1 MiB
)

// runScale measures and prints every series.
func (b *bench) runScale(ctx context.Context) error {
	var all []*series
	for _, one := range []struct {
		name    string
		measure func(context.Context) (*series, error)
	}{
		{"inventory", b.scaleInventory},
		{"grants", b.scaleGrants},
		{"bundle", b.scaleBundle},
		{"policy", b.scalePolicy},
		{"documents", b.scaleDocuments},
		{"connections", b.scaleConnections},
		{"latencies", b.scaleRates},
	} {
		if !b.only.MatchString(one.name) {
			continue
		}
		found, err := one.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		all = append(all, found)
	}
	table := func(w io.Writer) {
		for _, s := range all {
			s.print(w)
		}
	}
	draw := func(path string) error { return drawSeries(all, path) }
	if err := b.tell(ctx, "scale", all, table, draw); err != nil {
		return err
	}
	if !b.check {
		return nil
	}
	var targets []target
	for _, s := range all {
		for _, fact := range s.Facts {
			if fact.Limit > 0 {
				targets = append(targets, fact)
			}
		}
	}
	return judge(os.Stderr, targets)
}

// at is a running subject of a certain size.
type at struct {
	size    int
	subject *subject
	crowd   *crowd
	clients int
}

// lineOf measures subjects in turns.
func (b *bench) lineOf(ctx context.Context, title string, from stream, all []at) (line, error) {
	l := line{Title: title}
	cpu, rate := make([][]float64, len(all)), make([][]float64, len(all))
	for i, one := range all {
		if one.subject.from = from; i > 0 && one.subject == all[i-1].subject {
			continue
		}
		if err := b.warm(ctx, one.subject, one.crowd); err != nil {
			return l, err
		}
	}
	for n := range b.rounds {
		say("%s: round %d of %d", title, n+1, b.rounds)
		for i, one := range all {
			us, perSecond, err := b.once(ctx, one.subject, one.crowd, one.clients)
			if err != nil {
				return l, err
			}
			cpu[i], rate[i] = append(cpu[i], us), append(rate[i], perSecond)
		}
	}
	for i, one := range all {
		l.Points = append(l.Points, point{Size: one.size, CPU: summarize(cpu[i]), Rate: summarize(rate[i]), Of: summarize(ratios(cpu[i], cpu[0]))})
	}
	return l, nil
}

// sized starts a variant with files of its own.
func (b *bench) sized(ctx context.Context, name string, size int, files map[string]string) (*subject, error) {
	v := *find(name)
	v.name = fmt.Sprintf("%s-%d", v.name, size)
	v.files = func() map[string]string { return files }
	say("starting %s", v.name)
	return b.start(ctx, v, b.metaguard)
}
