// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// print prints the tables, as Markdown. After each ± is half the distance between
// the quartiles.
func (r *report) print(w io.Writer) {
	fmt.Fprintln(w, "| | CPU per request, us | ratio | ratio, logging | requests per second | ratio | ratio, logging | p50, p99, p99.9, us | p99 ratio | memory idle, busy, MiB |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %.0f, %.0f, %.0f | %s | %.0f, %.0f |\n", row.Title,
			row.CPU.text("%.1f"), ratio(row.Plain, cpuRatio), ratio(row.Logged, cpuRatio),
			row.Rate.text("%.0f"), ratio(row.Plain, rateRatio), ratio(row.Logged, rateRatio),
			row.P50.Median, row.P99.Median, row.P999.Median, ratio(row.Logged, p99Ratio),
			row.Idle, row.Busy)
	}
	least, most := r.machine()
	fmt.Fprintf(w, "\n- %d processors, %d connections, medians of %d rounds; latencies at %.0f requests per second, which with clients and upstream kept the machine %.0f to %.0f %% busy.\n"+
		"- Ratios are of plain Caddy's, and of plain Caddy's with an access log (so is that of p99).\n", r.Processors, r.Clients, r.Rounds, r.Pace, least*100, most*100)
	fmt.Fprintf(w, "- Other programs used %.0f %% of the machine meanwhile.\n", r.Others*100)
	for _, s := range r.Starts {
		fmt.Fprintf(w, "- From start to first answer: %s: %s ms.\n", s.Title, s.Time.text("%.0f"))
	}
	for _, title := range r.Missing {
		fmt.Fprintf(w, "- Not on this machine: %s.\n", title)
	}
}

// machine is how much of the machine was used while latencies were measured, by variant.
func (r *report) machine() (least, most float64) {
	least = 1
	for _, row := range r.Rows {
		least, most = min(least, row.Machine.Median), max(most, row.Machine.Median)
	}
	return least, most
}

func cpuRatio(c *comparison) summary  { return c.CPU }
func rateRatio(c *comparison) summary { return c.Rate }
func p99Ratio(c *comparison) summary  { return c.P99 }

func ratio(c *comparison, of func(*comparison) summary) string {
	if c == nil {
		return ""
	}
	return of(c).text("%.2f")
}

func (s summary) text(format string) string {
	return fmt.Sprintf(format+" ± "+format, s.Median, s.Spread/2)
}
