// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

func TestRecordedStandsBesideWhatThePolicySaysNow(t *testing.T) {
	const closed = `deny contains "closed" if input.resource.kind == "userdata"`
	enforced := policyDir(t, closed, "")
	l := newRecorder(t, "audit", enforced)
	l.add(t, asks(decision.KindUserdata, decision.Read, "i-1", "p-1"))
	log := l.file(t)
	tests := map[string]struct {
		policy string
		extra  []string
		want   string
	}{
		"the same":        {enforced, nil, ""},
		"at another time": {policyDir(t, closed+"\n# edited", ""), []string{"--at", "2026-11-25T12:00:00Z"}, "another one (…), and decides the same"},
		"another":         {policyDir(t, closed+"\n# edited", ""), nil, "another one (…), and decides the same"},
		"otherwise":       {policyDir(t, "", ""), nil, "another one (…), and decides otherwise"},
		"another status":  {policyDir(t, closed+"\n\nstatus := 404", ""), nil, "another one (…), and refuses with another status"},
		"other codes":     {policyDir(t, strings.Replace(closed, "closed", "shut", 1), ""), nil, "another one (…), and decides the same, with other codes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, command := range []*cobra.Command{evalCommand(nil), explainCommand(nil)} {
				out, _, err := run(t, command, append([]string{"--log", log, "--decision", "0190-1", "--policy", test.policy}, test.extra...)...)
				if err != nil {
					t.Fatal(err)
				}
				_, after, ok := strings.Cut(out, "\nrecorded  would_deny (audit), policy_deny, codes closed, revision "+shortRevision(l.policy.Revision())+"\n")
				note, _, _ := strings.Cut(after, "\n")
				if before, rest, cut := strings.Cut(note, "("); cut {
					_, rest, _ = strings.Cut(rest, ")")
					note = before + "(…)" + rest
				}
				if !ok || !strings.HasSuffix(note, test.want) || test.want == "" && strings.Contains(note, "this policy") {
					t.Errorf("got %q, want %q in\n%s", note, test.want, out)
				}
			}
		})
	}
}

func TestRecordedWithoutADecision(t *testing.T) {
	for revision, want := range map[string]string{
		"":     "no policy decided then",
		"now":  "no policy decided then",
		"then": "this policy is another one (now), and none decided then",
	} {
		r := &record{Reason: decision.PolicyNotReady, Verdict: decision.Deny, Revision: revision}
		if got := newRecorded(r, &policy.Result{Revision: "now"}).Note; got != want {
			t.Errorf("%q: got %q", revision, got)
		}
	}
}
