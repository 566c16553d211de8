// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"maps"

	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
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
		options := []rego.EvalOption{
			rego.EvalParsedInput(q.Input), rego.EvalTime(q.Time), rego.EvalMetrics(metrics.NoOp()),
			rego.EvalQueryTracer(tracer), rego.EvalRuleIndexing(false),
		}
		if q.Answers != nil {
			options = append(options, rego.EvalNDBuiltinCache(maps.Clone(q.Answers)))
		}
		if _, err := p.query.Eval(ctx, options...); err == nil {
			return *tracer
		}
		// A function has failed in a rule that the index leaves out.
	}
	tracer := topdown.NewBufferTracer()
	q.Tracer = tracer
	p.eval(ctx, q, answered) //nolint:errcheck // its steps are asked for
	return *tracer
}
