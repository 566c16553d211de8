// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// A step that panics ends its span as failed, and what it panicked with stands in
// none. The panic goes on.
func TestSpanOfAPanic(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	ctx, request := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)).Tracer("test").Start(t.Context(), "request")
	x := &exchange{h: &Handler{dialect: new(dialect.OpenStack)}, r: httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx), span: request}
	func() {
		defer func() {
			if cause := recover(); cause != "planted-in-the-panic" {
				t.Errorf("panicked with %v", cause)
			}
		}()
		_ = x.traced("decide", func() *decision.Refusal { panic("planted-in-the-panic") })
	}()
	x.reason, x.outcome = decision.PolicyDeny, outcomePanic // no 5xx, by which Caddy would know
	x.traceRequest()
	request.End()
	spans := recorder.Ended()
	if len(spans) != 2 || spans[1].Status().Code != codes.Error || spans[0].Name() != "metaguard.decide" || spans[0].Status().Code != codes.Error {
		t.Fatalf("%v", spans)
	}
	for _, span := range spans {
		if text := fmt.Sprintf("%+v %+v %+v", span.Attributes(), span.Events(), span.Status()); strings.Contains(text, "planted") {
			t.Errorf("%s: %s", span.Name(), text)
		}
	}
}

// A failure is what went wrong on this side.
func TestFailure(t *testing.T) {
	for _, reason := range decision.Reasons() {
		want := reason.Status() >= 500 && reason != decision.PolicyAllow || reason == decision.PolicyMalformed || reason == decision.PolicyUndefined
		if failure(reason) != want {
			t.Errorf("%s: %v", reason, !want)
		}
	}
	if failure("") || !failure("made up") {
		t.Error("a word that is no reason")
	}
}
