// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

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
