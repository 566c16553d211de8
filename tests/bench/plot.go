// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	plotdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	ours   = color.RGBA{R: 0x2b, G: 0x6c, B: 0xb0, A: 0xff}
	theirs = color.RGBA{R: 0xa0, G: 0xae, B: 0xc0, A: 0xff}
	ink    = color.RGBA{R: 0x1a, G: 0x20, B: 0x2c, A: 0xff}
)

// draw draws CPU time per request as bars, in the table's order, with their ratio to plain
// Caddy. The SVG is the same for the same figures.
func (r *report) draw(path string) error {
	p := newPlot()
	p.Title.Text = "CPU time per request (times plain Caddy's)"
	p.X.Label.Text = fmt.Sprintf("microseconds; medians of %d rounds, %d connections, %d processors", r.Rounds, r.Clients, r.Processors)
	p.X.Min = 0
	labels := plotter.XYLabels{}
	names := make([]string, len(r.Rows))
	mine, others := make(plotter.Values, len(r.Rows)), make(plotter.Values, len(r.Rows))
	for i := range r.Rows {
		row, at := &r.Rows[i], len(r.Rows)-1-i
		names[at] = strings.ReplaceAll(row.Title, "`", "")
		if v := find(row.Name); v != nil && v.guarded {
			mine[at] = row.CPU.Median
		} else {
			others[at] = row.CPU.Median
		}
		text := fmt.Sprintf(" %.0f", row.CPU.Median)
		if row.Plain != nil {
			text += fmt.Sprintf(" (%.2f)", row.Plain.CPU.Median)
		}
		labels.XYs = append(labels.XYs, plotter.XY{X: row.CPU.Median, Y: float64(at) - 0.15})
		labels.Labels = append(labels.Labels, text)
		p.X.Max = math.Max(p.X.Max, row.CPU.Median*1.2) // room for the text
	}
	for _, bars := range []struct {
		values plotter.Values
		fill   color.Color
	}{{mine, ours}, {others, theirs}} {
		chart, err := plotter.NewBarChart(bars.values, vg.Points(14))
		if err != nil {
			return err
		}
		chart.Horizontal, chart.Color, chart.LineStyle.Width = true, bars.fill, 0
		p.Add(chart)
	}
	texts, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range texts.TextStyle {
		texts.TextStyle[i].Color = ink
	}
	p.Add(texts)
	p.NominalY(names...)
	canvas := vgsvg.New(25*vg.Centimeter, vg.Length(len(r.Rows))*vg.Points(24)+vg.Points(90))
	const margin = 4 * vg.Millimeter
	p.Draw(plotdraw.Crop(plotdraw.New(canvas), margin, -margin, margin, -margin))
	return writeSVG(canvas, path)
}

// newPlot is a plot on white, without serifs.
func newPlot() *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.BackgroundColor = color.White
	return p
}

func writeSVG(canvas io.WriterTo, path string) error {
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

// find finds a variant, or that of a binary before.
func find(name string) *variant {
	for i := range variants {
		if variants[i].name == name || variants[i].name+"@before" == name {
			return &variants[i]
		}
	}
	return nil
}
