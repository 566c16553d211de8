// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// answer is the variable that a question leaves free.
const answer = ast.Var("answer")

// errNotOneValue makes a decision malformed.
var errNotOneValue = errors.New("the entrypoint has not exactly one value")

// question is one query that is compiled once and asked of OPA's evaluator for every
// request. Package rego would do the same with a quarter more work around it.
type question struct {
	body     ast.Body
	rewriter ast.QueryCompiler
	compiler *ast.Compiler
	store    *dataStore
	// runtime is what opa.runtime shows; nil: nothing.
	runtime *ast.Term
}

// newQuestion asks for the value of what stands in expr.
func newQuestion(expr *ast.Expr, compiler *ast.Compiler, data *branch, runtime *ast.Term) (*question, error) {
	asked := ast.Equality.Expr(expr.Terms.(*ast.Term), ast.NewTerm(answer))
	asked.With = expr.With
	q := &question{rewriter: compiler.QueryCompiler(), compiler: compiler, store: &dataStore{root: data}, runtime: runtime}
	var err error
	if q.body, err = q.rewriter.Compile(ast.NewBody(asked)); err != nil {
		return nil, err
	}
	return q, nil
}

// about is the question about one input, at one time.
func (q *question) about(input ast.Value, at time.Time) *topdown.Query {
	query := topdown.NewQuery(q.body).
		WithQueryCompiler(q.rewriter).
		WithCompiler(q.compiler).
		WithStore(q.store).
		WithTransaction(reading{}).
		WithBaseCache(dataView{q.store.root}).
		WithRuntime(q.runtime).
		WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).
		WithTime(at)
	if input != nil {
		query = query.WithInput(ast.NewTerm(input))
	}
	return query
}

// ask gives the answer as OPA has it, where 1 is not 1.0 and a set is not an array; nil
// where it is undefined.
func ask(ctx context.Context, query *topdown.Query) (ast.Value, error) {
	var value ast.Value
	err := query.Iter(ctx, func(found topdown.QueryResult) error {
		term := found[answer]
		if term == nil || value != nil {
			return errNotOneValue
		}
		value = term.Value
		return nil
	})
	return value, err
}

// limit ends an evaluation that takes too long or whose request is gone. OPA asks it
// before each step, in the goroutine that evaluates, so that neither a timer nor a
// goroutine is needed.
type limit struct {
	gone  <-chan struct{}
	until time.Time // zero: never
	steps uint
	over  bool
}

var _ topdown.Cancel = (*limit)(nil)

// stepsBetween is after how many steps the clock is looked at.
const stepsBetween = 32

// Cancel implements topdown.Cancel.
func (l *limit) Cancel() { l.over = true }

// Cancelled implements topdown.Cancel.
func (l *limit) Cancelled() bool {
	l.steps++
	if l.over || l.steps%stepsBetween != 0 {
		return l.over
	}
	select {
	case <-l.gone:
		l.over = true
	default:
		l.over = l.passed()
	}
	return l.over
}

// passed tells that it took too long.
func (l *limit) passed() bool { return !l.until.IsZero() && time.Until(l.until) <= 0 }
