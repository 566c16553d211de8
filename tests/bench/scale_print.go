// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"image/color"
	"io"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Columns of the tables.
const (
	costHead    = " %s: CPU per request, us | requests per second |"
	latencyHead = " %s: p50, p99, us; p99 ratio |"
)

func costCells(p *point) string {
	return " " + p.CPU.text("%.1f") + " | " + p.Rate.text("%.0f") + " |"
}

func latencyCells(p *point) string {
	return fmt.Sprintf(" %.0f, %.0f; %s |", p.P50.Median, p.P99.Median, p.P99Of.text("%.2f"))
}

// print prints a table, as Markdown.
func (s *series) print(w io.Writer) {
	head, cells := costHead, costCells
	if s.Latencies {
		head, cells = latencyHead, latencyCells
	}
	fmt.Fprintf(w, "\n| %s |", s.Axis)
	for _, l := range s.Lines {
		fmt.Fprintf(w, head, l.Title)
	}
	fmt.Fprint(w, "\n| ---: |", strings.Repeat(strings.Repeat(" ---: |", strings.Count(head, "|")), len(s.Lines)), "\n")
	for i, p := range s.Lines[0].Points {
		fmt.Fprintf(w, "| %d |", p.Size)
		for _, l := range s.Lines {
			fmt.Fprint(w, cells(&l.Points[i]))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	for _, f := range s.Facts {
		spread := ""
		if f.Spread > 0 {
			spread = fmt.Sprintf(" ± %.2f", f.Spread)
		}
		limit := ""
		if f.Limit > 0 {
			limit = fmt.Sprintf(" (at most %.2f)", f.Limit)
		}
		fmt.Fprintf(w, "- %s: %.2f%s%s\n", f.What, f.Found, spread, limit)
	}
}

// drawSeries draws all series beside one another.
func drawSeries(all []*series, path string) error {
	const width, height = 9 * vg.Centimeter, 7 * vg.Centimeter
	plots := make([]*plot.Plot, len(all))
	for i, s := range all {
		var err error
		if plots[i], err = s.plot(); err != nil {
			return err
		}
	}
	if len(plots) == 0 {
		return nil
	}
	canvas := vgsvg.New(width*vg.Length(len(plots)), height)
	tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: vg.Millimeter * 4, PadTop: vg.Millimeter, PadBottom: vg.Millimeter, PadRight: vg.Millimeter * 2}
	for i, c := range plot.Align([][]*plot.Plot{plots}, tiles, draw.New(canvas))[0] {
		plots[i].Draw(c)
	}
	return writeSVG(canvas, path)
}

// plot draws microseconds over size, which grows by factors.
func (s *series) plot() (*plot.Plot, error) {
	p := newPlot()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = s.Title, s.Axis, "us of CPU per request"
	drawn := func(at *point) float64 { return at.CPU.Median }
	if s.Latencies {
		p.Y.Label.Text = "p99, us"
		drawn = func(at *point) float64 { return at.P99.Median }
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min = 0
	for i, l := range s.Lines {
		points := make(plotter.XYs, len(l.Points))
		for j, at := range l.Points {
			points[j] = plotter.XY{X: float64(at.Size), Y: drawn(&at)}
			p.Y.Max = max(p.Y.Max, points[j].Y*1.3)
		}
		curve, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		curve.Color = []color.Color{ours, theirs, color.Gray{Y: 0x60}}[i%3]
		marks.Color, marks.Shape = curve.Color, draw.CircleGlyph{}
		p.Add(curve, marks)
		p.Legend.Add(l.Title, curve, marks)
	}
	p.Legend.Top = true
	return p, nil
}
