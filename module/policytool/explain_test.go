// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"fmt"
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
	result, v, err := ask(context.Background(), p, query, asked.found)
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

// What the compiler takes out of an expression or a head is no expression of
// its own; a short one whose text stands in another's is.
func TestExplainShowsEachExpressionOnce(t *testing.T) {
	e, _ := explainOne(t, `package metaguard.team

deny contains sprintf("no_%s", [role]) if {
	_no
	some role in input.caller.roles
	not _none
	every word in split(role, "-") { word != "yes" }
}

_no if input.resource.kind == "userdata"

_none if input.caller.id == "user:none"
`, "--as", "instance:i-1", "--role", "no-no", "--path", "/openstack/latest/user_data")
	if len(e.Gave) != 1 {
		t.Fatalf("%+v", e.Gave)
	}
	var shown []string
	for _, one := range e.Gave[0].Steps {
		shown = append(shown, one.Expr)
	}
	expected := []string{"_no", "some role in input.caller.roles", "not _none", `every word in split(role, "-") { word != "yes" }`}
	if !slices.Equal(shown, expected) {
		t.Errorf("%q", shown)
	}
}

func TestExplainSaysWhoHidesWhat(t *testing.T) {
	e, _ := explainOne(t, `package metaguard.team

redact_listing contains "vendor_data.json"
`, "--as", "instance:i-1", "--path", "/openstack/latest")
	var names []string
	for _, hides := range e.Hides {
		names = append(names, hides.Name+" "+hides.Rule)
	}
	for _, expected := range []string{
		`admin_pass _hidden_keys contains "admin_pass"`, `vendor_data.json redact_listing contains "vendor_data.json"`,
	} {
		if !slices.Contains(names, expected) {
			t.Errorf("%s is missing in %q", expected, names)
		}
	}
}

// However many rules a team has, and however long one is, what grant is missing
// is seen.
func TestExplainShowsBuiltInRulesBesideTheTeams(t *testing.T) {
	var many, long strings.Builder
	many.WriteString("package metaguard.team\n")
	long.WriteString("package metaguard.team\n\nallow contains \"long\" if _some\n")
	for i := range 30 {
		fmt.Fprintf(&many, "\nallow contains \"rule_%d\" if input.caller.id == \"user:%d\"\n", i, i)
		fmt.Fprintf(&long, "\n_some if input.caller.id == \"user:%d\"\n", i)
	}
	for source, want := range map[string]string{
		many.String(): "\n  … and 26 more of your rules (--full)\n",
		long.String(): "\n    … (--full)\n",
	} {
		e, input := explainOne(t, source, "--as", "user:bob", "--path", "/openstack/latest/password")
		text := e.text(input, maxLines)
		if strings.Count(text, "\n") > maxLines || !strings.Contains(text, want) || !strings.Contains(text, "data.metaguard.grants.caller_id[input.caller.id]") {
			t.Errorf("got\n%s", text)
		}
		if whole := e.text(input, 0); strings.Contains(whole, "--full") {
			t.Errorf("not all is shown:\n%s", whole)
		}
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
