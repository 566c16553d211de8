// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// print prints a table, as Markdown.
func (s *series) print(w io.Writer) {
	fmt.Fprintf(w, "\n| %s |", s.Axis)
	for _, l := range s.Lines {
		fmt.Fprintf(w, " %s: CPU per request, us | requests per second |", l.Title)
	}
	fmt.Fprint(w, "\n| ---: |")
	for range s.Lines {
		fmt.Fprint(w, " ---: | ---: |")
	}
	fmt.Fprintln(w)
	for i, p := range s.Lines[0].Points {
		fmt.Fprintf(w, "| %d |", p.Size)
		for _, l := range s.Lines {
			fmt.Fprintf(w, " %s | %s |", l.Points[i].CPU.text("%.1f"), l.Points[i].Rate.text("%.0f"))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	for _, f := range s.Facts {
		fmt.Fprintf(w, "- %s: %.2f (at most %.2f)\n", f.What, f.Found, f.Limit)
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

// plot draws microseconds per request over size, which grows by factors.
func (s *series) plot() (*plot.Plot, error) {
	p := newPlot()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = s.Title, s.Axis, "us of CPU per request"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min = 0
	for i, l := range s.Lines {
		points := make(plotter.XYs, len(l.Points))
		for j, at := range l.Points {
			points[j] = plotter.XY{X: float64(at.Size), Y: at.CPU.Median}
			p.Y.Max = max(p.Y.Max, at.CPU.Median*1.3)
		}
		drawn, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		drawn.Color = []color.Color{ours, theirs}[i%2]
		marks.Color, marks.Shape = drawn.Color, draw.CircleGlyph{}
		p.Add(drawn, marks)
		p.Legend.Add(l.Title, drawn, marks)
	}
	p.Legend.Top = true
	return p, nil
}
