// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// candidateQueue is how many decisions may wait for the candidate. What does
// not fit is counted and not compared.
const candidateQueue = 1024

// candidate is a second policy, asked about what the live one has decided. It
// runs beside requests and has no say in them.
type candidate struct {
	engine *pooledEngine
	key    string
	held   bool

	queue chan judged
	start sync.Once
	stop  context.CancelFunc
	done  chan struct{}
}

// judged is a decision of the live policy.
type judged struct {
	id           string
	method, path string
	live         policy.Result
}

// newCandidate compiles the candidate. It starts nothing.
func newCandidate(live *pooledEngine, config policy.Config) (*candidate, error) {
	engine, key, err := acquireEngine(config, live)
	if err != nil {
		return nil, err
	}
	return &candidate{engine: engine, key: key, held: true, queue: make(chan judged, candidateQueue)}, nil
}

// Start begins to compare.
func (c *candidate) Start() error {
	c.start.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		c.stop, c.done = cancel, make(chan struct{})
		go func() {
			defer close(c.done)
			c.run(ctx)
		}()
	})
	return nil
}

// Cleanup ends the comparing and gives the engine back. What waits is dropped.
func (c *candidate) Cleanup() error {
	c.start.Do(func() {}) // never started: it shall not be any more
	if c.stop != nil {
		c.stop()
		<-c.done
	}
	if !c.held {
		return nil
	}
	c.held = false
	return releaseEngine(c.key)
}

// compare hands the live decision to the candidate, if there is one, and never
// waits for it.
func (x *exchange) compare() {
	c := x.h.candidate
	if c == nil || x.result.Input() == nil {
		return
	}
	select {
	case c.queue <- judged{x.id, x.request.Method, x.request.Path, x.result}:
	default:
		candidateDecisions.WithLabelValues("dropped").Inc()
	}
}

func (c *candidate) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case asked := <-c.queue:
			c.judge(ctx, &asked)
		}
	}
}

// judge asks the candidate the same question, at the same time and with the
// same answers of builtins, and tells what differs.
func (c *candidate) judge(ctx context.Context, asked *judged) {
	other := c.engine.Policy()
	if other == nil {
		candidateDecisions.WithLabelValues("dropped").Inc()
		return
	}
	// The answers are nobody else's any more: the request has recorded them.
	result := other.Judge(ctx, policy.Query{Input: asked.live.Input(), Time: asked.live.Time, Answers: asked.live.Answers})
	if ctx.Err() != nil {
		return
	}
	what := difference(&asked.live, &result)
	if what == "" {
		candidateDecisions.WithLabelValues("same").Inc()
		return
	}
	candidateDecisions.WithLabelValues("different").Inc()
	resource := asked.live.Resource()
	candidateDifferences.WithLabelValues(verdictLabel(&asked.live), verdictLabel(&result), string(resource.Kind)).Inc()
	candidateLogger().Info("candidate decides otherwise",
		zap.String("decision_id", asked.id),
		zap.String("difference", what),
		zap.String("resource", string(resource.Kind)),
		zap.String("action", string(resource.Action)),
		zap.String("method", asked.method),
		zap.String("path", asked.path),
		zap.String("caller", asked.live.CallerID()),
		zap.Dict("live", resultFields(&asked.live)...),
		zap.Dict("candidate", resultFields(&result)...))
}

func candidateLogger() *zap.Logger { return runningLogger().Named("candidate") }

// difference says in one word what a client would notice, or "". Codes alone
// are no difference.
func difference(live, other *policy.Result) string {
	a, b := live.Decision, other.Decision
	switch {
	case live.Reason != other.Reason:
		return "verdict"
	case a.Status != b.Status:
		return "status"
	case !slices.Equal(a.Redact.JSON, b.Redact.JSON), !slices.Equal(a.Redact.Keys, b.Redact.Keys), !slices.Equal(a.Redact.Listing, b.Redact.Listing):
		return "redact"
	}
	return ""
}

// verdictLabel is the label of a metric: allow, deny or error.
func verdictLabel(result *policy.Result) string {
	switch result.Reason {
	case decision.PolicyAllow:
		return string(decision.Allow)
	case decision.PolicyDeny:
		return string(decision.Deny)
	default:
		return "error"
	}
}

func resultFields(result *policy.Result) []zap.Field {
	fields := []zap.Field{
		zap.String("verdict", verdictLabel(result)),
		zap.String("reason", string(result.Reason)),
		zap.Strings("codes", result.Decision.Reasons),
		zap.Strings("rules", result.Rules),
		zap.String("revision", result.Revision),
	}
	if result.Decision.Status != 0 {
		fields = append(fields, zap.Int("status", result.Decision.Status))
	}
	if !result.Decision.Redact.Empty() {
		fields = append(fields, zap.Any("redact", result.Decision.Redact))
	}
	if result.Err != nil {
		fields = append(fields, zap.String("error", result.Err.Error()))
	}
	return fields
}
