// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// explainOne asks a policy about a request, as the command does.
func explainOne(t *testing.T, source string, flags ...string) (*explained, ast.Value) {
	t.Helper()
	from := loader{}
	if source != "" {
		path := filepath.Join(t.TempDir(), "team.rego")
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		from.paths = []string{path}
	}
	var asked question
	command := &cobra.Command{}
	asked.flags(command)
	if err := command.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	query, err := asked.query(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := from.load(context.Background(), withPrint())
	if err != nil {
		t.Fatal(err)
	}
	result, v, err := ask(context.Background(), p, query)
	if err != nil {
		t.Fatal(err)
	}
	return explain(v, &result, p.Trace(context.Background(), query, &result)), query.Input
}

func (e *explained) text(input ast.Value, limit int) string {
	var text strings.Builder
	e.print(&text, input, limit)
	return text.String()
}

func TestExplainShowsWhatTheIndexLeavesOut(t *testing.T) {
	e, _ := explainOne(t, `package metaguard.team

allow contains "never" if input.resource.kind == "token"

allow contains "alice" if input.caller.id == "user:alice"
`, "--as", "user:bob", "--path", "/openstack/latest/password")
	if len(e.Could) == 0 || e.Could[0].Code != "alice" {
		t.Errorf("the rule that nearly held is not the first: %+v", e.Could)
	}
	if !slices.ContainsFunc(e.Others, func(o ruleOutcome) bool { return o.Code == "never" }) {
		t.Errorf("the rule about another request is missing: %+v", e.Others)
	}
}

// Without the index, the first rule would fail with an error that no server
// sees.
func TestExplainAgreesWithTheServer(t *testing.T) {
	e, _ := explainOne(t, `package metaguard.team

allow contains "parsed" if {
	json.unmarshal(input.request.path) == {}
	input.resource.kind == "token"
}

allow contains "bob" if input.caller.id == "user:bob"
`, "--as", "user:bob", "--path", "/openstack/latest/password")
	if e.Reason != decision.PolicyAllow || len(e.Gave) != 1 || e.Gave[0].Code != "bob" {
		t.Errorf("%s, %+v", e.Reason, e.Gave)
	}
}

func TestExplainIsTheSameEachTime(t *testing.T) {
	flags := []string{"--as", "user:bob", "--target", "i-1", "--path", "/openstack/latest/password", "--at", "2026-03-02T10:00:00Z"}
	e, input := explainOne(t, "", flags...)
	first := e.text(input, 0)
	for range 10 {
		if e, input = explainOne(t, "", flags...); e.text(input, 0) != first {
			t.Fatalf("once it was\n%s\nthen\n%s", first, e.text(input, 0))
		}
	}
	if lines := strings.Count(e.text(input, maxLines), "\n"); lines > maxLines {
		t.Errorf("%d lines", lines)
	}
}

func TestPrintCannotSteerTheTerminal(t *testing.T) {
	v := verdict{Verdict: decision.Deny, Print: []printed{{"team.rego", 1, "\x1b[2Jgone\nALLOW"}}}
	input, err := policy.InputValue(&decision.Input{Caller: decision.Caller{ID: "\x1b[1mroot"}})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	v.print(&text, input)
	if strings.ContainsAny(text.String(), "\x1b") || strings.Contains(text.String(), "\nALLOW") {
		t.Errorf("%q", text.String())
	}
}
