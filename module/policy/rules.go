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
// them without being traced.
type ruleIndex struct {
	// constant maps a code to the places of the rules that have it in their head.
	constant map[string][]string
	// computed are the places of rules that compute their codes.
	computed []string
}

// codeRules are the rules of the built-in policy that give codes; those of a
// team are in package metaguard.team.
var codeRules = []string{"decision", "_reason", "_missing"}

// indexRules finds the rules that give codes.
func (b *content) indexRules() ruleIndex {
	index := ruleIndex{constant: map[string][]string{}}
	for _, name := range sortedKeys(b.modules) {
		module := b.modules[name]
		for _, rule := range module.Rules {
			head := ruleName(rule)
			switch {
			case !b.own[name] && !slices.Contains(codeRules, head),
				!b.replaced && b.own[name] && (!module.Package.Path.Equal(teamPackage) || head != "allow" && head != "deny"):
				continue
			}
			for ; rule != nil; rule = rule.Else {
				index.add(rule)
			}
		}
	}
	return index
}

func (x *ruleIndex) add(rule *ast.Rule) {
	place := placeOf(rule.Loc())
	if key := rule.Head.Key; key != nil && !isConstant(key.Value) {
		x.computed = append(x.computed, place)
		return
	}
	for _, term := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if term == nil {
			continue
		}
		ast.WalkTerms(term, func(term *ast.Term) bool {
			if code, ok := term.Value.(ast.String); ok && !slices.Contains(x.constant[string(code)], place) {
				x.constant[string(code)] = append(x.constant[string(code)], place)
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
func (x *ruleIndex) of(codes []string) (places []string, ambiguous bool) {
	for _, code := range codes {
		candidates, ok := x.constant[code]
		if !ok {
			candidates = x.computed
		}
		ambiguous = ambiguous || len(candidates) > 1
		for _, place := range candidates {
			if !slices.Contains(places, place) {
				places = append(places, place)
			}
		}
	}
	return places, ambiguous
}

// ruleTracer notes which of some rules succeeded.
type ruleTracer struct {
	candidates []string
	succeeded  []string
}

var _ topdown.QueryTracer = (*ruleTracer)(nil)

// Enabled implements topdown.QueryTracer.
func (*ruleTracer) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*ruleTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (t *ruleTracer) TraceEvent(event topdown.Event) {
	rule, ok := event.Node.(*ast.Rule)
	if !ok || event.Op != topdown.ExitOp {
		return
	}
	place := placeOf(rule.Loc())
	if slices.Contains(t.candidates, place) && !slices.Contains(t.succeeded, place) {
		t.succeeded = append(t.succeeded, place)
	}
}
