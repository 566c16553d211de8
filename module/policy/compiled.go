// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	opaprint "github.com/open-policy-agent/opa/v1/topdown/print"

	"github.com/metaguard/metaguard/module/decision"
)

// Policy is one compiled policy with its data. It never changes; an edit makes
// a new one. It is safe for use by many goroutines.
type Policy struct {
	query      *question
	entrypoint ast.Ref
	compiler   *ast.Compiler
	data       *branch
	rules      ruleIndex
	print      *printer
	timeout    time.Duration
	revision   string
	identity   string
	system     []file // rules for OPA itself
	bundles    map[string]string
	loaded     time.Time
	files      int
	sources    []file // the operator's rules
	replaces   bool   // they replace the built-in ones
	warnings   findings
	// depends is what its answers can depend on. Answers of the world are recorded.
	depends dependence
	// view is what its rules can reach of an input.
	view *inputView
	// constants are what decisions need not evaluate.
	constants constants
	// verdicts are those that it has given, and the cache of them.
	verdicts atomic.Pointer[verdicts]
	renewing sync.Mutex // of verdicts
}

// Load compiles and checks a policy once, as [New] does, without following its
// files and without its bundles. Errors in the policy are an *Error.
func Load(ctx context.Context, cfg Config, opts ...Option) (*Policy, error) {
	s, err := cfg.check()
	if err != nil {
		return nil, err
	}
	var e Engine
	for _, opt := range opts {
		opt(&e)
	}
	src, err := s.read()
	if err != nil {
		return nil, err
	}
	return s.compile(ctx, src, e.print)
}

// Revision is a digest of the policy and its data.
func (p *Policy) Revision() string { return p.revision }

// Warnings are findings that are no reason to refuse the policy.
func (p *Policy) Warnings() []Finding { return p.warnings.list() }

// Query is one question to a policy.
type Query struct {
	// Input is the input document.
	Input ast.Value
	// Time is what the policy takes for now, to the nanosecond. Zero: now.
	Time time.Time
	// Answers are what non-deterministic builtins said when the same question
	// was asked before; those that are in it are not called again.
	Answers builtins.NDBCache
	// Tracer sees every step of the evaluation.
	Tracer topdown.QueryTracer
	// Print receives the output of print(), in place of [WithPrint]'s hook.
	Print PrintHook
	// Unbounded lets the evaluation take longer than the configured timeout.
	Unbounded bool
}

// Result is one verdict and why.
type Result struct {
	// Decision is the zero value, a denial, unless Reason is PolicyAllow or
	// PolicyDeny.
	Decision decision.Decision
	Reason   decision.Reason
	// Rules are the places, file:line, of the rules that gave the decision's
	// codes.
	Rules []string
	// Revision is of the policy that decided; empty if none did.
	Revision string
	// Err says more, for the log, where the reason is an error.
	Err error
	// Time is what the policy took for now.
	Time time.Time
	// Duration is how long the decision took.
	Duration time.Duration
	// Output is what the entrypoint gave, before it was read; nil if nothing.
	Output ast.Value
	// Answers are what non-deterministic builtins said; nil if none was asked.
	Answers builtins.NDBCache
	// Cached tells that the same was asked before and not evaluated again.
	Cached bool

	input   ast.Value
	asked   *decision.Input   // what input is made of when it is needed
	bundles map[string]string // revisions by name
	verdict *verdict          // what may be remembered of it; nil: nothing
}

// Input is the document that was judged; nil if there was none. It is not for
// several goroutines at one time.
func (r *Result) Input() ast.Value {
	if r.input == nil && r.asked != nil {
		r.input, _ = InputValue(r.asked) // what was judged can be shown
		r.asked = nil
	}
	return r.input
}

// Resource is what the judged request asks for, as far as its input says.
func (r *Result) Resource() decision.Resource {
	return decision.Resource{
		Kind:   decision.Kind(textAt(r.Input(), names.resource, names.kind)),
		Action: decision.Action(textAt(r.Input(), names.resource, names.action)),
	}
}

// CallerID is who asked, as far as the input says.
func (r *Result) CallerID() string { return textAt(r.Input(), names.caller, names.id) }

// Document is the input as JSON types; nil if there was none.
func (r *Result) Document() (any, error) {
	input := r.Input()
	if input == nil {
		return nil, nil //nolint:nilnil // no input is an answer
	}
	return ast.JSON(input)
}

// PanicError is a panic inside OPA, caught.
type PanicError struct {
	// Value is what was thrown.
	Value any
	// Stack is where, for the log.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("OPA panicked: %v", e.Value) }

// Decide judges a request. It never fails: whatever goes wrong is a denial
// with a reason.
func (p *Policy) Decide(ctx context.Context, in *decision.Input) Result {
	input, err := p.view.of(in)
	if err != nil {
		now := time.Now()
		return Result{Reason: decision.PolicyError, Err: err, Revision: p.revision, Time: now, Duration: time.Since(now)}
	}
	result := p.Judge(ctx, Query{Input: input})
	result.input, result.asked = nil, in
	return result
}

// Judge is the one place where a compiled policy and an input become a
// verdict. Whatever is not a well-formed decision is a denial.
func (p *Policy) Judge(ctx context.Context, q Query) (result Result) {
	start := time.Now()
	result = Result{input: q.Input, Revision: p.revision, Time: q.Time, bundles: p.bundles}
	if result.Time.IsZero() {
		result.Time = start
	}
	defer func() {
		if v := recover(); v != nil {
			result.Decision, result.Reason, result.Err = decision.Decision{}, decision.PolicyError, &PanicError{Value: v, Stack: debug.Stack()}
		}
		result.Duration = time.Since(start)
	}()
	// OPA can evaluate a small policy to its end under a cancelled context, so
	// the context is asked before and after.
	if err := ctx.Err(); err != nil {
		result.Reason, result.Err = decision.PolicyCancelled, err
		return result
	}
	if p.depends.world {
		if result.Answers = q.Answers; result.Answers == nil {
			result.Answers = builtins.NDBCache{}
		}
	}
	until := p.until(q, start)
	value, reason, err := p.eval(ctx, q, &result, until)
	if reason != "" {
		result.Reason, result.Err = reason, err
		return result
	}
	result.Output = value
	if value == nil {
		result.Reason = decision.PolicyUndefined
		return result
	}
	v, err := p.verdictOf(value, isPasswordRead(q.Input))
	if err != nil {
		result.Reason, result.Err = decision.PolicyMalformed, err
		return result
	}
	if !v.explained {
		v = p.explain(ctx, until, q, &result, v)
	}
	result.take(v)
	return result
}

// take makes a verdict that of the result.
func (r *Result) take(v *verdict) {
	r.Decision, r.Reason, r.Rules, r.Output = v.decision, v.reason, v.rules, v.output
	if v.explained {
		r.verdict = v
	}
}

// until is when a decision that began at start has taken too long; zero: never.
func (p *Policy) until(q Query, start time.Time) time.Time {
	if q.Unbounded {
		return time.Time{}
	}
	return start.Add(p.timeout)
}

// explain finds the rules that gave a verdict which several can have given: the question
// is asked once more, with a trace. Where that gives no answer, the verdict stays as it is.
func (p *Policy) explain(ctx context.Context, until time.Time, q Query, result *Result, v *verdict) *verdict {
	tracer := newRuleTracer(v.rules)
	q.Tracer, q.Print = tracer, func(string, int, string) {}
	if _, reason, _ := p.eval(ctx, q, result, until); reason != "" {
		return v
	}
	rules := &p.rules.refuses
	if v.decision.Allow {
		rules = &p.rules.allows
	}
	found := rules.among(v.decision.Reasons, tracer.succeeded)
	if len(found) == 0 {
		found = v.rules
	}
	return p.explained(v, found)
}

// eval evaluates the entrypoint until a time, or to its end if that is zero. A reason
// means that there is no result to look at.
func (p *Policy) eval(parent context.Context, q Query, result *Result, until time.Time) (ast.Value, decision.Reason, error) {
	ctx := parent
	if p.depends.world && !until.IsZero() { // builtins that wait look at the context
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(parent, until)
		defer cancel()
	}
	used := scratches.Get().(*scratch)
	used.limit = limit{gone: ctx.Done(), until: until}
	used.rules.Push()
	query := p.query.about(q.Input, result.Time).WithCancel(&used.limit).WithVirtualCache(&used.rules)
	if result.Answers != nil {
		query = query.WithNDBuiltinCache(result.Answers)
	}
	if q.Tracer != nil {
		query = query.WithQueryTracer(q.Tracer)
	} else {
		used.rules.constants = p.constants // no step of theirs could be traced
	}
	switch {
	case q.Print != nil:
		query = query.WithPrintHook(&printer{hook: q.Print})
	case p.print.on():
		query = query.WithPrintHook(p.print)
	}
	value, err := ask(ctx, query)
	late := used.limit.passed()
	used.release()
	switch {
	case parent.Err() != nil:
		return nil, decision.PolicyCancelled, parent.Err()
	case late:
		return nil, decision.PolicyTimeout, fmt.Errorf("no decision within %v", p.timeout)
	case errors.Is(err, errNotOneValue):
		return nil, decision.PolicyMalformed, err
	case err != nil:
		return nil, decision.PolicyError, withoutSecrets(err)
	}
	return value, "", nil
}

// withoutSecrets is an error of a builtin without the queries of URLs.
func withoutSecrets(err error) error {
	if text := err.Error(); withoutQueries(text) != text {
		return errors.New(withoutQueries(text))
	}
	return err
}

// try decides a few ordinary requests, which warms the policy up and finds one
// that is always malformed. What else can go wrong depends on the request and
// is no reason to refuse a policy.
func (p *Policy) try(ctx context.Context, bad *findings) {
	for _, in := range samples() {
		result := p.Decide(ctx, in)
		if result.Reason == decision.PolicyMalformed {
			bad.add(Finding{
				Code: CodeDecisionMalformed,
				Message: fmt.Sprintf("the decision for %s of the kind %s is malformed: %v",
					in.Resource.Action, in.Resource.Kind, result.Err),
			})
			return
		}
	}
}

// samples are requests that any policy must be able to answer in due form.
func samples() []*decision.Input {
	sample := func(method, path string, kind decision.Kind, action decision.Action) *decision.Input {
		address := netip.AddrFrom4([4]byte{192, 0, 2, 1})
		return &decision.Input{
			Version: decision.Version,
			Request: decision.Request{
				ID: "sample", Method: method, Path: path, Segments: []string{"openstack", "latest", string(kind)},
				Host: "169.254.169.254", Protocol: "HTTP/1.1",
			},
			Caller: decision.Caller{
				Source: "neutron", ID: "instance:sample", InstanceID: "sample", ProjectID: "sample", Address: address,
			},
			Target:   decision.Target{InstanceID: "sample", ProjectID: "sample", Address: address},
			Resource: decision.Resource{Dialect: "openstack", Kind: kind, Version: "latest", Action: action},
		}
	}
	write := sample("POST", "/openstack/latest/password", decision.KindPassword, decision.Write)
	write.Request.Body = &decision.Body{Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048}
	return []*decision.Input{
		sample("GET", "/openstack/latest/meta_data.json", decision.KindMetadata, decision.Read),
		sample("GET", "/openstack/latest/password", decision.KindPassword, decision.Read),
		write,
	}
}

// printer hands the output of print() on.
type printer struct {
	enabled func() bool
	hook    PrintHook
}

var _ opaprint.Hook = (*printer)(nil)

func (p *printer) on() bool {
	return p != nil && (p.enabled == nil || p.enabled())
}

// Print implements OPA's hook.
func (p *printer) Print(ctx opaprint.Context, text string) error {
	file, line := "", 0
	if ctx.Location != nil {
		file, line = ctx.Location.File, ctx.Location.Row
	}
	p.hook(file, line, text)
	return nil
}
