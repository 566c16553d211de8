// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// maxShared is how many different verdicts of a policy are kept once for all inputs
// that have them.
const maxShared = 4096

// verdict is what an output of the policy means: all of a result but what differs from
// request to request. It is shared and never changed.
type verdict struct {
	decision decision.Decision
	reason   decision.Reason
	output   ast.Value
	// rules can have given it. Where several can, and only a trace tells which, it is
	// not explained; explains is the verdict of which this one is the explanation.
	rules     []string
	explained bool
	explains  *verdict
}

// verdicts are those that a policy has given, so that each is read once: a policy knows
// few, and callers are many.
type verdicts struct {
	sync.RWMutex
	byHash map[int][]*verdict
	count  int
}

// find is the verdict with this output for which is gives true; nil: there is none yet.
func (t *verdicts) find(output ast.Value, is func(*verdict) bool) *verdict {
	hash := output.Hash()
	t.RLock()
	defer t.RUnlock()
	for _, v := range t.byHash[hash] {
		if identical(v.output, output) && is(v) {
			return v
		}
	}
	return nil
}

func (t *verdicts) add(v *verdict) {
	hash := v.output.Hash()
	t.Lock()
	defer t.Unlock()
	if t.byHash == nil || t.count >= maxShared {
		t.byHash, t.count = make(map[int][]*verdict), 0
	}
	t.byHash[hash] = append(t.byHash[hash], v)
	t.count++
}

// verdictOf reads an output, which must be a well-formed decision.
func (p *Policy) verdictOf(output ast.Value, passwordRead bool) (*verdict, error) {
	v := p.verdicts.find(output, func(v *verdict) bool {
		return v.explains == nil && (v.decision.Status != emptyStatus || passwordRead)
	})
	if v != nil {
		return v, nil
	}
	read, err := decode(output, passwordRead)
	if err != nil {
		return nil, err
	}
	v = &verdict{decision: read, reason: decision.PolicyDeny, output: output}
	rules := &p.rules.refuses
	if read.Allow {
		v.reason, rules = decision.PolicyAllow, &p.rules.allows
	}
	places, ambiguous := rules.of(read.Reasons)
	v.rules, v.explained = places, !ambiguous
	p.verdicts.add(v)
	return v, nil
}

// explain is a verdict of which is known by now which rules gave it.
func (t *verdicts) explain(what *verdict, rules []string) *verdict {
	known := t.find(what.output, func(v *verdict) bool { return v.explains == what && slices.Equal(v.rules, rules) })
	if known != nil {
		return known
	}
	v := *what
	v.rules, v.explained, v.explains = rules, true, what
	t.add(&v)
	return &v
}

// identical is stricter than OPA, to which 1 and 1.0 are equal: a decision may hold the
// one and not the other.
func identical(a, b ast.Value) bool {
	switch a := a.(type) {
	case ast.Number:
		b, ok := b.(ast.Number)
		return ok && a == b
	case *ast.Array:
		b, ok := b.(*ast.Array)
		if !ok || a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !identical(a.Elem(i).Value, b.Elem(i).Value) {
				return false
			}
		}
		return true
	case ast.Object:
		b, ok := b.(ast.Object)
		if !ok || a.Len() != b.Len() {
			return false
		}
		return !a.Until(func(name, value *ast.Term) bool {
			other := b.Get(name)
			return other == nil || !identical(value.Value, other.Value)
		})
	}
	return ast.ValueEqual(a, b) // sets are of strings, or malformed
}
