// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/password"
)

// listening is Caddy's context for the handlers of a server.
func servedOn(listeners ...string) caddy.Context {
	server := &caddyhttp.Server{Listen: listeners}
	ctx, _ := caddy.NewContext(caddy.Context{Context: context.WithValue(context.Background(), caddyhttp.ServerCtxKey, server)})
	return ctx
}

func TestNameSite(t *testing.T) {
	app := new(App)
	first, second := servedOn(":8775"), servedOn("[::1]:80", "127.0.0.1:80")
	for i, test := range []struct {
		ctx  caddy.Context
		want string
	}{
		{first, ":8775"},
		{second, "127.0.0.1:80,[::1]:80"},
		{first, ":8775#2"},
		{second, "127.0.0.1:80,[::1]:80#2"},
		{first, ":8775#3"},
		{caddy.Context{Context: context.Background()}, "none"}, // no server of Caddy's
	} {
		if got := app.nameSite(listeners(test.ctx)); got != test.want {
			t.Errorf("%d: %q, want %q", i, got, test.want)
		}
	}
	if got := new(App).nameSite(listeners(first)); got != ":8775" { // the next configuration
		t.Errorf("%q", got)
	}
}

// A site goes on counting over configurations, and is forgotten with the last of
// them that has it. Requests that end after that count nowhere.
func TestSiteMetricsEndWithTheirSite(t *testing.T) {
	load := func() (*Handler, *prometheus.Registry) {
		ctx := servedOn(":8775")
		h := &Handler{site: "of this test", dialect: new(dialect.OpenStack)}
		if err := h.provisionMetrics(ctx); err != nil {
			t.Fatal(err)
		}
		return h, ctx.GetMetricsRegistry()
	}
	requests := func(registry *prometheus.Registry) int {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "caddy_metaguard_request_duration_seconds" {
				return int(family.GetMetric()[0].GetHistogram().GetSampleCount())
			}
		}
		return -1
	}
	one := func(h *Handler) {
		(&exchange{h: h, start: time.Now(), reason: decision.PolicyDeny, verdict: decision.Deny, outcome: outcomeRefused}).observe()
	}
	old, _ := load()
	one(old)
	next, registry := load()
	for range 2 { // what is called twice counts once
		if err := old.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if count, _ := counted.References("openstack of this test"); count != 1 {
		t.Errorf("one configuration has the site, and it counts as %d", count)
	}
	one(old) // still on its way
	one(next)
	if got := requests(registry); got != 3 {
		t.Errorf("%d requests over a reload", got)
	}
	if err := next.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if count, there := counted.References("openstack of this test"); there {
		t.Errorf("%d configurations still have the site", count)
	}
	again, registry := load()
	defer again.Cleanup()
	one(next)
	if got := requests(registry); got != 0 {
		t.Errorf("%d requests of a site that had gone", got)
	}
}

// Counting a request, and a step that is not traced, allocate nothing.
func TestCountingAllocatesNothing(t *testing.T) {
	x := &exchange{
		h: &Handler{dialect: new(dialect.OpenStack), metrics: newSiteMetrics("test", "openstack")}, r: httptest.NewRequest(http.MethodGet, "/", nil),
		start: time.Now(), verdict: decision.Allow, reason: decision.PolicyAllow, outcome: outcomeForwarded, judged: true, forwardFor: time.Millisecond,
	}
	for what, work := range map[string]func(){
		"observe": x.observe,
		"traced":  func() { _ = x.traced("identify", x.nothing) },
		"request": x.traceRequest,
	} {
		if allocations := testing.AllocsPerRun(100, work); allocations > 0 {
			t.Errorf("%s: %v", what, allocations)
		}
	}
}

// What is not of the vocabulary is no label.
func TestReasonsOfOthersAreNoLabels(t *testing.T) {
	x := &exchange{h: &Handler{metrics: newSiteMetrics("test", "openstack")}, start: time.Now(), reason: "made up", verdict: decision.Deny, outcome: outcomeRefused}
	x.observe()
	if got := testutil.ToFloat64(x.h.metrics.decisions.WithLabelValues("deny", "policy_error", "refused", "unknown")); got != 1 {
		t.Errorf("counted %v", got)
	}
}

// A latch that does as it is told.
type toldLatch struct{ err error }

func (l toldLatch) Load(context.Context, password.Key) (password.Record, password.Version, error) {
	return password.Record{}, "version", l.err
}

func (l toldLatch) Swap(context.Context, password.Key, password.Version, password.Record) (password.Version, error) {
	return "version", l.err
}

func (l toldLatch) Reset(context.Context, password.Key) error { return l.err }

// Every call of a latch is counted under its result, and gives what the latch gave.
func TestMeasuredLatch(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{fmt.Errorf("swapping: %w", password.ErrConflict), "conflict"},
		{fmt.Errorf("loading: %w", password.ErrCorrupt), "corrupt"},
		{fmt.Errorf("asking: %w", context.DeadlineExceeded), "timeout"},
		{context.Canceled, "timeout"},
		{errors.New("planted-words-of-a-server"), "failed"},
	} {
		m := newSiteMetrics("test", "openstack")
		latch := m.measured(toldLatch{test.err})
		_, version, load := latch.Load(t.Context(), password.Key{})
		_, swap := latch.Swap(t.Context(), password.Key{}, "", password.Record{})
		reset := latch.Reset(t.Context(), password.Key{})
		for operation, err := range map[string]error{"load": load, "swap": swap, "reset": reset} {
			if !errors.Is(err, test.err) || version != "version" {
				t.Errorf("%s: %v, want %v", operation, err, test.err)
			}
			if got := testutil.ToFloat64(m.latchOperations.WithLabelValues(operation, test.want)); got != 1 {
				t.Errorf("%s %s: counted %v", operation, test.want, got)
			}
		}
		if got := testutil.CollectAndCount(m.latchOperations); got != 15 { // 3 operations, 5 results
			t.Errorf("%s: %d series", test.want, got)
		}
	}
}

// Every site of one process has the same families, which a pedantic registry checks.
func TestSitesShareFamilies(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, m := range []*siteMetrics{newSiteMetrics(":1", "openstack"), newSiteMetrics(":2", "gce"), newSiteMetrics(":2#2", "gce")} {
		if err := registry.Register(m); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "caddy_metaguard_") || !strings.Contains(family.GetMetric()[0].String(), "site") {
			t.Errorf("%s %v", family.GetName(), family.GetMetric()[0])
		}
	}
}
