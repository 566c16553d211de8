// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// summary is what many measurements of one thing come to.
type summary struct {
	Median float64 `json:"median"`
	// Spread is the distance between the quartiles: half of the measurements lie within it.
	Spread float64 `json:"spread"`
}

func summarize(values []float64) summary {
	return summary{Median: quantile(values, 0.5), Spread: quantile(values, 0.75) - quantile(values, 0.25)}
}

// quantile lies between the two values that are next to it, in proportion (as R's
// type 7 and most spreadsheets do). Of no values it is not a number.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// ratios divides round by round: what else the machine did in a round fell on both.
func ratios(values, base []float64) []float64 {
	all := make([]float64, 0, len(values))
	for i := range min(len(values), len(base)) {
		all = append(all, values[i]/base[i])
	}
	return all
}
