// SPDX-License-Identifier: Apache-2.0

package module

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/metaguard/metaguard/module/decision"
)

// problem is one thing that is wrong.
type problem struct {
	// What is wrong, from a closed list of words.
	What string `json:"what"`
	// Site is where.
	Site string `json:"site"`
	// Detail says more, and what to do.
	Detail string `json:"detail"`
}

// The words for what is wrong.
const (
	problemNotReady  = string(decision.PolicyNotReady)
	problemUpstream  = string(decision.UpstreamUnreachable)
	problemLatch     = string(decision.LatchUnavailable)
	problemAudit     = "audit_mode"
	problemPolicy    = "policy_stale"
	problemInventory = "inventory_stale"
	problemKeys      = "keys_stale"
	problemOneOfMany = "upstream_degraded"
	problemCandidate = "candidate_stale"
	problemsLastGood = "the last good one is in force: "
)

// problemRank has the worst first: what keeps requests from being served, what
// lets requests pass that the policy refuses, and what is merely not up to date.
var problemRank = []string{
	problemNotReady, problemUpstream, problemLatch, problemAudit,
	problemPolicy, problemInventory, problemKeys, problemOneOfMany, problemCandidate,
}

// sortProblems puts the worst first.
func sortProblems(all []problem) {
	slices.SortStableFunc(all, func(a, b problem) int {
		return cmp.Compare(slices.Index(problemRank, a.What), slices.Index(problemRank, b.What))
	})
}

// problems says what is wrong with a site.
func (s *siteStatus) problems() []problem {
	var all []problem
	add := func(what, format string, details ...any) {
		all = append(all, problem{What: what, Site: s.Name, Detail: fmt.Sprintf(format, details...)})
	}
	switch {
	case s.Policy.Revision == "":
		add(problemNotReady, "every request is refused until a policy comes: %s", s.Policy.LastError)
	case s.Policy.LastError != "":
		add(problemPolicy, problemsLastGood+"%s", s.Policy.LastError)
	}
	if s.Candidate != nil && s.Candidate.LastError != "" {
		add(problemCandidate, problemsLastGood+"%s", s.Candidate.LastError)
	}
	s.upstreamProblems(add)
	if !s.Latch.Reachable {
		add(problemLatch, "passwords are neither read nor written: %s", s.Latch.Error)
	}
	if s.Mode == modeAudit {
		add(problemAudit, "what the policy refuses is forwarded: write `mode enforce`")
	}
	for _, source := range s.Identities {
		for _, inventory := range source.Inventories {
			if inventory.LastError != "" {
				add(problemInventory, problemsLastGood+"%s", inventory.LastError)
			}
		}
		if source.Keys != nil && source.Keys.LastError != "" {
			add(problemKeys, "identify %s, %d keys in force: %s", source.Source, source.Keys.Keys, source.Keys.LastError)
		}
	}
	return all
}

func (s *siteStatus) upstreamProblems(add func(what, format string, details ...any)) {
	if s.UpstreamError != "" {
		add(problemUpstream, "finding the server: %s", s.UpstreamError)
		return
	}
	what := problemUpstream
	if slices.ContainsFunc(s.Upstreams, func(server upstreamFound) bool { return server.Answers }) {
		what = problemOneOfMany
	}
	for _, server := range s.Upstreams {
		if !server.Answers {
			add(what, "%s: %s", server.Address, server.Error)
		}
	}
}
