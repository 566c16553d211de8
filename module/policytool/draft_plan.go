// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// grant is one drafted line: what is granted, and to whom.
type grant struct {
	holder
	name string
}

func compareGrants(a, b grant) int {
	return cmp.Or(
		cmp.Compare(slices.Index(attributes, a.attribute), slices.Index(attributes, b.attribute)),
		strings.Compare(a.value, b.value),
		strings.Compare(a.name, b.name),
	)
}

// plan is a draft: each grant with the requests that need it.
type plan struct {
	uses map[grant][]*observed
	// witnesses are denied where their grant is taken away.
	witnesses map[grant]*observed
}

// grants are in the order of their holders.
func (p *plan) grants() []grant {
	list := make([]grant, 0, len(p.uses))
	for g := range p.uses {
		list = append(list, g)
	}
	slices.SortFunc(list, compareGrants)
	return list
}

// without is the plan less some grants.
func (p *plan) without(away []grant) *plan {
	if len(away) == 0 {
		return p
	}
	rest := &plan{uses: make(map[grant][]*observed, len(p.uses)), witnesses: p.witnesses}
	for g, uses := range p.uses {
		rest.uses[g] = uses
	}
	for _, g := range away {
		delete(rest.uses, g)
	}
	return rest
}

// data is the plan as a data file.
func (p *plan) data() ([]byte, error) {
	values := map[string]map[string][]string{}
	for _, g := range p.grants() {
		if values[g.attribute] == nil {
			values[g.attribute] = map[string][]string{}
		}
		values[g.attribute][g.value] = append(values[g.attribute][g.value], g.name)
	}
	content, err := json.MarshalIndent(map[string]any{"metaguard": map[string]any{"grants": values}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the draft: %w", err)
	}
	return append(content, '\n'), nil
}

// use is how often and when something was asked for.
type use struct {
	count   int
	last    time.Time
	id      string
	callers map[string]bool
}

func usesOf(requests []*observed) use {
	u := use{callers: map[string]bool{}}
	for _, o := range requests {
		u.count += o.count
		u.callers[text(o.input, "caller", "id")] = true
		if !o.time.Before(u.last) {
			u.last, u.id = o.time, o.id
		}
	}
	return u
}

// draft finds the least grants. A grant can turn a denial into another one,
// where a rule is about who holds it: such requests are given up, and what is
// left is drafted again.
func (d *drafter) draft(ctx context.Context) (*plan, error) {
	for {
		p := d.plan()
		refused, err := d.verify(ctx, p)
		if err != nil {
			return nil, err
		}
		if refused == 0 {
			return d.minimal(ctx, p)
		}
	}
}

// wanted are the requests that grants are drafted for.
func (d *drafter) wanted() []*observed {
	return slices.DeleteFunc(d.list(), func(o *observed) bool {
		return len(o.needs) == 0 || o.problem != "" || o.leftOut
	})
}

// plan gives every request what it needs.
func (d *drafter) plan() *plan {
	p := &plan{uses: map[grant][]*observed{}}
	byRole := map[string][]*observed{}
	for _, o := range d.wanted() {
		for _, name := range o.needs {
			if o.holder.value == "" {
				byRole[name] = append(byRole[name], o)
				continue
			}
			g := grant{o.holder, name}
			p.uses[g] = append(p.uses[g], o)
		}
	}
	for name, requests := range byRole {
		for role, uses := range d.cover(requests) {
			p.uses[grant{holder{"role", role}, name}] = uses
		}
	}
	return p
}

// cover chooses a few roles that between them reach all these requests: always
// the one that most of what is left has.
func (d *drafter) cover(requests []*observed) map[string][]*observed {
	chosen := map[string][]*observed{}
	for left := requests; len(left) > 0; {
		having := map[string][]*observed{}
		for _, o := range left {
			for _, role := range d.rolesOf(o.input) {
				having[role] = append(having[role], o)
			}
		}
		best := ""
		for role, uses := range having {
			if n := len(having[best]); best == "" || len(uses) > n || len(uses) == n && role < best {
				best = role
			}
		}
		chosen[best] = nil
		left = slices.DeleteFunc(slices.Clone(left), func(o *observed) bool {
			return slices.Contains(d.rolesOf(o.input), best)
		})
	}
	for role := range chosen {
		for _, o := range requests {
			if slices.Contains(d.rolesOf(o.input), role) {
				chosen[role] = append(chosen[role], o)
			}
		}
	}
	return chosen
}
