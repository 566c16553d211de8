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
	c := comparison{accepted: accepted, found: map[string]bool{}, entrypoint: p.entrypointPlace(), replaces: p.replaces}
	for i := range questions {
		question, want, result := &questions[i], &expected[i], &got[i]
		switch {
		case result.Reason != decision.PolicyAllow:
		case want.Reason != decision.PolicyAllow:
			c.allowed(question, result)
		case question.without != "" && question.without != adminPass,
			question.in.Resource.Kind == decision.KindListing && (question.without != "" || allowsMore(question, questions, expected, got)):
		default:
			c.shown(question, want, result)
		}
	}
	bad.add(c.findings...)
	p.warnOfErrors(questions, expected, got)
	for _, name := range accepted {
		if !c.found[name] {
			p.warnings.add(Finding{
				Code: CodeAcceptUnused, Message: fmt.Sprintf("data.metaguard.settings.accept names %q, which the smoke test does not find", name),
				Hint: "take it out, so that it accepts nothing later",
			})
		}
	}
}

// warnOfErrors tells of samples that the policy cannot decide. It refuses them,
// so that this is no reason to refuse the policy.
func (p *Policy) warnOfErrors(questions []smoke, expected, got []Result) {
	told := map[string]bool{}
	for i := range questions {
		result := &got[i]
		if result.Reason != decision.PolicyError && result.Reason != decision.PolicyTimeout || expected[i].Reason == result.Reason {
			continue
		}
		text := string(result.Reason)
		if result.Err != nil {
			text += ": " + result.Err.Error()
		}
		if told[text] || len(told) > maxSmokeErrors {
			continue
		}
		told[text] = true
		p.warnings.add(Finding{
			Code: CodeSmokeTest, Message: fmt.Sprintf("the policy cannot decide %s, which is then refused: %s", questions[i].what(), text),
		})
	}
}

// maxSmokeErrors bounds how many different errors are told.
const maxSmokeErrors = 5

// entrypointPlace is where the decision is.
func (p *Policy) entrypointPlace() string {
	for _, rule := range p.compiler.GetRulesWithPrefix(p.entrypoint) {
		return placeOf(rule.Loc())
	}
	return ""
}

// comparison collects findings. What one rule allows is one finding, however
// many requests it is seen in.
type comparison struct {
	accepted []string
	found    map[string]bool
	findings []Finding
	// entrypoint is the place of the decision, for what has no code.
	entrypoint string
	replaces   bool
	byRule     map[string]int      // where the rule's finding is
	names      map[string][]string // what it has to accept
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
	why := "without a code"
	if len(result.Decision.Reasons) > 0 {
		why = "for the code " + strings.Join(result.Decision.Reasons, ", ")
	}
	c.report(name, result, fmt.Sprintf("the policy allows %s, %s, %s", question.what(), held, why))
}

// shown notes what the policy does not hide and the built-in one does.
func (c *comparison) shown(question *smoke, want, result *Result) {
	for _, hidden := range hides(want.Decision.Redact) {
		if c.found[strings.TrimSuffix(question.name(), " without "+question.without)+" shows "+hidden] {
			continue // shown without any grant, which says it all
		}
		if !slices.Contains(hides(result.Decision.Redact), hidden) {
			c.report(strings.TrimSuffix(question.name(), " without "+question.without)+" shows "+hidden, result,
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
		} else {
			finding.File, finding.Line = splitPlace(c.entrypoint)
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
	hint := ""
	if c.replaces {
		hint = "your package metaguard replaces the built-in one; rules that add to it belong in package metaguard.team; "
	}
	c.findings[at].Hint = hint + "if all of it is meant, add to data.metaguard.settings.accept: " + strings.Join(quoted, ", ")
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
