// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func BenchmarkReplay(b *testing.B) {
	const decisions = 100_000
	l := newRecorder(b, "enforce")
	kinds := []decision.Kind{decision.KindListing, decision.KindMetadata, decision.KindPassword, decision.KindUserdata, decision.KindNetwork}
	for i := range decisions {
		l.add(b, asks(kinds[i%len(kinds)], decision.Read, fmt.Sprintf("i-%d", i), fmt.Sprintf("p-%d", i%100)))
	}
	log := l.file(b)
	policy := policyDir(b, `deny contains "userdata_is_closed" if {
	input.resource.kind == "userdata"
	not "batch" in input.caller.roles
}`, "")
	b.SetBytes(int64(l.lines.Len()))
	for b.Loop() {
		if _, _, err := run(b, replayCommand(), "--log", log, "--policy", policy); err == nil {
			b.Fatal("nothing changed")
		}
	}
	b.ReportMetric(float64(b.N)*decisions/b.Elapsed().Seconds(), "decisions/s")
}
