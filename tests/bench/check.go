// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// Targets: what Metaguard may cost.
const (
	maxSeen      = 1.15 // times plain Caddy's CPU per request
	maxNever     = 1.5
	minSeenRate  = 0.87 // of plain Caddy's requests per second
	minNeverRate = 0.67
	maxP99       = 1.3 // times plain Caddy's
	maxIdle      = 40  // MiB more than plain Caddy
	maxStart     = 300 // ms
)

// target is one of them, and what was found.
type target struct {
	What  string  `json:"what"`
	Found float64 `json:"found"`
	// Spread is half the distance between the quartiles, where it was found more than once.
	Spread float64 `json:"spread,omitempty"`
	// Limit is 0 for what has none.
	Limit float64 `json:"limit"`
	// Least: the limit is the least that it may be.
	Least bool `json:"least,omitempty"`
}

func (t *target) met() bool {
	if t.Least {
		return t.Found >= t.Limit
	}
	return t.Found <= t.Limit
}

// targets compares with base, one of the two plain Caddys.
func (r *report) targets(base string) (all []target, err error) {
	plainRow := r.row(base)
	if plainRow == nil {
		return nil, fmt.Errorf("--against %s: there is no such variant to compare with", base)
	}
	for _, t := range []struct {
		name            string
		maxCPU, minRate float64
	}{{"seen", maxSeen, minSeenRate}, {"never", maxNever, minNeverRate}} {
		row := r.row(t.name)
		if row == nil {
			return nil, fmt.Errorf("--check needs the variant %s: --only leaves it out", t.name)
		}
		c := row.Plain
		if base == plainLogged {
			c = row.Logged
		}
		all = append(all,
			target{What: t.name + ": CPU per request, ratio", Found: c.CPU.Median, Limit: t.maxCPU},
			target{What: t.name + ": requests per second, ratio", Found: c.Rate.Median, Limit: t.minRate, Least: true},
			target{What: t.name + ": p99, ratio", Found: c.P99.Median, Limit: maxP99},
			target{What: t.name + ": idle memory, MiB more", Found: row.Idle - plainRow.Idle, Limit: maxIdle})
	}
	for _, s := range r.Starts {
		if s.Name == "start-metaguard" {
			all = append(all, target{What: "start to first answer, ms", Found: s.Time.Median, Limit: maxStart})
		}
	}
	return all, nil
}

// judge prints every target, and gives an error that counts those that were missed.
func judge(w io.Writer, all []target) error {
	missed := 0
	for _, t := range all {
		verdict, limit := "ok    ", "at most"
		if t.Least {
			limit = "at least"
		}
		if !t.met() { // also what is not a number
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(w, "%s %s: %.2f, %s %.2f\n", verdict, t.What, t.Found, limit, t.Limit)
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d targets were missed", missed, len(all))
	}
	return nil
}
