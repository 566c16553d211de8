// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// runningPolicy is a policy of the running server.
type runningPolicy struct {
	Name      string    `json:"name"`
	Candidate bool      `json:"candidate"`
	LoadedAt  time.Time `json:"loaded_at"`
	LastError string    `json:"last_error"`
	Paths     []string  `json:"paths"`
}

// smoked is a policy that was tried, or why it was not.
type smoked struct {
	where string
	Smoke
	err error
}

// smoke tries every policy once: those of the running server where there is one,
// else those that the configuration names.
func (x *examination) smoke(ctx context.Context) []smoked {
	if x.smoked == nil {
		x.smoked = x.tryPolicies(ctx)
	}
	return x.smoked
}

func (x *examination) tryPolicies(ctx context.Context) []smoked {
	tried := []smoked{}
	if x.asked.live && len(x.policies) > 0 {
		var samples []decision.Input
		for _, g := range x.guards {
			samples = append(samples, dialect.Samples(g.dialect)...)
		}
		for _, p := range x.policies {
			if p.Candidate {
				continue
			}
			var result Smoke
			served, err := x.admin.get(ctx, "/metaguard/policies/"+url.PathEscape(p.Name), maxPolicy)
			if err == nil {
				result, err = x.needs.Smoke(ctx, x.settingOf(p), served, samples)
			}
			tried = append(tried, smoked{"the running policy " + p.Name, result, err})
		}
		return tried
	}
	for _, g := range x.guards {
		var result Smoke
		setting, err := json.Marshal(g.object["policy"])
		if err == nil {
			result, err = x.needs.Smoke(ctx, setting, nil, dialect.Samples(g.dialect))
		}
		where := x.config.whereOne(g.path+".policy", func(l textLine) bool { return l.begins("policy") && l.inside("metaguard") })
		tried = append(tried, smoked{where, result, err})
	}
	return tried
}

// settingOf is the setting that a running policy was made of.
func (x *examination) settingOf(p runningPolicy) json.RawMessage {
	for _, g := range x.guards {
		if !slices.Equal(listAt(g.object, "policy", "paths"), p.Paths) {
			continue
		}
		if setting, err := json.Marshal(g.object["policy"]); err == nil {
			return setting
		}
	}
	return nil
}

// checkPolicyAllows finds policies that allow what the built-in one refuses.
func checkPolicyAllows(ctx context.Context, x *examination, f *finder) {
	for _, tried := range x.smoke(ctx) {
		if tried.err != nil {
			f.unable(tried.where, "it cannot be tried: "+oneLine(tried.err.Error()))
			continue
		}
		for _, allowed := range tried.Allows {
			f.found(tried.where, oneLine(allowed))
		}
		if tried.Untried != "" {
			f.leftOut(tried.where, tried.Untried)
		}
	}
}

// checkPolicyAccepts tells what policies allow on purpose.
func checkPolicyAccepts(ctx context.Context, x *examination, f *finder) {
	for _, tried := range x.smoke(ctx) { // checkPolicyAllows tells what could not be tried
		if tried.err == nil && len(tried.Accepted) > 0 {
			f.found(tried.where, "the policy's data accepts: "+strings.Join(tried.Accepted, "; "))
		}
	}
}

// checkPolicyStale finds running policies whose files are broken by now.
func checkPolicyStale(_ context.Context, x *examination, f *finder) {
	for _, p := range x.policies {
		if p.LastError != "" {
			f.found("the running policy "+p.Name, fmt.Sprintf("its files cannot be loaded, and it decides as it was at %s: %s", p.LoadedAt.UTC().Format(time.RFC3339), oneLine(p.LastError)))
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
