// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// A server that flips revisions ten times a second causes no wrong and no
// failed answer under eight clients: every decision is one revision's whole.
// The two revisions deny different kinds and grant to different callers, so
// that rules of one with data of the other would show.
func TestFlippingBundles(t *testing.T) {
	revision := func(name, denied, granted string) []byte {
		return tarball(t, files{
			".manifest":      fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/team", "metaguard/grants", "marker"]}`, name),
			"team/team.rego": fmt.Sprintf("package metaguard.team\n\ndeny contains sprintf(\"%s_%%s\", [data.marker.name]) if input.resource.kind == %q\n", name, denied),
			"data.json":      fmt.Sprintf(`{"marker": {"name": %q}, "metaguard": {"grants": {"instance_id": {%q: ["password:read"]}}}}`, name, granted),
		})
	}
	const first, second = "instance-a", "instance-b"
	bundles := [2][]byte{revision("a", "userdata", first), revision("b", "network", second)}
	s := newBundleServer(t)
	s.put("team.tar.gz", bundles[0])
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}`)})

	var (
		stop    atomic.Bool
		asked   [2]atomic.Int64
		clients sync.WaitGroup
	)
	for client := range 8 {
		clients.Go(func() {
			for i := client; !stop.Load(); i++ {
				in := instance([]decision.Kind{decision.KindUserdata, decision.KindNetwork, decision.KindPassword}[i%3], decision.Read)
				in.Caller.InstanceID, in.Target.InstanceID = first, first
				r := e.Decide(t.Context(), in)
				which := 0
				if r.Revision == "team@b" {
					which = 1
				}
				asked[which].Add(1)
				want, code := decision.PolicyAllow, ""
				switch {
				case in.Resource.Kind == decision.KindUserdata && which == 0:
					want, code = decision.PolicyDeny, "a_a"
				case in.Resource.Kind == decision.KindNetwork && which == 1:
					want, code = decision.PolicyDeny, "b_b"
				case in.Resource.Kind == decision.KindPassword && which == 1:
					want = decision.PolicyDeny
				}
				if r.Reason != want || code != "" && (len(r.Decision.Reasons) != 1 || r.Decision.Reasons[0] != code) {
					t.Errorf("%s: %s %v %v, want %s %s", r.Revision, r.Reason, r.Decision.Reasons, r.Err, want, code)
					return
				}
			}
		})
	}
	flips := 0
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && !t.Failed(); flips++ {
		<-ticker.C
		s.put("team.tar.gz", bundles[(flips+1)%2])
	}
	stop.Store(true)
	clients.Wait()
	if loads := e.Status().Loads; loads < 5 {
		t.Errorf("%d loads in %d flips", loads, flips)
	}
	for which := range asked {
		if asked[which].Load() < 100 {
			t.Errorf("only %d decisions of revision %d", asked[which].Load(), which)
		}
	}
	t.Logf("%d flips, %d loads, %d and %d decisions", flips, e.Status().Loads, asked[0].Load(), asked[1].Load())
}
