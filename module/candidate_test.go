// SPDX-License-Identifier: Apache-2.0

package module

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// A candidate that cannot keep up never holds a request: what does not fit is
// counted. Whether or not it was started, nothing of it stays behind.
func TestCandidateIsBounded(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	live, key, err := acquireEngine(policy.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = releaseEngine(key) }()
	for _, started := range []bool{false, true} {
		c, err := newCandidate(live, policy.Config{})
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange{h: &Handler{candidate: c}, request: new(canonical.Request), result: live.Decide(t.Context(), &decision.Input{
			Resource: decision.Resource{Kind: decision.KindMetadata, Action: decision.Read},
		})}
		dropped := testutil.ToFloat64(candidateDecisions.WithLabelValues("dropped"))
		for range candidateQueue + 10 {
			x.compare()
		}
		if got := testutil.ToFloat64(candidateDecisions.WithLabelValues("dropped")) - dropped; got != 10 {
			t.Errorf("%v were dropped", got)
		}
		if started {
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := c.Cleanup(); err != nil {
				t.Error(err)
			}
		}
		if err := c.Start(); err != nil { // too late
			t.Error(err)
		}
	}
}

// What a client would notice is a difference, other codes are none.
func TestDifference(t *testing.T) {
	allow := policy.Result{Reason: decision.PolicyAllow, Decision: decision.Decision{Allow: true, Reasons: []string{"a"}}}
	for name, test := range map[string]struct {
		change func(*policy.Result)
		want   string
	}{
		"nothing": {func(*policy.Result) {}, ""},
		"codes":   {func(r *policy.Result) { r.Decision.Reasons = []string{"b"} }, ""},
		"verdict": {func(r *policy.Result) { r.Reason = decision.PolicyDeny }, "verdict"},
		"error":   {func(r *policy.Result) { r.Reason = decision.PolicyError }, "verdict"},
		"status":  {func(r *policy.Result) { r.Decision.Status = 404 }, "status"},
		"json":    {func(r *policy.Result) { r.Decision.Redact.JSON = []string{"/a"} }, "redact"},
		"keys":    {func(r *policy.Result) { r.Decision.Redact.Keys = []string{"a"} }, "redact"},
		"listing": {func(r *policy.Result) { r.Decision.Redact.Listing = []string{"a"} }, "redact"},
	} {
		other := allow
		test.change(&other)
		if got := difference(&allow, &other); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
