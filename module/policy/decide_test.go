// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// TestEveryFailureDenies has one policy for each way to fail that a policy can
// find by itself.
func TestEveryFailureDenies(t *testing.T) {
	read := instance(decision.KindMetadata, decision.Read)
	for name, tc := range map[string]struct {
		policy string
		in     *decision.Input
		want   decision.Reason
		err    string
	}{
		"allow":      {"decision := {\"allow\": true}", read, decision.PolicyAllow, ""},
		"deny":       {"decision := {\"allow\": false}", read, decision.PolicyDeny, ""},
		"no input":   {"decision := {\"allow\": true}", nil, decision.PolicyError, "no input"},
		"undefined":  {"decision := {\"allow\": true} if input.caller.id == \"nobody\"", read, decision.PolicyUndefined, ""},
		"two values": {"decision := {\"allow\": x == 1} if some x in [1, 2]", read, decision.PolicyError, "eval_conflict_error"},
		// Without strict errors a failing function is only undefined, and a
		// `not` over it allows.
		"failing function": {"default decision := {\"allow\": false}\ndecision := {\"allow\": true} if not bad\nbad if to_number(input.caller.id) == 1", read, decision.PolicyError, "to_number"},
		"division by zero": {"default decision := {\"allow\": false}\ndecision := {\"allow\": true} if not bad\nbad if 1 / count(input.caller.roles) > 1", read, decision.PolicyError, "divide by zero"},
		"bad claim":        {"decision := {\"allow\": true}", claims(map[string]any{"x": func() {}}), decision.PolicyError, "claim"},
		// The samples are of the kinds metadata and password, so these load.
		"malformed":              {"default decision := {\"allow\": false}\ndecision := {\"Allow\": true} if input.resource.kind == \"userdata\"", instance(decision.KindUserdata, decision.Read), decision.PolicyMalformed, `"Allow"`},
		"malformed: more":        {"default decision := {\"allow\": false}\ndecision := {\"allow\": true, \"why\": 1} if input.resource.kind == \"userdata\"", instance(decision.KindUserdata, decision.Read), decision.PolicyMalformed, `"why"`},
		"malformed: a boolean":   {"default decision := {\"allow\": false}\ndecision := true if input.resource.kind == \"userdata\"", instance(decision.KindUserdata, decision.Read), decision.PolicyMalformed, "object"},
		"malformed: false":       {"default decision := {\"allow\": false}\ndecision := false if input.resource.kind == \"userdata\"", instance(decision.KindUserdata, decision.Read), decision.PolicyMalformed, "object"},
		"malformed: 200":         {"default decision := {\"allow\": false}\ndecision := {\"allow\": false, \"status\": 200} if input.resource.kind == \"userdata\"", instance(decision.KindUserdata, decision.Read), decision.PolicyMalformed, "200"},
		"empty for a password":   {"default decision := {\"allow\": false}\ndecision := {\"allow\": false, \"status\": 200} if {\n\tinput.resource.kind == \"password\"\n\tinput.resource.action == \"read\"\n}", instance(decision.KindPassword, decision.Read), decision.PolicyDeny, ""},
		"denied with a status":   {"decision := {\"allow\": false, \"status\": 404}", read, decision.PolicyDeny, ""},
		"allowed and redacted":   {"decision := {\"allow\": true, \"redact\": {\"keys\": [\"admin_pass\"]}}", read, decision.PolicyAllow, ""},
		"claims reach a policy":  {"default decision := {\"allow\": false}\ndecision := {\"allow\": true} if input.caller.claims.groups[_] == \"ops\"", claims(map[string]any{"groups": []any{"ops"}}), decision.PolicyAllow, ""},
		"nothing is not a claim": {"default decision := {\"allow\": false}\ndecision := {\"allow\": true} if input.caller.claims == {}", read, decision.PolicyAllow, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, Config{Paths: []string{dir(t, whole(tc.policy))}})
			got := e.Decide(t.Context(), tc.in)
			if got.Reason != tc.want {
				t.Fatalf("got %s (%v), want %s", got.Reason, got.Err, tc.want)
			}
			if got.Decision.Allow != (tc.want == decision.PolicyAllow) {
				t.Errorf("allow is %v", got.Decision.Allow)
			}
			if tc.err == "" != (got.Err == nil) || tc.err != "" && !strings.Contains(got.Err.Error(), tc.err) {
				t.Errorf("error %v, want %q", got.Err, tc.err)
			}
			if got.Revision == "" || got.Duration <= 0 {
				t.Errorf("revision %q, duration %v", got.Revision, got.Duration)
			}
		})
	}
}

func claims(c map[string]any) *decision.Input {
	in := instance(decision.KindMetadata, decision.Read)
	in.Caller.Claims = c
	return in
}

func TestNotReady(t *testing.T) {
	for name, e := range map[string]*Engine{"nil": nil, "empty": {}} {
		got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		if got.Reason != decision.PolicyNotReady || got.Decision.Allow {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// slow takes far longer than any test wants to wait.
const slow = "decision := {\"allow\": count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i == j]) > 0}"

func TestTimeout(t *testing.T) {
	e := engine(t, Config{Paths: []string{dir(t, whole(slow))}, Timeout: 20 * time.Millisecond})
	got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	if got.Reason != decision.PolicyTimeout || got.Decision.Allow || got.Err == nil {
		t.Errorf("got %+v", got)
	}
}

func TestCancelled(t *testing.T) {
	allow := engine(t, Config{Paths: []string{dir(t, whole("decision := {\"allow\": true}"))}})
	in := instance(decision.KindMetadata, decision.Read)

	before, cancel := context.WithCancel(t.Context())
	cancel()
	if got := allow.Decide(before, in); got.Reason != decision.PolicyCancelled || got.Decision.Allow || !errors.Is(got.Err, context.Canceled) {
		t.Errorf("cancelled before: %+v", got)
	}
	// OPA itself gives a value then: this is what the check is for.
	if value, err := ask(before, allow.live.Load().query.about(nil, time.Now())); err != nil || value == nil {
		t.Logf("OPA has learnt to look at the context: %v %v", value, err)
	}

	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if got := allow.Decide(late, in); got.Reason != decision.PolicyCancelled || got.Decision.Allow {
		t.Errorf("deadline of the request: %+v", got)
	}

	// The request ends while the policy runs, which still comes to its end.
	during, cancel := context.WithCancel(t.Context())
	defer cancel()
	hook := func(string, int, string) { cancel() }
	armed := false // the samples at load print too
	printing := engine(t, Config{Paths: []string{dir(t, whole("decision := {\"allow\": true} if print(\"x\")"))}},
		WithPrint(func() bool { return armed }, hook))
	armed = true
	if got := printing.Decide(during, in); got.Reason != decision.PolicyCancelled || got.Decision.Allow {
		t.Errorf("cancelled during: %+v", got)
	}

	// And while it would run for ever.
	endless := engine(t, Config{Paths: []string{dir(t, whole(slow))}, Timeout: time.Hour, AllowBuiltins: []string{"opa.runtime"}})
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got := endless.Decide(short, in); got.Reason != decision.PolicyCancelled || got.Decision.Allow {
		t.Errorf("cancelled in the middle: %+v", got)
	}
}

func TestPanicDenies(t *testing.T) {
	armed := false
	e := engine(t, Config{Paths: []string{dir(t, whole("decision := {\"allow\": true} if print(\"x\")"))}},
		WithPrint(func() bool { return armed }, func(string, int, string) { panic("boom") }))
	armed = true
	got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	var panicked *PanicError
	if got.Reason != decision.PolicyError || got.Decision.Allow || !errors.As(got.Err, &panicked) || len(panicked.Stack) == 0 {
		t.Errorf("got %+v", got)
	}
}

// TestMoreThanOneResult cannot come about by way of New.
func TestMoreThanOneResult(t *testing.T) {
	compiler := ast.NewCompiler()
	compiler.Compile(nil)
	for name, text := range map[string]string{
		"values":   `[{"allow": true}, {"allow": true, "reasons": []}][_]`,
		"the same": `[{"allow": true}, {"allow": true}][_]`,
	} {
		asked, err := newQuestion(ast.MustParseExpr(text), compiler, new(branch), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := &Policy{query: asked, view: wholeInput, timeout: time.Second}
		r := p.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		if r.Reason != decision.PolicyMalformed || r.Decision.Allow || r.Err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestPrint(t *testing.T) {
	type line struct {
		file string
		line int
		text string
	}
	var got []line
	enabled := false
	root := dir(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n\tprint(\"seen\", input.caller.id)\n}\n"})
	e := engine(t, Config{Paths: []string{root}},
		WithPrint(func() bool { return enabled }, func(file string, n int, text string) { got = append(got, line{file, n, text}) }))
	in := instance(decision.KindHealth, decision.Read)
	if e.Decide(t.Context(), in); len(got) > 0 {
		t.Errorf("printed while off: %v", got)
	}
	enabled = true
	e.Decide(t.Context(), in)
	if len(got) == 0 || !strings.HasSuffix(got[0].file, "team.rego") || got[0].line != 4 || got[0].text != "seen "+in.Caller.ID {
		t.Errorf("printed %v", got)
	}

	silent := engine(t, Config{Paths: []string{root}})
	if r := silent.Decide(t.Context(), in); r.Reason != decision.PolicyDeny {
		t.Errorf("without a hook: %s %v", r.Reason, r.Err)
	}
}

func TestEntrypoint(t *testing.T) {
	root := dir(t, files{
		"main.rego": "package corp.authz\n\nverdict := object.union(data.metaguard.decision, {\"reasons\": [\"seen\"]})\n",
		"team.rego": "package metaguard.team\n\nallow contains \"x\"\n",
	})
	e := engine(t, Config{Paths: []string{root}, Entrypoint: "corp/authz/verdict"})
	got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	if got.Reason != decision.PolicyAllow || got.Decision.Reasons[0] != "seen" {
		t.Errorf("got %+v", got)
	}
}

// TestAllowedBuiltins shows that a switch opens exactly what it names, and that
// loading does not call it.
func TestAllowedBuiltins(t *testing.T) {
	t.Setenv("METAGUARD_TEST", "yes")
	root := dir(t, whole("default decision := {\"allow\": false}\ndecision := {\"allow\": true} if opa.runtime().env.METAGUARD_TEST == \"yes\""))
	e := engine(t, Config{Paths: []string{root}, AllowBuiltins: []string{"opa.runtime"}})
	if got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); got.Reason != decision.PolicyAllow {
		t.Errorf("got %+v", got)
	}
	if _, err := New(t.Context(), Config{Paths: []string{root}, AllowBuiltins: []string{"http.send"}}); err == nil {
		t.Error("http.send opened opa.runtime")
	}
}
