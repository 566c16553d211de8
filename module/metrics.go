// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/metaguard/metaguard/module/decision"
)

// The collectors live as long as the process and are registered anew with the
// registry that every load of a configuration brings, so that counters survive
// a reload. Every label is from a closed set.
var (
	decisionsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "decisions_total",
		Help: "Requests by verdict, reason, outcome, resource kind and dialect.",
	}, []string{"verdict", "reason", "outcome", "resource", "dialect"})
	decisionSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "decision_duration_seconds",
		Help:    "How long the policy took to decide.",
		Buckets: fastBuckets,
	}, []string{"dialect"})
	upstreamSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "upstream_duration_seconds",
		Help:    "How long the legacy server took to answer, whole.",
		Buckets: fastBuckets,
	}, []string{"dialect"})
	removedTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "removed_total",
		Help: "What was removed from answers: members of JSON documents, entries of listings, keys that only begin like a password's.",
	}, []string{"what"})
	candidateDecisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "candidate_decisions_total",
		Help: "Decisions that a candidate policy was asked about: same, different, or dropped since too many were waiting.",
	}, []string{"result"})
	candidateDifferences = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "candidate_differences_total",
		Help: "Decisions where the candidate policy says otherwise, by both verdicts and the kind of the resource.",
	}, []string{"live", "candidate", "resource"})
	auditSites = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "audit_mode_sites",
		Help: "Sites that forward what the policy refuses. Should be zero.",
	})
	waiting = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "metaguard", Name: "waiting_requests",
		Help: "Requests that wait for the legacy server to tell of a change.",
	})
)

// fastBuckets start at ten microseconds, in seconds.
var fastBuckets = []float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// registerMetrics registers the collectors with one configuration's registry.
func registerMetrics(registry *prometheus.Registry, app *App) error {
	if registry == nil {
		return nil
	}
	for _, collector := range []prometheus.Collector{
		decisionsTotal, decisionSeconds, upstreamSeconds, removedTotal, candidateDecisions, candidateDifferences, auditSites, waiting, appCollector{app},
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// observe counts the request.
func (x *exchange) observe() {
	name := x.h.dialect.Name()
	kind := x.match.Resource.Kind
	if kind == "" {
		kind = decision.KindUnknown
	}
	reason := x.reason
	if !reason.Valid() {
		reason = decision.PolicyError
	}
	decisionsTotal.WithLabelValues(string(x.verdict), string(reason), string(x.outcome), string(kind), name).Inc()
	if x.judged {
		decisionSeconds.WithLabelValues(name).Observe(x.result.Duration.Seconds())
	}
	if x.forwardFor > 0 {
		upstreamSeconds.WithLabelValues(name).Observe(x.forwardFor.Seconds())
	}
	if x.removed.Total() > 0 {
		removedTotal.WithLabelValues("json_member").Add(float64(x.removed.Keys))
		removedTotal.WithLabelValues("listing_entry").Add(float64(x.removed.Entries))
		removedTotal.WithLabelValues("password_key").Add(float64(x.removed.PasswordKeys))
	}
}

var (
	policyLoaded = prometheus.NewDesc("caddy_metaguard_policy_loaded_timestamp_seconds",
		"When the policy in force was loaded, as Unix time.", []string{"engine"}, nil)
	policyLoads = prometheus.NewDesc("caddy_metaguard_policy_loads_total",
		"Loads of a policy by result; a failed one keeps the last good policy in force.", []string{"engine", "result"}, nil)
	policyBroken = prometheus.NewDesc("caddy_metaguard_policy_stale",
		"1 while the newest edit of a policy is broken and the last good one is in force.", []string{"engine"}, nil)
	eventsDropped = prometheus.NewDesc("caddy_metaguard_events_dropped_total",
		"Decision events that did not reach OPA's log service, by reason.", []string{"engine", "reason"}, nil)
	bundleActivated = prometheus.NewDesc("caddy_metaguard_bundle_activated_timestamp_seconds",
		"When the bundle in force was activated, as Unix time.", []string{"engine", "bundle"}, nil)
	inventoryEntries = prometheus.NewDesc("caddy_metaguard_inventory_entries",
		"Entries of the inventory in force.", []string{"inventory"}, nil)
	inventoryLoaded = prometheus.NewDesc("caddy_metaguard_inventory_loaded_timestamp_seconds",
		"When the inventory in force was loaded, as Unix time.", []string{"inventory"}, nil)
	inventoryStale = prometheus.NewDesc("caddy_metaguard_inventory_stale",
		"1 while the newest edit of an inventory is broken and the last good one is in force.", []string{"inventory"}, nil)
)

// appCollector reads the policies and inventories of one configuration when it
// is scraped.
type appCollector struct{ app *App }

// Describe lists the metrics.
func (appCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{policyLoaded, policyLoads, policyBroken, eventsDropped, bundleActivated, inventoryEntries, inventoryLoaded, inventoryStale} {
		ch <- desc
	}
}

// Collect reads the state of every policy and inventory once.
func (c appCollector) Collect(ch chan<- prometheus.Metric) {
	for _, engine := range c.app.policies() {
		name := engine.name()
		status := engine.Status()
		ch <- prometheus.MustNewConstMetric(policyLoaded, prometheus.GaugeValue, unix(status.LoadedAt), name)
		ch <- prometheus.MustNewConstMetric(policyLoads, prometheus.CounterValue, float64(status.Loads), name, "ok")
		ch <- prometheus.MustNewConstMetric(policyLoads, prometheus.CounterValue, float64(status.Failures), name, "failed")
		ch <- prometheus.MustNewConstMetric(policyBroken, prometheus.GaugeValue, flag(status.LastError != ""), name)
		for reason, count := range engine.DroppedEvents() {
			ch <- prometheus.MustNewConstMetric(eventsDropped, prometheus.CounterValue, float64(count), name, reason)
		}
		for bundle, state := range status.Bundles {
			ch <- prometheus.MustNewConstMetric(bundleActivated, prometheus.GaugeValue, unix(state.ActivatedAt), name, bundle)
		}
	}
	seen := make(map[string]bool)
	for _, inventory := range c.app.inventories {
		status := inventory.Status()
		if seen[status.Path] {
			continue
		}
		seen[status.Path] = true
		ch <- prometheus.MustNewConstMetric(inventoryEntries, prometheus.GaugeValue, float64(status.Entries), status.Path)
		ch <- prometheus.MustNewConstMetric(inventoryLoaded, prometheus.GaugeValue, unix(status.LoadedAt), status.Path)
		ch <- prometheus.MustNewConstMetric(inventoryStale, prometheus.GaugeValue, flag(status.LastError != ""), status.Path)
	}
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
