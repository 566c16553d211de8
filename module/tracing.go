// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/metaguard/metaguard/module/decision"
)

// tracerName names what makes the spans: the instrumentation scope.
const tracerName = "github.com/metaguard/metaguard/module"

// span is one step of a request under Caddy's `tracing`, a child of the span that
// Caddy made for the whole request. The zero value is none, and does nothing.
type span struct{ trace.Span }

// startSpan begins a step, if the request is traced. Otherwise it costs a look
// into the context.
func startSpan(ctx context.Context, step string) span {
	request := trace.SpanFromContext(ctx)
	if !request.IsRecording() {
		return span{}
	}
	_, child := request.TracerProvider().Tracer(tracerName).Start(ctx, "metaguard."+step)
	return span{child}
}

func (s span) set(attributes ...attribute.KeyValue) {
	if s.Span != nil {
		s.SetAttributes(attributes...)
	}
}

// end ends the step. Errors of Go are never recorded: nobody knows what they
// quote. It must not be deferred itself: the SDK would find what a step panicked
// with, and record it.
func (s span) end(failed bool, why string) {
	if s.Span == nil {
		return
	}
	if failed {
		s.SetStatus(codes.Error, why)
	}
	s.End()
}

// traced runs a step of a request's way as a span of its own.
func (x *exchange) traced(name string, step func() *decision.Refusal) *decision.Refusal {
	if x.span == nil {
		return step()
	}
	s := startSpan(x.r.Context(), name)
	returned := false
	defer func() {
		if !returned {
			s.end(true, string(outcomePanic))
		}
	}()
	refusal := step()
	returned = true
	reason, code := x.reason, x.code
	if refusal != nil {
		reason, code = refusal.Reason, refusal.Code
	}
	s.set(x.attributes(reason, code)...)
	s.end(failure(reason), string(reason))
	return refusal
}

// traceRequest tells Caddy's own span of the request how it ended.
func (x *exchange) traceRequest() {
	if x.span == nil {
		return
	}
	request := span{x.span}
	request.set(x.attributes(x.reason, x.code)...)
	request.set(
		attribute.String("metaguard.verdict", string(x.verdict)),
		attribute.String("metaguard.outcome", string(x.outcome)),
		attribute.String("metaguard.mode", x.h.Mode))
	if x.outcome == outcomePanic || failure(x.reason) {
		request.SetStatus(codes.Error, string(x.reason))
	}
}

// attributes is what is known of the request by now: words from closed sets, the
// decision id, and the policy's revision. Paths, headers, callers and errors are
// in the decision log only (invariant I3).
func (x *exchange) attributes(reason decision.Reason, code string) []attribute.KeyValue {
	resource := x.match.Resource
	known := make([]attribute.KeyValue, 0, 12)
	for _, text := range [...]struct{ key, value string }{
		{"metaguard.decision_id", x.id},
		{"metaguard.site", x.h.site},
		{"metaguard.dialect", x.h.dialect.Name()},
		{"metaguard.source", x.claimed},
		{"metaguard.resource", string(resource.Kind)},
		{"metaguard.action", string(resource.Action)},
		{"metaguard.revision", x.result.Revision},
		{"metaguard.reason", string(reason)},
		{"metaguard.code", code},
	} {
		if text.value != "" {
			known = append(known, attribute.String(text.key, text.value))
		}
	}
	return known
}

// failure tells what went wrong on this side from what was refused, which is
// business as usual.
func failure(reason decision.Reason) bool {
	switch reason {
	case "", decision.PolicyAllow:
		return false
	case decision.PolicyMalformed, decision.PolicyUndefined: // defects of the policy, whatever the client is told
		return true
	default:
		return reason.Status() >= http.StatusInternalServerError
	}
}
