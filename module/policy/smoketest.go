// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// smokeTimeout bounds the whole smoke test. It asks some hundred questions.
const smokeTimeout = 20 * time.Second

// smokeCaller is who asks in the smoke test, and for whose data.
type smokeCaller struct {
	name, means string
	caller      decision.Caller
	target      decision.Target
	session     decision.Session
}

// smokeCallers are an instance that asks for itself, and all who should get
// nothing of another's. Nobody has these names, so that a rule about somebody
// is not tried.
var smokeCallers = func() []smokeCaller {
	instance := decision.Caller{
		Source: "neutron", ID: "instance:smoke-test", InstanceID: "smoke-test", ProjectID: "smoke-test-project",
		Address: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
	}
	own := decision.Target{InstanceID: instance.InstanceID, ProjectID: instance.ProjectID, Address: instance.Address}
	neighbour := decision.Target{InstanceID: "smoke-test-neighbour", ProjectID: instance.ProjectID, Address: netip.AddrFrom4([4]byte{192, 0, 2, 2})}
	stranger := decision.Target{InstanceID: "smoke-test-stranger", ProjectID: "smoke-test-other-project", Address: netip.AddrFrom4([4]byte{192, 0, 2, 3})}
	member := decision.Caller{
		Source: "keystone", ID: "user:smoke-test-member", ProjectID: instance.ProjectID, Roles: []string{"smoke-test-role"},
		Address: netip.AddrFrom4([4]byte{192, 0, 2, 6}),
	}
	listed := decision.Caller{
		Source: "remote_ip", ID: "instance:smoke-test-listed", InstanceID: "smoke-test-listed", ProjectID: "smoke-test-third-project",
		Roles: []string{"smoke-test-role"}, Address: netip.AddrFrom4([4]byte{192, 0, 2, 7}),
	}
	user := decision.Caller{Source: "jwt", ID: "user:smoke-test", Address: netip.AddrFrom4([4]byte{192, 0, 2, 4})}
	anonymous := decision.Caller{Source: "anonymous", ID: "anonymous", Address: netip.AddrFrom4([4]byte{192, 0, 2, 5})}
	return []smokeCaller{
		{"own", "an instance that asks for itself", instance, own, decision.Session{}},
		{"other_instance", "an instance that asks for another of its project", instance, neighbour, decision.Session{}},
		{"other_project", "an instance that asks for one of another project", instance, stranger, decision.Session{}},
		{"in_session", "an instance that asks for one of another project, in a valid session", listed, stranger, decision.Session{Present: true, Valid: true, AgeSeconds: 1}},
		{"project_user", "a user of the project that asks for an instance of it", member, neighbour, decision.Session{}},
		{"no_project", "a caller without instance and project", user, stranger, decision.Session{}},
		{"anonymous", "a caller that no identity source knows", anonymous, decision.Target{Address: anonymous.Address}, decision.Session{}},
	}
}()

// adminPass is the grant that shows what is hidden. Without it, but with every
// other, the answers must hide what the built-in policy hides.
const adminPass = "admin_pass:read"

// acceptable is the form of what settings.accept can name.
var acceptable = regexp.MustCompile(`^[a-z]+:(read|write) by (own|other_instance|other_project|in_session|project_user|no_project|anonymous)( without [a-z_]+:[a-z]+| shows .+)?$`)

// smoke is one question of the smoke test.
type smoke struct {
	caller  *smokeCaller
	in      decision.Input
	without string // the grant that was taken away from all others; empty: nobody has any
}

// name is the finding, if there is one.
func (q *smoke) name() string {
	name := fmt.Sprintf("%s:%s by %s", q.in.Resource.Kind, q.in.Resource.Action, q.caller.name)
	if q.without != "" {
		name += " without " + q.without
	}
	return name
}

// what is the question in words.
func (q *smoke) what() string {
	return fmt.Sprintf("%s %s from %s", q.in.Request.Method, q.in.Request.Path, q.caller.means)
}

// smokes lists all questions: every sample by every caller, once where nobody
// has a grant, and once for each grant that could matter, where the caller has
// every grant but that one.
func smokes(samples []decision.Input) []smoke {
	var all []smoke
	for i := range smokeCallers {
		who := &smokeCallers[i]
		for _, in := range samples {
			in.Request.ID = "smoke-test"
			in.Caller, in.Target, in.Session = who.caller, who.target, who.session
			withouts := []string{""}
			if own := fmt.Sprintf("%s:%s", in.Resource.Kind, in.Resource.Action); slices.Contains(grantNames, own) {
				withouts = append(withouts, own)
			}
			if who.name != "own" {
				withouts = append(withouts, "target:project", "target:any")
			}
			withouts = append(withouts, adminPass)
			for _, without := range withouts {
				all = append(all, smoke{caller: who, in: in, without: without})
			}
		}
	}
	return all
}

// smokeTest refuses a policy that allows what the built-in policy would not,
// or shows what that one hides, unless its data accepts just that. It finds
// what it samples and nothing else.
func (p *Policy) smokeTest(ctx context.Context, samples []decision.Input, at *pace.Pace, accepted []string, bad *findings) {
	questions := smokes(samples)
	asking := newAsking(at)
	expected, err := reference(ctx, samples, questions, asking)
	if err == nil {
		var got []Result
		if got, err = p.answer(ctx, questions, asking); err == nil {
			p.compare(questions, expected, got, accepted, bad)
			return
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%d sample decisions took longer than %v", len(questions), smokeTimeout)
	}
	bad.add(Finding{Code: CodeSmokeTest, Message: "smoke test: " + err.Error(), Hint: "a decision has to be made within the timeout"})
}

// asking is the time of a smoke test: at a gentle pace it rests as well, which does not
// count. What is loaded while requests are served must also be when a process starts.
type asking struct {
	at    *pace.Pace
	until time.Time // without its rests
}

func newAsking(at *pace.Pace) *asking {
	return &asking{at, time.Now().Add(smokeTimeout - at.Rested())}
}

// next is the context of the next question.
func (a *asking) next(ctx context.Context) (context.Context, context.CancelFunc) {
	a.at.Look()
	return context.WithDeadline(ctx, a.until.Add(a.at.Rested()))
}

// answer asks a policy all questions.
func (p *Policy) answer(ctx context.Context, questions []smoke, asking *asking) ([]Result, error) {
	queries := map[string]*Policy{}
	results := make([]Result, len(questions))
	for i, question := range questions {
		asked, ok := queries[question.without]
		if !ok {
			var err error
			if asked, err = p.withGrants(question.without); err != nil {
				return nil, err
			}
			queries[question.without] = asked
		}
		within, cancel := asking.next(ctx)
		result := asked.Decide(within, &question.in)
		err := within.Err()
		cancel()
		// Without the input: those of the built-in policy are kept.
		results[i] = Result{Decision: result.Decision, Reason: result.Reason, Rules: result.Rules, Err: result.Err}
		if err != nil {
			return nil, err
		}
		if reason := results[i].Reason; reason == decision.PolicyTimeout || reason == decision.PolicyCancelled {
			return nil, fmt.Errorf("%s: %w", question.what(), results[i].Err)
		}
	}
	return results, nil
}

// withGrants is the same policy where the callers of the smoke test have every
// grant but one, or none, whatever its data says.
func (p *Policy) withGrants(without string) (*Policy, error) {
	grants := ast.NewObject()
	if without != "" {
		var names []*ast.Term
		for _, name := range grantNames {
			if name != without {
				names = append(names, ast.StringTerm(name))
			}
		}
		held := ast.ArrayTerm(names...)
		callers := ast.NewObject()
		for _, who := range smokeCallers {
			callers.Insert(ast.StringTerm(who.caller.ID), held)
		}
		grants.Insert(ast.StringTerm("caller_id"), ast.NewTerm(callers))
	}
	expr := ast.NewExpr(ast.NewTerm(p.entrypoint))
	expr.With = []*ast.With{{
		Target: ast.NewTerm(metaguardPackage.Append(ast.StringTerm("grants"))), Value: ast.NewTerm(grants),
	}}
	query, err := newQuestion(expr, p.compiler, p.data, p.query.runtime)
	if err != nil {
		return nil, fmt.Errorf("preparing: %w", err)
	}
	// The operator's timeout would pass a slow allow for a refusal.
	asked := &Policy{query: query, view: p.view, rules: p.rules, depends: p.depends, timeout: smokeTimeout, revision: p.revision}
	asked.verdicts.Store(newVerdicts(nil))
	return asked, nil
}

// references remembers what the built-in policy says to a set of samples.
var references sync.Map

// reference is what the built-in policy answers.
func reference(ctx context.Context, samples []decision.Input, questions []smoke, asking *asking) ([]Result, error) {
	key, err := json.Marshal(samples)
	if err != nil {
		return nil, fmt.Errorf("encoding the samples: %w", err)
	}
	if known, ok := references.Load(string(key)); ok {
		return known.([]Result), nil
	}
	s, err := Config{Timeout: smokeTimeout, Cache: -1}.check()
	if err != nil {
		return nil, err
	}
	builtIn, err := s.compile(ctx, &source{}, nil)
	if err != nil {
		return nil, err
	}
	answers, err := builtIn.answer(ctx, questions, asking)
	if err == nil {
		references.Store(string(key), answers)
	}
	return answers, err
}
