// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The packages that mean something to the built-in policy.
var (
	metaguardPackage = ast.Ref{ast.DefaultRootDocument, ast.StringTerm("metaguard")}
	teamPackage      = metaguardPackage.Append(ast.StringTerm("team"))
)

// teamRules are the rules of package metaguard.team that the built-in policy
// reads, each with the form that it reads.
var teamRules = map[string]string{
	"allow":          `allow contains "code" if …`,
	"deny":           `deny contains "code" if …`,
	"redact_json":    `redact_json contains "/json/pointer" if …`,
	"redact_keys":    `redact_keys contains "name" if …`,
	"redact_listing": `redact_listing contains "entry" if …`,
	"status":         `status := 404 if …`,
}

// checkTeam refuses what would compile and mean nothing: a name that the
// built-in policy does not read, and a rule of another form than it reads.
// OPA itself says nothing of the former and blames another file for the latter.
func checkTeam(module *ast.Module, bad *findings) {
	if !module.Package.Path.Equal(teamPackage) {
		return
	}
	for _, rule := range module.Rules {
		name := ruleName(rule)
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, "test_") || strings.HasPrefix(name, "todo_test_") {
			continue
		}
		form, known := teamRules[name]
		if !known {
			names := sortedKeys(teamRules)
			hint := didYouMean(name, names)
			if hint == "" {
				hint = "there are: " + strings.Join(names, " ") + "; helper rules begin with _"
			}
			bad.at(rule.Loc(), CodeTeamUnknownName, hint, "%s means nothing in package metaguard.team", name)
			continue
		}
		if !hasForm(rule, name) {
			bad.at(rule.Loc(), CodeTeamWrongShape, "write it as "+form, "%s has a form that the built-in policy does not read", name)
			continue
		}
		checkTeamValue(rule, name, bad)
	}
}

// ruleName is the first word of a rule's head.
func ruleName(rule *ast.Rule) string {
	if v, ok := rule.Head.Ref()[0].Value.(ast.Var); ok {
		return string(v)
	}
	return rule.Head.Ref()[0].String()
}

// hasForm tells whether a rule collects a set, or gives one value for status.
func hasForm(rule *ast.Rule, name string) bool {
	head := rule.Head
	if len(head.Ref()) != 1 || len(head.Args) > 0 {
		return false
	}
	if name == "status" {
		return head.RuleKind() == ast.SingleValue && !isTrue(head.Value)
	}
	return head.RuleKind() == ast.MultiValue
}

// isTrue tells the value of a rule that was written without one.
func isTrue(term *ast.Term) bool {
	return term != nil && term.Value.Compare(ast.Boolean(true)) == 0
}

// checkTeamValue refuses constants that would make each decision malformed.
func checkTeamValue(rule *ast.Rule, name string, bad *findings) {
	term := rule.Head.Key
	if name == "status" {
		term = rule.Head.Value
	}
	if term == nil || !term.IsGround() || !isConstant(term.Value) {
		return
	}
	text, isString := term.Value.(ast.String)
	why := ""
	switch {
	case name == "status":
		if number, ok := statusOf(term.Value); !ok || !slices.Contains(refusalStatuses, number) && number != emptyStatus {
			why = "a status is 401, 403, 404, 429, or 200 for a password read"
		}
	case !isString:
		why = "it must be a string"
	case text == "":
		why = "it must not be empty"
	case name == "redact_json" && !validPointer(string(text)):
		why = "a JSON pointer begins with / and has ~ only as ~0 or ~1"
	}
	if why != "" {
		bad.at(rule.Loc(), CodeTeamWrongValue, "", "%s cannot be %v: %s", name, term, why)
	}
}

// isConstant tells values that are what they look like from calls, references
// and comprehensions.
func isConstant(value ast.Value) bool {
	switch value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String, *ast.Array, ast.Object, ast.Set:
		return true
	}
	return false
}
