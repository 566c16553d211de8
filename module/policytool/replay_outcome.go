// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"slices"
	"strconv"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// outcome is what a policy said, recorded or new.
type outcome struct {
	// reason is one of the policy's: policy_allow, policy_deny, policy_error, ….
	reason decision.Reason
	status int
	codes  []string
	hides  []string
	rules  []string
}

// recordedOutcome is what the policy said at the time. There is none where the
// policy was not asked, or did not come to say anything.
func recordedOutcome(r *record) (outcome, bool) {
	switch r.Reason {
	case decision.PolicyCancelled, decision.PolicyNotReady:
		return outcome{}, false
	case decision.PolicyUndefined, decision.PolicyError, decision.PolicyTimeout, decision.PolicyMalformed:
		return outcome{reason: r.Reason}, true
	default:
		// What came after the policy, such as a latch, does not matter here.
		o := outcome{reason: decision.PolicyDeny, status: r.Status, codes: sorted(r.Codes), rules: r.Rules}
		if r.Allow {
			o.reason, o.status, o.hides = decision.PolicyAllow, 0, hidden(r.Redact)
		}
		return o, r.Decided
	}
}

// newOutcome is what the policy says now.
func newOutcome(result *policy.Result) outcome {
	return outcome{
		reason: result.Reason, status: result.Decision.Status, codes: sorted(result.Decision.Reasons),
		hides: hidden(result.Decision.Redact), rules: result.Rules,
	}
}

// String is the outcome in one word: allow, deny, deny:404, policy_error, ….
func (o outcome) String() string {
	switch {
	case o.reason == decision.PolicyAllow:
		return "allow"
	case o.reason == decision.PolicyDeny && o.status != 0:
		return "deny:" + strconv.Itoa(o.status)
	case o.reason == decision.PolicyDeny:
		return "deny"
	default:
		return string(o.reason)
	}
}

// change is how two outcomes differ, from the gravest to the least.
type change int

const (
	unchanged change = iota
	verdictChanged
	statusChanged
	redactChanged
	codesChanged
)

// String is the change in one word.
func (c change) String() string {
	return [...]string{"unchanged", "verdict", "status", "redact", "codes"}[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// compare finds the gravest difference.
func compare(before, after outcome) change {
	switch {
	case before.reason != after.reason:
		return verdictChanged
	case before.status != after.status:
		return statusChanged
	case !slices.Equal(before.hides, after.hides):
		return redactChanged
	case !slices.Equal(before.codes, after.codes):
		return codesChanged
	default:
		return unchanged
	}
}

// hidden is what a decision hides, as words: key:admin_pass, json:/meta/x,
// listing:password.
func hidden(r decision.Redact) []string {
	var all []string
	for prefix, names := range map[string][]string{"json:": r.JSON, "key:": r.Keys, "listing:": r.Listing} {
		for _, name := range names {
			all = append(all, prefix+name)
		}
	}
	return sorted(all)
}

// without are the words of a that are not in b.
func without(a, b []string) []string {
	var rest []string
	for _, word := range a {
		if !slices.Contains(b, word) {
			rest = append(rest, word)
		}
	}
	return rest
}

// sorted gives each word once, in order. It leaves the list as it is.
func sorted(words []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(words)))
}
