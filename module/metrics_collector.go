// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/metaguard/metaguard/module/identity"
)

var (
	siteInfo = describe("site_info",
		"Sites of the configuration in force, with their mode, latch, and the name of their policy. Always 1.", "site", "dialect", "mode", "latch", "engine")
	auditSites = describe("audit_mode_sites",
		"Sites that forward what the policy refuses. Should be zero.")
	bufferUsed = describe("buffer_used_bytes",
		"Memory that bodies and answers hold now, of max_total.", "site")
	bufferLimit = describe("buffer_limit_bytes",
		"What bodies and answers may hold together: max_total.", "site")
	keysFetched = describe("jwt_keys_fetched_timestamp_seconds",
		"When the keys of tokens were last fetched, as Unix time.", "site")

	policyInfo = describe("policy_info",
		"Policies in force and their revisions. Always 1.", "engine", "revision")
	policyLoaded = describe("policy_loaded_timestamp_seconds",
		"When the policy in force was loaded, as Unix time.", "engine")
	policyLoads = describe("policy_loads_total",
		"Loads of a policy by result; a failed one keeps the last good policy in force.", "engine", "result")
	policyBroken = describe("policy_stale",
		"1 while the newest edit of a policy is broken and the last good one is in force.", "engine")
	eventsDropped = describe("events_dropped_total",
		"Decision events that did not reach OPA's log service, by reason.", "engine", "reason")
	eventsRecorded = describe("events_recorded_total",
		"Decision events that were handed over for OPA's log service.", "engine")
	eventsDelivered = describe("events_delivered_total",
		"Decision events that OPA's log service has taken.", "engine")
	cacheRequests = describe("policy_cache_requests_total",
		"Questions to the cache of verdicts: hit, or miss, which is evaluated.", "engine", "result")
	cacheEntries = describe("policy_cache_entries",
		"About how many verdicts of the policy in force are remembered.", "engine")
	bundleActivated = describe("bundle_activated_timestamp_seconds",
		"When the bundle in force was activated, as Unix time.", "engine", "bundle")

	inventoryEntries = describe("inventory_entries",
		"Entries of the inventory in force.", "inventory")
	inventoryLoaded = describe("inventory_loaded_timestamp_seconds",
		"When the inventory in force was loaded, as Unix time.", "inventory")
	inventoryStale = describe("inventory_stale",
		"1 while the newest edit of an inventory is broken and the last good one is in force.", "inventory")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(metricsNamespace, metricsSubsystem, name), help, labels, nil)
}

// appCollector reads the sites, policies and inventories of one configuration
// when it is scraped.
type appCollector struct{ app *App }

// Describe lists the metrics.
func (appCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		siteInfo, auditSites, bufferUsed, bufferLimit, keysFetched,
		policyInfo, policyLoaded, policyLoads, policyBroken, eventsDropped, eventsRecorded, eventsDelivered, cacheRequests, cacheEntries, bundleActivated,
		inventoryEntries, inventoryLoaded, inventoryStale,
	} {
		ch <- desc
	}
}

// Collect reads the state of every site, policy and inventory once.
func (c appCollector) Collect(ch chan<- prometheus.Metric) {
	c.collectSites(ch)
	for _, engine := range c.app.policies() {
		collectPolicy(ch, engine)
	}
	count(ch, eventsDropped, float64(goneEvents.Load()), goneEngine, "lost")
	seen := make(map[string]bool)
	for _, inventory := range c.app.inventories {
		status := inventory.Status()
		if seen[status.Path] {
			continue
		}
		seen[status.Path] = true
		gauge(ch, inventoryEntries, float64(status.Entries), status.Path)
		gauge(ch, inventoryLoaded, unix(status.LoadedAt), status.Path)
		gauge(ch, inventoryStale, flag(status.LastError != ""), status.Path)
	}
}

func (c appCollector) collectSites(ch chan<- prometheus.Metric) {
	audited := 0
	for _, site := range c.app.sites {
		if site.Mode == modeAudit {
			audited++
		}
		gauge(ch, siteInfo, 1, site.site, site.dialect.Name(), site.Mode, latchName(site.latch), engineName(site.engine.key))
		gauge(ch, bufferUsed, float64(site.budget.InUse()), site.site)
		gauge(ch, bufferLimit, float64(site.budget.Max()), site.site)
		for _, source := range site.identities {
			tokens, ok := source.(*identity.JWT)
			if !ok {
				continue
			}
			if fetched := tokens.Status().FetchedAt; !fetched.IsZero() {
				gauge(ch, keysFetched, unix(fetched), site.site)
			}
		}
	}
	gauge(ch, auditSites, float64(audited))
}

// goneEngine stands for the policies that are no longer in use.
const goneEngine = "replaced"

func collectPolicy(ch chan<- prometheus.Metric, engine usedPolicy) {
	name := engine.name()
	status := engine.Status()
	if !status.LoadedAt.IsZero() { // bundles may not have come yet
		gauge(ch, policyInfo, 1, name, status.Revision)
		gauge(ch, policyLoaded, unix(status.LoadedAt), name)
	}
	gauge(ch, policyBroken, flag(status.LastError != ""), name)
	count(ch, policyLoads, float64(status.Loads), name, "ok")
	count(ch, policyLoads, float64(status.Failures), name, "failed")
	count(ch, cacheRequests, float64(status.Cache.Hits), name, "hit")
	count(ch, cacheRequests, float64(status.Cache.Misses), name, "miss")
	gauge(ch, cacheEntries, float64(status.Cache.Entries), name)
	for reason, dropped := range engine.DroppedEvents() {
		count(ch, eventsDropped, float64(dropped), name, reason)
	}
	if engine.LogsEvents() {
		events := engine.EventCounts()
		count(ch, eventsRecorded, float64(events.Recorded), name)
		count(ch, eventsDelivered, float64(events.Delivered), name)
	}
	for bundle, state := range status.Bundles {
		gauge(ch, bundleActivated, unix(state.ActivatedAt), name, bundle)
	}
}

func gauge(ch chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func count(ch chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// Interface guards.
var _ prometheus.Collector = (*appCollector)(nil)
