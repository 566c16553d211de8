// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	"github.com/metaguard/metaguard/module/decision"
)

// comparedParts are parts of an input that have one type, as a policy can tell them apart.
type comparedParts[T comparable] struct {
	parts []comparedPart[T]
	pairs [][2]int // the parts that are compared with each other
}

// comparedPart is one part, and where all of it matters.
type comparedPart[T comparable] struct {
	name  string
	of    func(*decision.Input) T
	all   bool         // always
	with  []T          // where it is one of these, with which it is compared
	knows func(T) bool // and where data has something under it; nil: nothing is looked up
}

// newComparedParts is about those of all parts that a policy reads. What it compares them
// with is text, and value reads it; false: no part is ever so.
func newComparedParts[T comparable](reads readSet, all map[string]func(*decision.Input) T, value func(string) (T, bool)) comparedParts[T] {
	var c comparedParts[T]
	for _, name := range sortedKeys(all) {
		reading := reads[name]
		if reading == nil {
			continue
		}
		part := comparedPart[T]{name: name, of: all[name], all: reading.all}
		for _, text := range sortedKeys(reading.texts) {
			if v, ok := value(text); ok {
				part.with = append(part.with, v)
			}
		}
		for i := range c.parts {
			if other := &c.parts[i]; reading.parts[other.name] && (!part.all || !other.all) {
				c.pairs = append(c.pairs, [2]int{i, len(c.parts)})
			}
		}
		c.parts = append(c.parts, part)
	}
	return c
}

// maxCompared is how many parts of one type there can be.
const maxCompared = 16

// write adds to a key what a policy can learn of an input.
func (c *comparedParts[T]) write(b keyBuffer, in *decision.Input, write func(keyBuffer, T) keyBuffer) keyBuffer {
	var values [maxCompared]T
	for i := range c.parts {
		part := &c.parts[i]
		value := part.of(in)
		values[i] = value
		matters := part.all || slices.Contains(part.with, value) || part.knows != nil && part.knows(value)
		if b = b.flag(matters); matters {
			b = write(b, value)
		}
	}
	for _, pair := range c.pairs {
		b = b.flag(values[pair[0]] == values[pair[1]])
	}
	return b
}
