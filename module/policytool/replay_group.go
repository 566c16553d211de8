// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/policy"
)

// The bounds of what is kept of a replay.
const (
	maxGroups  = 1 << 17
	maxSamples = 3
	maxListed  = 8
)

var errTooManyGroups = fmt.Errorf("more than %d kinds of changes: replay a part of the log", maxGroups)

// sample is one decision of a group.
type sample struct {
	ID   string    `json:"decision_id"`
	Time time.Time `json:"time"`
	File string    `json:"file"`
	Line int       `json:"line"`
	// Error is why there is no decision any more.
	Error string `json:"error,omitempty"`
}

// group is all decisions that changed alike.
type group struct {
	// Name is the same in each replay, so that it can be accepted.
	Name     string `json:"name"`
	Change   change `json:"change"`
	Resource string `json:"resource"`
	Caller   string `json:"caller"`
	Old      string `json:"old"`
	New      string `json:"new"`
	// Hides and Shows are what is hidden now and was not, and the reverse.
	Hides    []string  `json:"hides,omitempty"`
	Shows    []string  `json:"shows,omitempty"`
	Count    int       `json:"count"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	OldCodes []string  `json:"old_codes,omitempty"`
	NewCodes []string  `json:"new_codes,omitempty"`
	OldRules []string  `json:"old_rules,omitempty"`
	NewRules []string  `json:"new_rules,omitempty"`
	Samples  []sample  `json:"samples"`
	Accepted bool      `json:"accepted"`
}

// newGroup makes a group of one decision.
func newGroup(r *record, c change, before, after outcome, result *policy.Result) *group {
	caller := callerOf(r.Input)
	g := &group{
		Change: c, Resource: resourceOf(r.Input), Caller: caller.text, Old: before.String(), New: after.String(),
		Count: 1, First: r.Time, Last: r.Time,
		OldCodes: least(before.codes), NewCodes: least(after.codes), OldRules: least(sorted(before.rules)), NewRules: least(sorted(after.rules)),
		Samples: []sample{{ID: r.ID, Time: r.Time, File: r.File, Line: r.Line}},
	}
	if result.Err != nil {
		g.Samples[0].Error = result.Err.Error()
	}
	var what, why string
	switch c {
	default:
		what, why = g.Old+"->"+g.New, escape(after.codes...)
	case redactChanged:
		g.Hides, g.Shows = without(after.hides, before.hides), without(before.hides, after.hides)
		what, why = c.String(), strings.Join(append(signed("+", g.Hides), signed("-", g.Shows)...), ",")
	case codesChanged:
		what, why = c.String(), escape(before.codes...)+"->"+escape(after.codes...)
	}
	g.Name = strings.Join([]string{g.Resource, what, caller.name, why}, "/")
	return g
}

// add puts another group of the same name into this one. What is kept does not
// depend on the order.
func (g *group) add(other *group) {
	g.Count += other.Count
	if other.First.Before(g.First) {
		g.First = other.First
	}
	if other.Last.After(g.Last) {
		g.Last = other.Last
	}
	g.OldCodes, g.NewCodes = least(g.OldCodes, other.OldCodes), least(g.NewCodes, other.NewCodes)
	g.OldRules, g.NewRules = least(g.OldRules, other.OldRules), least(g.NewRules, other.NewRules)
	g.Samples = append(g.Samples, other.Samples...)
	slices.SortFunc(g.Samples, func(a, b sample) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	g.Samples = g.Samples[:min(len(g.Samples), maxSamples)]
}

// least puts lists together and keeps the first few in order.
func least(lists ...[]string) []string {
	all := lists[0]
	if len(lists) > 1 && !slices.Equal(lists[0], lists[1]) {
		all = sorted(slices.Concat(lists...))
	}
	return all[:min(len(all), maxListed)]
}

// groups are found by their names.
type groups map[string]*group

func (gs groups) add(g *group) error {
	if known, ok := gs[g.Name]; ok {
		known.add(g)
		return nil
	}
	if len(gs) >= maxGroups {
		return errTooManyGroups
	}
	gs[g.Name] = g
	return nil
}

// list gives the gravest first.
func (gs groups) list() []*group {
	list := make([]*group, 0, len(gs))
	for _, g := range gs {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(
			cmp.Compare(a.Change, b.Change),
			strings.Compare(a.Resource, b.Resource),
			cmp.Compare(b.Count, a.Count),
			strings.Compare(a.Name, b.Name),
		)
	})
	return list
}

// resourceOf is what was asked for, such as password:read.
func resourceOf(input ast.Value) string {
	return escape(text(input, "resource", "kind")) + ":" + escape(text(input, "resource", "action"))
}

// signed puts a sign before each word.
func signed(sign string, words []string) []string {
	list := make([]string, len(words))
	for i, word := range words {
		list[i] = sign + escape(word)
	}
	return list
}

// escape makes one part of a name of some words: no white space, no slash, and
// what joins them is in none.
func escape(words ...string) string {
	var b strings.Builder
	for i, word := range words {
		if i > 0 {
			b.WriteByte('+')
		}
		for j := range len(word) {
			if c := word[j]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-.:@", c) >= 0 {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
	}
	if b.Len() == 0 {
		return "-"
	}
	return b.String()
}
