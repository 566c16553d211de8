// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are of three kinds. What is counted of one site lives in siteMetrics
// as long as a configuration has that site, so that counters survive a reload
// and end with their site. What a configuration has, such as policies and
// inventories, appCollector reads when it is scraped, so that it is gone with
// the configuration. What is counted of candidates and of logs lives as long as the
// process.
// Every label is from a closed set, or from the configuration.
const (
	metricsNamespace = "caddy"
	metricsSubsystem = "metaguard"
)

var (
	candidateDecisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "candidate_decisions_total",
		Help: "Decisions that a candidate policy was asked about: same, different, or dropped since too many were waiting.",
	}, []string{"result"})
	logLines = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "log_lines_dropped_total",
		Help: "Log lines that found no room in the buffer of metaguard_buffered, or that could not be written.",
	}, []string{"reason"})
	logLinesDropped = struct{ buffer, failed prometheus.Counter }{
		buffer: logLines.WithLabelValues("buffer_full"),
		failed: logLines.WithLabelValues("write_failed"),
	}
	candidateDifferences = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "candidate_differences_total",
		Help: "Decisions where the candidate policy says otherwise, by both verdicts and the kind of the resource.",
	}, []string{"live", "candidate", "resource"})
)

// fastBuckets start at ten microseconds, in seconds.
var fastBuckets = []float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// registerMetrics registers what is not of one site with the registry that every
// load of a configuration brings.
func registerMetrics(registry *prometheus.Registry, app *App) error {
	if registry == nil {
		return nil
	}
	for _, collector := range []prometheus.Collector{candidateDecisions, candidateDifferences, logLines, appCollector{app}} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}
