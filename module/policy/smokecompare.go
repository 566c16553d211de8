// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// compare finds what the policy allows or shows beyond the built-in one.
func (p *Policy) compare(questions []smoke, expected, got []Result, accepted []string, bad *findings) {
	c := comparison{accepted: accepted, found: map[string]bool{}}
	for i := range questions {
		question, want, result := &questions[i], &expected[i], &got[i]
		switch {
		case result.Reason != decision.PolicyAllow:
		case want.Reason != decision.PolicyAllow:
			c.allowed(question, result)
		case question.without != "", question.in.Resource.Kind == decision.KindListing && allowsMore(question, questions, expected, got):
		default:
			c.shown(question, want, result)
		}
	}
	*bad = append(*bad, c.findings...)
	for _, name := range accepted {
		if !c.found[name] {
			p.warnings = append(p.warnings, Finding{
				Code: CodeAcceptUnused, Message: fmt.Sprintf("data.metaguard.settings.accept names %q, which the smoke test does not find", name),
				Hint: "take it out, so that it accepts nothing later",
			})
		}
	}
}

// comparison collects findings. What one rule allows is one finding, however
// many requests it is seen in.
type comparison struct {
	accepted []string
	found    map[string]bool
	findings findings
	byRule   map[string]int      // where the rule's finding is
	names    map[string][]string // what it has to accept
}

// allowed notes that the policy allows what the built-in one refuses.
func (c *comparison) allowed(question *smoke, result *Result) {
	name := question.name()
	if question.without != "" && c.found[strings.TrimSuffix(name, " without "+question.without)] {
		return // allowed without any grant, which says it all
	}
	held := "without any grant"
	if question.without != "" {
		held = "without the grant " + question.without
	}
	c.report(name, result, fmt.Sprintf("the policy allows %s, %s, for the code %s", question.what(), held, strings.Join(result.Decision.Reasons, ", ")))
}

// shown notes what the policy does not hide and the built-in one does.
func (c *comparison) shown(question *smoke, want, result *Result) {
	for _, hidden := range hides(want.Decision.Redact) {
		if !slices.Contains(hides(result.Decision.Redact), hidden) {
			c.report(question.name()+" shows "+hidden, result,
				fmt.Sprintf("the policy shows %s in the answer to %s, which the built-in policy hides", hidden, question.what()))
		}
	}
}

func (c *comparison) report(name string, result *Result, message string) {
	if c.found[name] {
		return
	}
	c.found[name] = true
	if slices.Contains(c.accepted, name) {
		return
	}
	rule := strings.Join(result.Rules, " ")
	if c.byRule == nil {
		c.byRule, c.names = map[string]int{}, map[string][]string{}
	}
	at, known := c.byRule[rule]
	if !known {
		at = len(c.findings)
		c.byRule[rule] = at
		finding := Finding{Code: CodeSmokeTest, Message: message}
		if len(result.Rules) > 0 {
			finding.File, finding.Line = splitPlace(result.Rules[0])
		}
		c.findings = append(c.findings, finding)
	}
	c.names[rule] = append(c.names[rule], name)
	names := c.names[rule]
	if len(names) > 1 {
		first, _, _ := strings.Cut(c.findings[at].Message, "; and ")
		c.findings[at].Message = fmt.Sprintf("%s; and %d more", first, len(names)-1)
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	c.findings[at].Hint = "if all of it is meant, add to data.metaguard.settings.accept: " + strings.Join(quoted, ", ")
}

// allowsMore tells whether a caller may read something that the built-in policy
// refuses: its listings then show more for that reason.
func allowsMore(listing *smoke, questions []smoke, expected, got []Result) bool {
	for i := range questions {
		if questions[i].caller == listing.caller && questions[i].without == "" && questions[i].in.Resource.Action == decision.Read &&
			got[i].Reason == decision.PolicyAllow && expected[i].Reason != decision.PolicyAllow {
			return true
		}
	}
	return false
}

func hides(r decision.Redact) []string {
	return slices.Concat(r.JSON, r.Keys, r.Listing)
}
