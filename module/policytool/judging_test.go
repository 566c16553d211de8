// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// A log of two policies: the first is the built-in one, the second, which is in
// force, has a file.
func TestWhichPolicyJudges(t *testing.T) {
	inForce := policyDir(t, `redact_keys contains "x"`, "")
	first, second := newRecorder(t, "audit"), newRecorder(t, "audit", inForce)
	first.add(t, asks(decision.KindMetadata, decision.Read, "i-1", "p-1"))
	second.count = 1
	second.add(t, asks(decision.KindPassword, decision.Read, "i-1", "p-1"))
	old, current := first.policy.Revision(), second.policy.Revision()
	log := write(t, "decisions.ndjson", first.lines.String()+second.lines.String())

	rep, _ := replayed(t, "--log", log)
	if rep.Policy != "the built-in policy" || rep.Revision != old || !slices.Equal(rep.Recorded, []string{current, old}) {
		t.Errorf("got %+v", rep.judging)
	}
	out, warnings, err := run(t, draftCommand(nil), "--log", log)
	if err != nil || !strings.HasPrefix(out, "policy    the built-in policy, revision "+old[:12]+"\nrecorded  under 2 revisions, the last is "+current[:12]+"\n\n") {
		t.Errorf("got %s %v", out, err)
	}
	if !strings.Contains(warnings, "give --policy or --server with the policy in force: ") {
		t.Errorf("no warning: %q", warnings)
	}
	out, warnings, err = run(t, draftCommand(nil), "--log", log, "--policy", inForce)
	if err != nil || warnings != "" || !strings.Contains(out, current[:12]+", which is this policy's\n") {
		t.Errorf("got %s %q %v", out, warnings, err)
	}

	// What a server has in force is recorded under the server's revision.
	fetch := func(context.Context, string, string) ([]byte, error) {
		var bundle bytes.Buffer
		err := second.policy.WriteBundle(&bundle)
		return bundle.Bytes(), err
	}
	out, warnings, err = run(t, draftCommand(fetch), "--log", log, "--server", "unix//admin.sock")
	if err != nil || warnings != "" || !strings.HasPrefix(out, "policy    the server's, revision "+current[:12]+"\n") {
		t.Errorf("got %s %q %v", out, warnings, err)
	}
	added := policyDir(t, "", "")
	if out, _, err = run(t, replayCommand(fetch), "--log", log, "--server", "unix//admin.sock", "--policy", added); !strings.HasPrefix(out, "policy    the server's, with "+added+" added, revision ") {
		t.Errorf("got %s %v", out, err)
	}
}

func TestRevisionsAreBounded(t *testing.T) {
	seen := revisions{}
	for i := range 2 * maxRevisions {
		seen.see(strings.Repeat("r", i), noon)
	}
	if len(seen) != maxRevisions {
		t.Errorf("%d revisions", len(seen))
	}
}
