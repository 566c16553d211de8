// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
)

// longText is longer than anything that is kept whole.
const longText = 64 << 10

// keepDecision publishes the decision about a request whose texts are its own: as
// requests have them, or as long as nobody's are.
func keepDecision(h *Handler, i int, long bool) {
	text := func(format string) string {
		made := fmt.Sprintf(format, i)
		if long {
			made += strings.Repeat("x", longText)
		}
		return made
	}
	id := fmt.Sprintf("%08d-1111-4111-8111-111111111111", i)
	x := &exchange{
		h: h, id: id, start: time.Now(), verdict: decision.Allow, reason: decision.PolicyAllow, outcome: outcomeForwarded, status: 200,
		peer:    netip.MustParseAddr("192.0.2.1"),
		request: &canonical.Request{Method: "GET", Path: text("/openstack/latest/%d")},
		caller:  &decision.Caller{Source: "neutron", ID: text("instance:%036d"), ProjectID: text("%032d"), Address: netip.MustParseAddr("10.0.0.5")},
		target:  decision.Target{InstanceID: text("%036d")},
		judged:  true,
		result: policy.Result{
			Revision: "080df392f8f8", Rules: []string{text("metaguard/access.rego:%d")},
			Decision: decision.Decision{Allow: true, Reasons: []string{text("own_instance_%d")}},
		},
	}
	x.match.Resource = decision.Resource{Dialect: "openstack", Kind: decision.KindMetadata, Action: decision.Read, Version: "latest", Key: text("key%d")}
	if long {
		x.err = errors.New(text("%d"))
		for range 1000 {
			x.result.Rules = append(x.result.Rules, x.result.Rules[0])
			x.result.Decision.Reasons = append(x.result.Decision.Reasons, x.result.Decision.Reasons[0])
		}
	}
	x.log()
}

// ringMemory is what the ring holds when it is full, in bytes.
func ringMemory(h *Handler, long bool) int64 {
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	for i := range recentDecisions.ring {
		recentDecisions.ring[i].Store(nil)
	}
	before := used()
	for i := range maxRecent {
		keepDecision(h, i, long)
	}
	return used() - before
}

func quietHandler() *Handler {
	return &Handler{Mode: modeEnforce, dialect: &dialect.OpenStack{}, decisions: zap.NewNop()}
}

// What clients and policies say does not make the ring larger than README says.
func TestRecentMemory(t *testing.T) {
	if held := ringMemory(quietHandler(), true); held > 30<<20 {
		t.Errorf("%d bytes", held)
	}
}

// BenchmarkRecentMemory measures the full ring, with decisions about ordinary requests and
// with the largest ones.
func BenchmarkRecentMemory(b *testing.B) {
	for name, long := range map[string]bool{"ordinary": false, "largest": true} {
		b.Run(name, func(b *testing.B) {
			var held int64
			for b.Loop() {
				held = ringMemory(quietHandler(), long)
			}
			b.ReportMetric(float64(held)/(1<<20), "MiB")
		})
	}
}
