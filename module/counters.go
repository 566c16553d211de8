// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/metaguard/metaguard/module/decision"
)

// counters are what was counted since the process began, in the sites that there
// are now. They are those of the metrics.
type counters struct {
	// Requests are all requests by verdict.
	Requests map[string]uint64 `json:"requests"`
	// Refusals are the requests that were not answered as asked, by reason.
	Refusals map[string]uint64 `json:"refusals"`
	// InFlight is how many are on their way now.
	InFlight int64 `json:"in_flight"`
	// DroppedEvents are decision events that did not reach OPA's log service.
	DroppedEvents uint64 `json:"dropped_events"`
}

// countersNow reads the counters.
func (a *App) countersNow() (counters, error) {
	c := counters{Requests: make(map[string]uint64), Refusals: make(map[string]uint64)}
	for _, verdict := range []decision.Verdict{decision.Allow, decision.Deny, decision.WouldDeny} {
		c.Requests[string(verdict)] = 0
	}
	for _, h := range a.sites {
		if err := c.add(h.metrics); err != nil {
			return c, fmt.Errorf("reading the counters of site %s: %w", h.site, err)
		}
	}
	for _, used := range a.policies() {
		for _, count := range used.DroppedEvents() {
			c.DroppedEvents += count
		}
	}
	c.DroppedEvents += goneEvents.Load()
	return c, nil
}

// add adds what was counted of one site.
func (c *counters) add(site *siteMetrics) error {
	var read dto.Metric
	if err := site.inFlight.Write(&read); err != nil {
		return err
	}
	c.InFlight += int64(read.GetGauge().GetValue())
	for _, sample := range samples(site.decisions) {
		read.Reset()
		if err := sample.Write(&read); err != nil {
			return err
		}
		count := uint64(read.GetCounter().GetValue())
		for _, label := range read.GetLabel() {
			switch {
			case label.GetName() == "verdict":
				c.Requests[label.GetValue()] += count
			case label.GetName() == "reason" && label.GetValue() != string(decision.PolicyAllow):
				c.Refusals[label.GetValue()] += count
			}
		}
	}
	return nil
}

// samples collects what a collector has now.
func samples(from prometheus.Collector) []prometheus.Metric {
	found := make(chan prometheus.Metric)
	go func() {
		defer close(found)
		from.Collect(found)
	}()
	var all []prometheus.Metric
	for sample := range found {
		all = append(all, sample)
	}
	return all
}
