// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// ruleIndex knows which rules give which code, so that a decision can name
// them without being traced. A code that allows and one that refuses may be the
// same word.
type ruleIndex struct{ allows, refuses codeRules }

// codeRules are places, file:line, of rules that give codes.
type codeRules struct {
	// constant maps a code to the rules that have it in their head.
	constant map[string][]string
	// computed are rules that compute their codes.
	computed []string
}

// indexRules finds the rules that give codes: allow and deny of a team, and
// those of the built-in policy. Of a policy that replaces that one all are
// taken.
func (b *content) indexRules() ruleIndex {
	index := ruleIndex{codeRules{constant: map[string][]string{}}, codeRules{constant: map[string][]string{}}}
	for _, name := range sortedKeys(b.modules) {
		module := b.modules[name]
		for _, rule := range module.Rules {
			head := ruleName(rule)
			allows, refuses := b.replaced, b.replaced
			switch {
			case b.replaced:
			case !b.own[name]:
				allows, refuses = head == "_reason", head == "_missing" || head == "decision"
			case module.Package.Path.Equal(teamPackage):
				allows, refuses = head == "allow", head == "deny"
			}
			for ; rule != nil; rule = rule.Else {
				if allows {
					index.allows.add(rule)
				}
				if refuses {
					index.refuses.add(rule)
				}
			}
		}
	}
	return index
}

func (r *codeRules) add(rule *ast.Rule) {
	place := placeOf(rule.Loc())
	if key := rule.Head.Key; key != nil && !isConstant(key.Value) {
		r.computed = append(r.computed, place)
		return
	}
	for _, term := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if term == nil {
			continue
		}
		ast.WalkTerms(term, func(term *ast.Term) bool {
			if code, ok := term.Value.(ast.String); ok && !slices.Contains(r.constant[string(code)], place) {
				r.constant[string(code)] = append(r.constant[string(code)], place)
			}
			return false
		})
	}
}

func placeOf(loc *ast.Location) string {
	if loc == nil {
		return ""
	}
	return loc.File + ":" + strconv.Itoa(loc.Row)
}

// splitPlace is placeOf undone.
func splitPlace(place string) (file string, line int) {
	at := strings.LastIndexByte(place, ':')
	if at < 0 {
		return place, 0
	}
	line, _ = strconv.Atoi(place[at+1:])
	return place[:at], line
}

// of lists the rules that can have given these codes, and tells whether only a
// trace can say which of them did.
func (r *codeRules) of(codes []string) (places []string, ambiguous bool) {
	for _, code := range codes {
		candidates := slices.Concat(r.constant[code], r.computed)
		ambiguous = ambiguous || len(candidates) > 1
		places = appendNew(places, candidates)
	}
	return places, ambiguous
}

// among lists the rules that gave these codes, of those that succeeded.
func (r *codeRules) among(codes, succeeded []string) (places []string) {
	did := func(candidates []string) []string {
		return slices.DeleteFunc(slices.Clone(candidates), func(place string) bool { return !slices.Contains(succeeded, place) })
	}
	for _, code := range codes {
		found := did(r.constant[code])
		if len(found) == 0 {
			found = did(r.computed)
		}
		places = appendNew(places, found)
	}
	return places
}

func appendNew(places, more []string) []string {
	for _, place := range more {
		if !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return places
}

// ruleTracer notes which of some rules succeeded for the request itself, and
// not for another one that a rule has made up with the word `with`.
type ruleTracer struct {
	candidates []string
	succeeded  []string
	// other are the queries about other requests, and asking those whose
	// expression at hand has a `with`.
	other, asking map[uint64]bool
}

var _ topdown.QueryTracer = (*ruleTracer)(nil)

func newRuleTracer(candidates []string) *ruleTracer {
	return &ruleTracer{candidates: candidates, other: map[uint64]bool{}, asking: map[uint64]bool{}}
}

// Enabled implements topdown.QueryTracer.
func (*ruleTracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*ruleTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (t *ruleTracer) TraceEvent(event topdown.Event) {
	switch event.Op { //nolint:exhaustive // the others say nothing about success
	case topdown.EvalOp:
		if expr, ok := event.Node.(*ast.Expr); ok {
			t.asking[event.QueryID] = len(expr.With) > 0
		}
	case topdown.EnterOp:
		t.other[event.QueryID] = t.other[event.ParentID] || t.asking[event.ParentID]
	case topdown.ExitOp:
		rule, ok := event.Node.(*ast.Rule)
		if !ok || t.other[event.QueryID] {
			return
		}
		place := placeOf(rule.Loc())
		if slices.Contains(t.candidates, place) {
			t.succeeded = appendNew(t.succeeded, []string{place})
		}
	}
}
