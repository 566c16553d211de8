// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// maxShared is how many different verdicts of a policy are kept at one time.
const maxShared = 16_384

// verdict is what an output of the policy means: all of a result but what differs from
// request to request. It is shared and never changed.
type verdict struct {
	decision decision.Decision
	reason   decision.Reason
	output   ast.Value
	// rules can have given it. Where several can, and only a trace tells which, it is
	// not explained; explains tells that this one is the explanation of such a one. It does
	// not name it, which would keep all that were known when that one was.
	rules     []string
	explained bool
	explains  bool
	// of has it, under this number.
	of     *verdicts
	number uint32
}

// verdicts are those that a policy has given, so that each is read once: a policy knows
// few, and callers are many. Where there is a cache, they are remembered by number: what
// is remembered holds no pointers then, which the garbage collector would have to follow.
type verdicts struct {
	cache *verdictCache // nil: none
	all   atomic.Pointer[[]*verdict]

	mu     sync.RWMutex
	byHash map[int][]*verdict
}

func newVerdicts(cache *verdictCache) *verdicts {
	t := &verdicts{cache: cache, byHash: make(map[int][]*verdict)}
	t.all.Store(new([]*verdict))
	return t
}

// find is the verdict with this output for which is gives true; nil: there is none yet.
func (t *verdicts) find(output ast.Value, is func(*verdict) bool) *verdict {
	hash := output.Hash()
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, v := range t.byHash[hash] {
		if identical(v.output, output) && is(v) {
			return v
		}
	}
	return nil
}

// add gives a verdict a number; false: there are too many.
func (t *verdicts) add(v *verdict) bool {
	hash := v.output.Hash()
	t.mu.Lock()
	defer t.mu.Unlock()
	all := *t.all.Load()
	if len(all) >= maxShared {
		return false
	}
	v.of, v.number = t, uint32(len(all)) //nolint:gosec // at most maxShared
	all = append(all, v)
	t.all.Store(&all)
	t.byHash[hash] = append(t.byHash[hash], v)
	return true
}

// remember keeps a verdict for an input, and for as long as its like.
func (v *verdict) remember(key inputKey) { v.of.cache.entries.Add(key, v.number) }

// recall is the verdict that was remembered for an input; nil: none.
func (t *verdicts) recall(key inputKey) *verdict {
	number, ok := t.cache.entries.Get(key)
	if !ok {
		return nil
	}
	return (*t.all.Load())[number]
}

// keep gives a verdict a number among those of the policy. Where there are too many, all
// begins anew, with nothing remembered.
func (p *Policy) keep(v *verdict) {
	t := p.verdicts.Load()
	if t.add(v) {
		return
	}
	p.renewing.Lock()
	defer p.renewing.Unlock()
	if now := p.verdicts.Load(); now != t && now.add(v) {
		return // somebody else has begun anew
	}
	next := newVerdicts(t.cache.anew())
	next.add(v)
	p.verdicts.Store(next)
}

// verdictOf reads an output, which must be a well-formed decision.
func (p *Policy) verdictOf(output ast.Value, passwordRead bool) (*verdict, error) {
	v := p.verdicts.Load().find(output, func(v *verdict) bool {
		return !v.explains && (v.decision.Status != emptyStatus || passwordRead)
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
	p.keep(v)
	return v, nil
}

// explained is a verdict of which is known by now which rules gave it.
func (p *Policy) explained(what *verdict, rules []string) *verdict {
	known := p.verdicts.Load().find(what.output, func(v *verdict) bool {
		return v.explains && slices.Equal(v.rules, rules)
	})
	if known != nil {
		return known
	}
	v := *what
	v.rules, v.explained, v.explains = rules, true, true
	p.keep(&v)
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
