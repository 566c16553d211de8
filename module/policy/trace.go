// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"maps"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/metaguard/metaguard/module/decision"
)

// Trace answers a question again that Judge has answered, at the same time and
// with the same answers of functions, and gives every step. Rules that OPA's
// index leaves out unseen are stepped through too, so that each says where it
// fails.
func (p *Policy) Trace(ctx context.Context, q Query, answered *Result) []*topdown.Event {
	q.Time, q.Answers = answered.Time, answered.Answers
	q.Print = func(string, int, string) {}
	if answered.Reason != decision.PolicyError {
		tracer := topdown.NewBufferTracer()
		query := p.query.about(q.Input, q.Time).WithQueryTracer(tracer).WithIndexing(false)
		if q.Answers != nil {
			query = query.WithNDBuiltinCache(maps.Clone(q.Answers))
		}
		if _, err := ask(ctx, query); err == nil {
			return *tracer
		}
		// A function has failed in a rule that the index leaves out.
	}
	tracer := topdown.NewBufferTracer()
	q.Tracer = tracer
	p.eval(ctx, q, answered, p.until(q, time.Now())) //nolint:errcheck // its steps are asked for
	return *tracer
}
