// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
)

// siteMetrics is what is counted of one site. Its collectors bear the site's
// name themselves instead of sharing vectors: a site that a reload takes away
// leaves no series behind, also where its last requests end later.
type siteMetrics struct {
	labels     prometheus.Labels
	collectors []prometheus.Collector

	decisions       *prometheus.CounterVec
	identifications *prometheus.CounterVec
	lookups         *prometheus.CounterVec
	removed         *prometheus.CounterVec
	redacted        prometheus.Counter
	passwordWrites  *prometheus.CounterVec
	latchOperations *prometheus.CounterVec
	latchSeconds    *prometheus.HistogramVec
	decisionSeconds prometheus.Histogram
	upstreamSeconds prometheus.Histogram
	requestSeconds  prometheus.Histogram
	addedSeconds    prometheus.Histogram
	inFlight        prometheus.Gauge
	waiting         prometheus.Gauge
}

// nobody is the source of a request that no identity source claimed.
const nobody = "none"

func newSiteMetrics(site, dialect string) *siteMetrics {
	m := &siteMetrics{labels: prometheus.Labels{"site": site, "dialect": dialect}}
	m.decisions = m.counters("decisions_total", "Requests by verdict, reason, outcome, resource kind, dialect and site.",
		"verdict", "reason", "outcome", "resource")
	m.decisionSeconds = m.histogram("decision_duration_seconds", "How long the policy took to decide.")
	m.upstreamSeconds = m.histogram("upstream_duration_seconds", "How long the legacy server took to answer, whole.")
	m.requestSeconds = m.histogram("request_duration_seconds", "How long requests took, from their header to the last byte of the answer.")
	m.addedSeconds = m.histogram("added_duration_seconds", "How much longer requests took than the legacy server did.")

	m.labels = prometheus.Labels{"site": site}
	m.identifications = m.counters("identifications_total", "Requests by the identity source that claimed them, and what it said.", "source", "result")
	m.lookups = m.counters("identity_lookups_total", "Questions of identity sources to other servers: answered, failed, or spared since the answer was cached.", "source", "result")
	m.removed = m.counters("removed_total", "What was removed from answers: members of JSON documents, entries of listings, keys that only begin like a password's.", "what")
	m.redacted = m.counters("redacted_answers_total", "Answers from which something was removed.").WithLabelValues()
	m.passwordWrites = m.counters("password_writes_total", "Passwords that were forwarded, by what became of them; unknown ones block their instance for a while.", "outcome")
	m.latchOperations = m.counters("latch_operations_total", "Calls of the latch by operation and result; conflict means that another replica was faster.", "operation", "result")
	m.latchSeconds = add(m, prometheus.NewHistogramVec(m.histogramOpts("latch_operation_duration_seconds", "How long calls of the latch took."), []string{"operation"}))
	m.inFlight = m.gauge("requests_in_flight", "Requests that are being handled now.")
	m.waiting = m.gauge("waiting_requests", "Requests that wait for the legacy server to tell of a change.")

	for _, what := range []string{removedMember, removedEntry, removedPasswordKey} {
		m.removed.WithLabelValues(what)
	}
	return m
}

// The values of the label what.
const (
	removedMember      = "json_member"
	removedEntry       = "listing_entry"
	removedPasswordKey = "password_key"
)

func add[C prometheus.Collector](m *siteMetrics, collector C) C {
	m.collectors = append(m.collectors, collector)
	return collector
}

func (m *siteMetrics) opts(name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, ConstLabels: m.labels}
}

func (m *siteMetrics) histogramOpts(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, ConstLabels: m.labels, Buckets: fastBuckets}
}

func (m *siteMetrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return add(m, prometheus.NewCounterVec(prometheus.CounterOpts(m.opts(name, help)), labels))
}

func (m *siteMetrics) histogram(name, help string) prometheus.Histogram {
	return add(m, prometheus.NewHistogram(m.histogramOpts(name, help)))
}

func (m *siteMetrics) gauge(name, help string) prometheus.Gauge {
	return add(m, prometheus.NewGauge(prometheus.GaugeOpts(m.opts(name, help))))
}

// Describe lists the metrics.
func (m *siteMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, collector := range m.collectors {
		collector.Describe(ch)
	}
}

// Collect gives what was counted.
func (m *siteMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, collector := range m.collectors {
		collector.Collect(ch)
	}
}

// Destruct does nothing: requests of the site that still run go on counting,
// where nobody looks any more.
func (*siteMetrics) Destruct() error { return nil }

// counted holds what is counted of the sites of all configurations that are in
// use, by name and dialect.
var counted = caddy.NewUsagePool()

// provisionMetrics goes on counting where the site's last configuration
// stopped, or begins to.
func (h *Handler) provisionMetrics(ctx caddy.Context) error {
	name := h.dialect.Name()
	key := name + " " + h.site
	value, _, err := counted.LoadOrNew(key, func() (caddy.Destructor, error) { return newSiteMetrics(h.site, name), nil })
	if err != nil {
		return err
	}
	h.metrics, h.metricsKey = value.(*siteMetrics), key
	h.metrics.prepare(h)
	if registry := ctx.GetMetricsRegistry(); registry != nil {
		if err := registry.Register(h.metrics); err != nil {
			return fmt.Errorf("registering metrics of site %s: %w", h.site, err)
		}
	}
	return nil
}

// prepare makes what rarely happens begin at zero: a counter that appears with
// its first event looks to Prometheus as if it had never risen.
func (m *siteMetrics) prepare(h *Handler) {
	for _, source := range h.identities {
		asker, ok := source.(identity.Asker)
		if !ok {
			continue
		}
		counters := make(map[identity.Lookup]prometheus.Counter)
		for _, lookup := range identity.Lookups() {
			counters[lookup] = m.lookups.WithLabelValues(source.Name(), string(lookup))
		}
		asker.CountLookups(func(lookup identity.Lookup) { counters[lookup].Inc() })
	}
	if h.traits.MaxPassword == 0 {
		return
	}
	for _, outcome := range []password.Outcome{password.Accepted, password.AlreadySet, password.Refused, password.Unsent, password.Unknown} {
		m.passwordWrites.WithLabelValues(outcome.String())
	}
}

// identified counts whom a source has identified, or why it has not.
func (m *siteMetrics) identified(source string, refusal *decision.Refusal) {
	if source == "" {
		source = nobody
	}
	result := "identified"
	if refusal != nil {
		result = string(refusal.Reason)
	}
	m.identifications.WithLabelValues(source, result).Inc()
}

// observe counts the request.
func (x *exchange) observe() {
	m := x.h.metrics
	kind := x.match.Resource.Kind
	if kind == "" {
		kind = decision.KindUnknown
	}
	reason := x.reason
	if !reason.Valid() {
		reason = decision.PolicyError
	}
	m.inFlight.Dec()
	m.decisions.WithLabelValues(string(x.verdict), string(reason), string(x.outcome), string(kind)).Inc()
	if x.judged {
		m.decisionSeconds.Observe(x.result.Duration.Seconds())
	}
	if x.forwardFor > 0 {
		m.upstreamSeconds.Observe(x.forwardFor.Seconds())
	}
	took := time.Since(x.start)
	m.requestSeconds.Observe(took.Seconds())
	m.addedSeconds.Observe((took - x.forwardFor).Seconds())
	if x.removed.Total() > 0 {
		m.redacted.Inc()
		m.removed.WithLabelValues(removedMember).Add(float64(x.removed.Keys))
		m.removed.WithLabelValues(removedEntry).Add(float64(x.removed.Entries))
		m.removed.WithLabelValues(removedPasswordKey).Add(float64(x.removed.PasswordKeys))
	}
}

// Interface guards.
var (
	_ prometheus.Collector = (*siteMetrics)(nil)
	_ caddy.Destructor     = (*siteMetrics)(nil)
)
