// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/metaguard/metaguard/module/decision"
)

// verdictOf makes a decision of what an evaluation gave.
func verdictOf(results rego.ResultSet, input ast.Value) (output ast.Value, d decision.Decision, reason decision.Reason, err error) {
	if len(results) == 0 {
		return nil, d, decision.PolicyUndefined, nil
	}
	if len(results) > 1 || len(results[0].Expressions) != 1 {
		return nil, d, decision.PolicyMalformed, errors.New("the entrypoint has more than one value")
	}
	term, ok := results[0].Expressions[0].Value.(*ast.Term)
	if !ok {
		return nil, d, decision.PolicyMalformed, errors.New("the entrypoint has no value")
	}
	d, err = decode(term.Value, isPasswordRead(input))
	switch {
	case err != nil:
		return term.Value, decision.Decision{}, decision.PolicyMalformed, err
	case d.Allow:
		return term.Value, d, decision.PolicyAllow, nil
	default:
		return term.Value, d, decision.PolicyDeny, nil
	}
}

// isPasswordRead tells the one kind of request that may be answered as empty.
func isPasswordRead(input ast.Value) bool {
	return textAt(input, names.resource, names.kind) == string(decision.KindPassword) &&
		textAt(input, names.resource, names.action) == string(decision.Read)
}

// textAt is the string at input[outer][inner], or "".
func textAt(input ast.Value, outer, inner *ast.Term) string {
	object, ok := input.(ast.Object)
	if !ok {
		return ""
	}
	term := object.Get(outer)
	if term == nil {
		return ""
	}
	if object, ok = term.Value.(ast.Object); !ok {
		return ""
	}
	if term = object.Get(inner); term == nil {
		return ""
	}
	text, _ := term.Value.(ast.String)
	return string(text)
}
