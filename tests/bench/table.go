// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// printTable prints a row for each variant, as Markdown.
func printTable(w io.Writer, rows []row) {
	fmt.Fprintln(w, "| | CPU per request, us | of plain Caddy's | of one that logs | requests per second | of plain Caddy's | of one that logs | memory, MiB |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %.1f ± %.1f | %s | %s | %.0f ± %.0f | %s | %s | %.0f |\n", r.Title, r.CPU.Median, r.CPU.Spread/2,
			ratio(r.Plain, func(c *comparison) float64 { return c.CPU.Median }), ratio(r.Logged, func(c *comparison) float64 { return c.CPU.Median }),
			r.Rate.Median, r.Rate.Spread/2,
			ratio(r.Plain, func(c *comparison) float64 { return c.Rate.Median }), ratio(r.Logged, func(c *comparison) float64 { return c.Rate.Median }),
			r.Memory)
	}
}

func ratio(c *comparison, of func(*comparison) float64) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", of(c))
}
