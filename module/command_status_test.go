// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/policy"
)

// What is wrong is named by one word each, and the worst comes first.
func TestProblems(t *testing.T) {
	well := siteStatus{
		Name: "s", Mode: modeEnforce, Upstreams: []upstreamFound{{Address: "a", Answers: true}},
		Policy: policyState{Status: policy.Status{Revision: "1"}}, Latch: latchStatus{Reachable: true},
	}
	if got := well.problems(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	ill := well
	ill.Mode = modeAudit
	ill.Candidate = &policyState{Status: policy.Status{Revision: "1", LastError: "x"}}
	ill.Policy.LastError = "x"
	ill.Latch = latchStatus{Error: "x"}
	ill.Upstreams = []upstreamFound{{Address: "a", Answers: true}, {Address: "b", Error: "x"}}
	ill.Identities = []identityStatus{
		{Source: "jwt", Keys: &identity.JWTStatus{LastError: "x"}},
		{Source: "remote_ip", Inventories: []identity.InventoryStatus{{LastError: "x"}}},
	}
	gone := ill
	gone.Policy.Revision = ""
	gone.Upstreams = []upstreamFound{{Address: "b", Error: "x"}}
	for want, site := range map[string]*siteStatus{
		"latch_unavailable audit_mode policy_stale inventory_stale keys_stale upstream_degraded candidate_stale":        &ill,
		"policy_not_ready upstream_unreachable latch_unavailable audit_mode inventory_stale keys_stale candidate_stale": &gone,
		"upstream_unreachable": {Name: "s", UpstreamError: "x", Policy: well.Policy, Latch: well.Latch},
	} {
		all := site.problems()
		sortProblems(all)
		var words []string
		for _, one := range all {
			words = append(words, one.What)
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The exit code says whether all is well, whatever is printed.
func TestShowStatus(t *testing.T) {
	for name, test := range map[string]struct {
		answer statusAnswer
		code   int
	}{
		"well":      {statusAnswer{Ready: true}, 0},
		"a problem": {statusAnswer{Ready: true, Problems: []problem{{What: problemAudit}}}, 1},
		"not ready": {statusAnswer{}, 1},
	} {
		content, err := json.Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, asJSON := range []bool{false, true} {
			var printed strings.Builder
			code, err := showStatus(&printed, content, asJSON)
			if code != test.code || (err != nil) != (code != 0) || asJSON != (printed.String() == string(content)) {
				t.Errorf("%s: %d, %v, %q", name, code, err, printed.String())
			}
		}
	}
	if code, err := showStatus(new(strings.Builder), []byte("no JSON"), true); code != exitNobodyAsked || err == nil {
		t.Errorf("%d, %v", code, err)
	}
}

// Nothing that came from a client or a file steers the terminal, or looks like a
// line of ours.
func TestShownTextIsPlain(t *testing.T) {
	const planted = "x\n\x1b[2JPROBLEM\tplanted\r"
	status := statusAnswer{
		Problems: []problem{{What: problemPolicy, Site: planted, Detail: planted}},
		Sites:    []siteStatus{{Name: planted, UpstreamError: planted, Latch: latchStatus{Error: planted}, Policy: policyState{Name: planted}}},
	}
	decisions := decisionsAnswer{Decisions: []json.RawMessage{[]byte(`{"time":"2026-01-02T15:04:05Z","path":"\n\u001b[2Jdeny","caller":"\u001b\n\tPROBLEM"}`)}}
	var printed strings.Builder
	if err := status.print(&printed); err != nil {
		t.Fatal(err)
	}
	if err := decisions.print(&printed); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(printed.String(), "\x1b\r\t") {
		t.Errorf("%q", printed.String())
	}
	for line := range strings.Lines(printed.String()) {
		if strings.HasPrefix(line, "PROBLEM") && !strings.HasPrefix(line, "PROBLEM   policy_stale") || strings.HasPrefix(line, "deny") {
			t.Errorf("%q", line)
		}
	}
}
