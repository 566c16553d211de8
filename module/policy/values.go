// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// closedValues are the fields of the input with a closed vocabulary. HEAD
// arrives as GET.
var closedValues = map[string][]string{
	"input.resource.kind": {
		string(decision.KindListing), string(decision.KindMetadata), string(decision.KindPassword), string(decision.KindUserdata),
		string(decision.KindVendordata), string(decision.KindNetwork), string(decision.KindCredentials), string(decision.KindToken),
		string(decision.KindHealth), string(decision.KindUnknown),
	},
	"input.resource.action":     {string(decision.Read), string(decision.Write)},
	"input.request.body.format": {decision.FormatEmpty, decision.FormatRSABase64, decision.FormatText, decision.FormatBinary},
	"input.request.method":      {"GET", "POST", "PUT", "PATCH", "DELETE"},
}

// headersRef is where the input has the request's headers, under lower-case
// names.
var headersRef = ast.MustParseRef("input.request.headers")

// checkValues refuses comparisons that can never hold: a word that a field
// never has, and a header's name with capital letters. Such a rule compiles and
// silently denies nothing.
func (b *content) checkValues(bad *findings) {
	for _, module := range b.ownModules() {
		ast.WalkExprs(module, func(expr *ast.Expr) bool {
			checkComparison(expr, bad)
			return false
		})
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			checkHeader(ref, bad)
			return false
		})
	}
}

// checkComparison checks x == "word", x != "word" and x in {"word", …}.
func checkComparison(expr *ast.Expr, bad *findings) {
	if !expr.IsCall() || len(expr.Operands()) != 2 {
		return
	}
	left, right := expr.Operand(0), expr.Operand(1)
	switch expr.Operator().String() {
	case ast.Equal.Name, ast.Equality.Name, ast.NotEqual.Name:
		checkWords(left, right, bad)
		checkWords(right, left, bad)
	case ast.Member.Name:
		checkWords(left, right, bad)
	}
}

// checkWords checks the words that a field is compared with.
func checkWords(field, with *ast.Term, bad *findings) {
	ref, ok := field.Value.(ast.Ref)
	if !ok {
		return
	}
	known, closed := closedValues[ref.String()]
	if !closed {
		return
	}
	check := func(term *ast.Term) {
		word, ok := term.Value.(ast.String)
		if !ok {
			return
		}
		for _, value := range known {
			if value == string(word) {
				return
			}
		}
		hint := didYouMean(string(word), known)
		switch {
		case ref.String() == "input.request.method" && strings.EqualFold(string(word), "HEAD"):
			hint = "HEAD arrives as GET"
		case hint == "":
			hint = "there are: " + strings.Join(known, " ")
		}
		bad.at(term.Loc(), CodeInputUnknownValue, hint, "%v is never %v", ref, term)
	}
	switch value := with.Value.(type) {
	case ast.String:
		check(with)
	case ast.Set:
		value.Foreach(check)
	case *ast.Array:
		value.Foreach(check)
	}
}

// checkHeader refuses a header's name that no header has.
func checkHeader(ref ast.Ref, bad *findings) {
	if len(ref) <= len(headersRef) || !ref.HasPrefix(headersRef) {
		return
	}
	term := ref[len(headersRef)]
	name, ok := term.Value.(ast.String)
	if ok && strings.ToLower(string(name)) != string(name) {
		bad.at(term.Loc(), CodeInputUnknownValue, fmt.Sprintf("write %q", strings.ToLower(string(name))),
			"input.request.headers has no %v: names are lower-case", term)
	}
}
