// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// scratch is the memory of one evaluation, used again by later ones.
type scratch struct {
	limit limit
	rules ruleCache
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release gives it back, without what it knows of the evaluation. One whose evaluation
// has panicked is not given back.
func (s *scratch) release() {
	s.limit = limit{}
	s.rules.reset()
	scratches.Put(s)
}

// dataView answers from the policy's data itself, which never changes, so that nothing
// has to be kept for a query. What it does not find, OPA looks for in the store.
type dataView struct{ root *branch }

var _ topdown.BaseCache = dataView{}

// Get implements topdown.BaseCache.
func (v dataView) Get(ref ast.Ref) ast.Value {
	if len(ref) < 2 {
		return nil // all of it is without what belongs to OPA
	}
	return find(v.root, ref[1:])
}

// Put implements topdown.BaseCache.
func (dataView) Put(ast.Ref, ast.Value) {}

// ruleCache remembers what rules gave in one evaluation, as OPA's own cache does, but for
// a policy that has a few: in a list. What is beyond maxListed goes to OPA's.
type ruleCache struct {
	frames []frame
	known  []known
	terms  []*ast.Term // of the references of known, one after another
	// constants hold where no input, data or function is in the place of another.
	constants constants
}

// frame begins a question about another input, asked by the word `with`.
type frame struct {
	known, terms int // what is of frames before
	more         topdown.VirtualCache
}

type known struct {
	from, to int       // in terms
	value    *ast.Term // nil: undefined
}

// maxListed is how many answers are kept as a list in each frame.
const maxListed = 48

var _ topdown.VirtualCache = (*ruleCache)(nil)

func (c *ruleCache) reset() {
	clear(c.frames)
	clear(c.known)
	clear(c.terms)
	c.frames, c.known, c.terms, c.constants = c.frames[:0], c.known[:0], c.terms[:0], nil
}

// Push implements topdown.VirtualCache.
func (c *ruleCache) Push() {
	c.frames = append(c.frames, frame{known: len(c.known), terms: len(c.terms)})
}

// Pop implements topdown.VirtualCache.
func (c *ruleCache) Pop() {
	last := c.top()
	clear(c.known[last.known:])
	clear(c.terms[last.terms:])
	c.known, c.terms = c.known[:last.known], c.terms[:last.terms]
	*last = frame{}
	c.frames = c.frames[:len(c.frames)-1]
}

func (c *ruleCache) top() *frame { return &c.frames[len(c.frames)-1] }

// Get implements topdown.VirtualCache.
func (c *ruleCache) Get(ref ast.Ref) (value *ast.Term, undefined bool) {
	top := c.top()
	for _, k := range slices.Backward(c.known[top.known:]) {
		if same(c.terms[k.from:k.to], ref) {
			return k.value, k.value == nil
		}
	}
	if len(c.frames) == 1 {
		if one, ok := c.constants.get(ref); ok {
			return one.value, one.value == nil
		}
	}
	if top.more != nil {
		return top.more.Get(ref)
	}
	return nil, false
}

// same compares from the end, where references to rules differ.
func same(a []*ast.Term, b ast.Ref) bool {
	if len(a) != len(b) {
		return false
	}
	for i, term := range slices.Backward(a) {
		if term != b[i] && !term.Equal(b[i]) {
			return false
		}
	}
	return true
}

// Put implements topdown.VirtualCache. The reference is the evaluator's, which writes to
// it later.
func (c *ruleCache) Put(ref ast.Ref, value *ast.Term) {
	top := c.top()
	if len(c.known)-top.known >= maxListed {
		if top.more == nil {
			top.more = topdown.NewVirtualCache()
		}
		top.more.Put(ref, value)
		return
	}
	from := len(c.terms)
	c.terms = append(c.terms, ref...)
	c.known = append(c.known, known{from: from, to: len(c.terms), value: value})
}

// Keys implements topdown.VirtualCache.
func (c *ruleCache) Keys() []ast.Ref {
	top := c.top()
	var keys []ast.Ref
	for _, k := range c.known[top.known:] {
		if k.value != nil {
			keys = append(keys, slices.Clone(ast.Ref(c.terms[k.from:k.to])))
		}
	}
	if top.more != nil {
		keys = append(keys, top.more.Keys()...)
	}
	return keys
}
