// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/policy"
	"github.com/metaguard/metaguard/module/response"
)

// usualExchange is a request that was allowed and answered.
func usualExchange(tb testing.TB) *exchange {
	tb.Helper()
	assertion, err := identity.NewAssertion(decision.NewSecret("secret"))
	if err != nil {
		tb.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/openstack/latest/user_data", nil)
	ctx := context.WithValue(r.Context(), caddyhttp.VarsCtxKey, make(map[string]any, 16))
	ctx = context.WithValue(ctx, caddyhttp.ServerCtxKey, new(caddyhttp.Server))
	const id = "11111111-1111-4111-8111-111111111111"
	return &exchange{
		h: &Handler{Mode: modeEnforce, dialect: new(dialect.OpenStack), decisions: zap.NewNop(), events: zap.NewNop(), assertion: assertion},
		r: r.WithContext(ctx), w: httptest.NewRecorder(), id: uuid.NewString(), start: time.Now(),
		verdict: decision.Allow, reason: decision.PolicyAllow, outcome: outcomeForwarded, status: 200, judged: true,
		request: &canonical.Request{Method: "GET", Path: "/openstack/latest/user_data", Segments: []string{"openstack", "latest", "user_data"}},
		caller:  &decision.Caller{Source: "neutron", ID: "instance:" + id, InstanceID: id, ProjectID: "2", Address: netip.MustParseAddr("10.0.0.5")},
		target:  decision.Target{InstanceID: id, ProjectID: "2", Address: netip.MustParseAddr("10.0.0.5")},
		match:   dialect.Match{Resource: decision.Resource{Kind: decision.KindUserdata, Action: decision.Read}},
		result:  policy.Result{Revision: "1", Rules: []string{"access.rego:1"}, Decision: decision.Decision{Allow: true, Reasons: []string{"own_instance"}}},
	}
}

// sent keeps what is sent from living on the stack, where it never is.
var sent *http.Request

// steps are those of a request's way that this package takes by itself, with what
// each may allocate.
func steps(tb testing.TB) map[string]struct {
	most float64
	run  func()
} {
	tb.Helper()
	x := usualExchange(tb)
	headers := http.Header{"Accept": {"*/*"}, "User-Agent": {"x"}, "Via": {"1.1 Caddy"}, "X-Forwarded-For": {"10.0.0.5"}, "X-Forwarded-Host": nil}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header = headers
	asserted, refusal := x.h.assertion.Sign(x.target)
	if refusal != nil {
		tb.Fatal(refusal)
	}
	var end response.AnswerEnd
	answer := []byte(exactly("hello"))
	return map[string]struct {
		most float64
		run  func()
	}{
		"decision id":  {2, func() { _ = uuid.NewString() }},
		"classify":     {0, func() { _ = x.classify() }},
		"outgoing":     {19, func() { x.request.Header = nil; _, _ = x.outgoing(x.r.Context()) }},
		"sign":         {3, func() { sent = signed(request, asserted) }},
		"answer end":   {0, func() { end.Reset(); _ = end.Add(answer) }},
		"variables":    {10, func() { x.shown = shown{}; x.setVariables() }},
		"no variables": {0, x.setVariables},
		"log and keep": {1, x.log},
	}
}

// No step allocates more than it did. Raise a number only for something that is
// worth it at every request.
func TestStepsAllocateNoMore(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, step := range steps(t) {
		if got := testing.AllocsPerRun(200, step.run); got > step.most {
			t.Errorf("%s: %v allocations, at most %v", name, got, step.most)
		}
	}
}

func BenchmarkSteps(b *testing.B) {
	for name, step := range steps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step.run()
			}
		})
	}
}
