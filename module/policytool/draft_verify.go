// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/metaguard/metaguard/module/policy"
)

// with loads the policy that is in force, with a plan added to its data.
func (d *drafter) with(ctx context.Context, p *plan) (*policy.Policy, error) {
	data, err := p.data()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "metaguard-draft-")
	if err != nil {
		return nil, fmt.Errorf("verifying the draft: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing secret is in it
	path := filepath.Join(dir, dataFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("verifying the draft: %w", err)
	}
	config := d.config
	config.Paths = append(slices.Clone(config.Paths), path)
	config.Samples = nil // the policy itself was tried already
	loaded, err := policy.Load(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("verifying the draft: %w", err)
	}
	return loaded, nil
}

// served tells whether a request gets from a policy what it needs.
func (d *drafter) served(ctx context.Context, p *policy.Policy, o *observed) (bool, policy.Result) {
	result := p.Judge(ctx, policy.Query{Input: o.input, Time: o.time, Answers: o.answers, Unbounded: true})
	if !result.Decision.Allow {
		return false, result
	}
	return !slices.Contains(o.needs, adminPassGrant) || !slices.Contains(result.Decision.Redact.Keys, adminPass), result
}

// verify judges every request of a plan, and gives up those that are denied
// all the same.
func (d *drafter) verify(ctx context.Context, p *plan) (refused int, err error) {
	wanted := d.wanted()
	if len(wanted) == 0 {
		return 0, nil
	}
	loaded, err := d.with(ctx, p)
	if err != nil {
		return 0, err
	}
	for _, o := range wanted {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if ok, result := d.served(ctx, loaded, o); !ok {
			o.problem, o.rules = problemOf(&result), sorted(result.Rules)
			refused++
		}
	}
	return refused, nil
}

// minimal takes away each grant that nothing needs, and notes for each other a
// request that is denied without it. Grants whose holders are never one caller
// are tried together.
func (d *drafter) minimal(ctx context.Context, p *plan) (*plan, error) {
	p.witnesses = map[grant]*observed{}
	for _, away := range rounds(p) {
		loaded, err := d.with(ctx, p.without(away))
		if err != nil {
			return nil, err
		}
		var needless []grant
		for _, g := range away {
			at := slices.IndexFunc(p.uses[g], func(o *observed) bool {
				ok, _ := d.served(ctx, loaded, o)
				return !ok
			})
			if at < 0 {
				needless = append(needless, g)
				continue
			}
			p.witnesses[g] = p.uses[g][at]
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p = p.without(needless)
	}
	return p, nil
}

// rounds divides the grants of a plan so that in each round a caller loses one
// at most: a caller has several roles, but only one value of each other
// attribute.
func rounds(p *plan) [][]grant {
	var all [][]grant
	start, index := 0, 0 // of the attribute's rounds, and the place within a holder's grants
	var last grant
	for _, g := range p.grants() {
		switch {
		case g.attribute != last.attribute:
			start, index = len(all), 0
		case g.holder == last.holder || g.attribute == "role":
			index++
		default:
			index = 0
		}
		last = g
		if start+index == len(all) {
			all = append(all, nil)
		}
		all[start+index] = append(all[start+index], g)
	}
	return all
}
