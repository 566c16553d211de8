// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"

	"github.com/metaguard/metaguard/module/password"
)

// measuredLatch counts and times the calls of a latch.
type measuredLatch struct {
	password.Latch
	operations        *prometheus.CounterVec
	load, swap, reset prometheus.Observer
}

// The calls of a latch, as labels.
const (
	latchLoad  = "load"
	latchSwap  = "swap"
	latchReset = "reset"
)

func (m *siteMetrics) measured(latch password.Latch) *measuredLatch {
	for _, operation := range []string{latchLoad, latchSwap, latchReset} {
		for _, result := range []string{"ok", "conflict", "corrupt", "timeout", "failed"} {
			m.latchOperations.WithLabelValues(operation, result)
		}
	}
	return &measuredLatch{
		Latch: latch, operations: m.latchOperations,
		load:  m.latchSeconds.WithLabelValues(latchLoad),
		swap:  m.latchSeconds.WithLabelValues(latchSwap),
		reset: m.latchSeconds.WithLabelValues(latchReset),
	}
}

// Load gives the record.
func (l *measuredLatch) Load(ctx context.Context, key password.Key) (password.Record, password.Version, error) {
	end := l.begin(ctx, latchLoad, l.load)
	record, version, err := l.Latch.Load(ctx, key)
	end(err)
	return record, version, err
}

// Swap replaces the record.
func (l *measuredLatch) Swap(ctx context.Context, key password.Key, old password.Version, next password.Record) (password.Version, error) {
	end := l.begin(ctx, latchSwap, l.swap)
	version, err := l.Latch.Swap(ctx, key, old, next)
	end(err)
	return version, err
}

// Reset forgets the record.
func (l *measuredLatch) Reset(ctx context.Context, key password.Key) error {
	end := l.begin(ctx, latchReset, l.reset)
	err := l.Latch.Reset(ctx, key)
	end(err)
	return err
}

func (l *measuredLatch) begin(ctx context.Context, operation string, seconds prometheus.Observer) (end func(error)) {
	start := time.Now()
	span := startSpan(ctx, "latch")
	return func(err error) {
		result := latchResult(err)
		seconds.Observe(time.Since(start).Seconds())
		l.operations.WithLabelValues(operation, result).Inc()
		span.set(attribute.String("metaguard.latch.operation", operation), attribute.String("metaguard.latch.result", result))
		span.end(result == "corrupt" || result == "timeout" || result == "failed", result)
	}
}

// latchResult is a call's result, of a closed set.
func latchResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, password.ErrConflict):
		return "conflict"
	case errors.Is(err, password.ErrCorrupt):
		return "corrupt"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	}
	return "failed"
}

// latchName is the word after `latch`.
func latchName(latch password.Latch) string {
	if module, ok := latch.(caddy.Module); ok {
		return module.CaddyModule().ID.Name()
	}
	return nobody
}
