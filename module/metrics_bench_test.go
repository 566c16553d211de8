// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

func BenchmarkObserve(b *testing.B) {
	x := &exchange{
		h:     &Handler{dialect: new(dialect.OpenStack), metrics: newSiteMetrics(":8775", "openstack")},
		start: time.Now(), verdict: decision.Allow, reason: decision.PolicyAllow, outcome: outcomeForwarded,
		judged: true, forwardFor: time.Millisecond,
	}
	x.match.Resource.Kind = decision.KindUserdata
	x.result.Duration = 80 * time.Microsecond
	b.ReportAllocs()
	for b.Loop() {
		x.observe()
	}
}

// Without Caddy's `tracing` a step of a request costs a look into its context.
func BenchmarkStepUntraced(b *testing.B) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{}))
	x := &exchange{r: r}
	b.ReportAllocs()
	for b.Loop() {
		_ = x.traced("identify", x.nothing)
	}
}

//go:noinline
func (*exchange) nothing() *decision.Refusal { return nil }
