// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	opaprint "github.com/open-policy-agent/opa/v1/topdown/print"

	"github.com/metaguard/metaguard/module/decision"
)

// snapshot is one compiled policy with its data. It never changes; a new
// policy is a new snapshot.
type snapshot struct {
	query    rego.PreparedEvalQuery
	print    *printer
	timeout  time.Duration
	revision string
	loaded   time.Time
	files    int
}

// PanicError is a panic inside OPA, caught.
type PanicError struct {
	// Value is what was thrown.
	Value any
	// Stack is where, for the log.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("OPA panicked: %v", e.Value) }

// judge is the one place where a compiled policy and an input become a
// verdict. Whatever is not a well-formed decision is a denial.
func (s *snapshot) judge(ctx context.Context, in *decision.Input) (d decision.Decision, reason decision.Reason, err error) {
	defer func() {
		if v := recover(); v != nil {
			d, reason, err = decision.Decision{}, decision.PolicyError, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	// OPA can evaluate a small policy to its end under a cancelled context, so
	// the context is asked before and after.
	if err := ctx.Err(); err != nil {
		return decision.Decision{}, decision.PolicyCancelled, err
	}
	input, err := inputValue(in)
	if err != nil {
		return decision.Decision{}, decision.PolicyError, err
	}
	results, reason, err := s.eval(ctx, input)
	if reason != "" {
		return decision.Decision{}, reason, err
	}
	if len(results) == 0 {
		return decision.Decision{}, decision.PolicyUndefined, nil
	}
	if len(results) > 1 || len(results[0].Expressions) != 1 {
		return decision.Decision{}, decision.PolicyMalformed, errors.New("the entrypoint has more than one value")
	}
	term, ok := results[0].Expressions[0].Value.(*ast.Term)
	if !ok {
		return decision.Decision{}, decision.PolicyMalformed, errors.New("the entrypoint has no value")
	}
	d, err = decode(term.Value, in.Resource)
	switch {
	case err != nil:
		return decision.Decision{}, decision.PolicyMalformed, err
	case d.Allow:
		return d, decision.PolicyAllow, nil
	default:
		return d, decision.PolicyDeny, nil
	}
}

// eval evaluates the entrypoint within the timeout. A reason means that there
// is no result to look at.
func (s *snapshot) eval(parent context.Context, input ast.Value) (rego.ResultSet, decision.Reason, error) {
	ctx, cancel := context.WithTimeout(parent, s.timeout)
	defer cancel()
	// Without a cancel of our own, OPA starts a goroutine for each evaluation.
	stopper := topdown.NewCancel()
	stop := context.AfterFunc(ctx, stopper.Cancel)
	defer stop()

	options := [4]rego.EvalOption{
		rego.EvalParsedInput(input),
		rego.EvalExternalCancel(stopper),
		rego.EvalMetrics(metrics.NoOp()),
	}
	used := options[:3]
	if s.print.on() {
		used = append(used, rego.EvalPrintHook(s.print))
	}
	results, err := s.query.Eval(ctx, used...)
	switch {
	case parent.Err() != nil:
		return nil, decision.PolicyCancelled, parent.Err()
	case ctx.Err() != nil:
		return nil, decision.PolicyTimeout, fmt.Errorf("no decision within %v", s.timeout)
	case err != nil:
		return nil, decision.PolicyError, err
	}
	return results, "", nil
}

// try decides a few ordinary requests, which warms the policy up and finds one
// that is always malformed. What else can go wrong depends on the request and
// is no reason to refuse a policy.
func (s *snapshot) try(ctx context.Context, bad *findings) {
	for _, in := range samples() {
		_, reason, err := s.judge(ctx, in)
		if reason == decision.PolicyMalformed {
			*bad = append(*bad, Finding{
				Code: CodeDecisionMalformed,
				Message: fmt.Sprintf("the decision for %s of the kind %s is malformed: %v",
					in.Resource.Action, in.Resource.Kind, err),
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
