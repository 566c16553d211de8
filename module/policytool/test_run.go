// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/policy"
)

// runner is OPA's, set up as a server evaluates: a function that fails is an
// error, not an undefined value.
func (o *testOptions) runner(tests *policy.Tests, values bool) *tester.Runner {
	return tester.NewRunner().
		SetCompiler(tests.Compiler(values)).
		SetStore(tests.Store).
		SetModules(tests.Modules).
		SetRuntime(tests.Runtime).
		SetTimeout(o.timeout).
		RaiseBuiltinErrors(true).
		StackTraces(true)
}

// collect runs tests and sorts what they said: they run side by side.
func collect(ctx context.Context, tests *policy.Tests, runner *tester.Runner) ([]*tester.Result, error) {
	txn, err := tests.Store.NewTransaction(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the data: %w", err)
	}
	defer tests.Store.Abort(ctx, txn)
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, tests.Explain(err)
	}
	sorted := []*tester.Result{}
	for result := range results {
		sorted = append(sorted, result)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(sorted, func(a, b *tester.Result) int {
		return cmp.Or(
			strings.Compare(a.Location.File, b.Location.File),
			cmp.Compare(a.Location.Row, b.Location.Row),
			strings.Compare(a.Name, b.Name),
		)
	})
	return sorted, nil
}

// take replaces results by those of a second run.
func (r *testRun) take(second []*tester.Result) {
	for i, result := range r.Tests {
		for _, other := range second {
			if other.Package == result.Package && other.Name == result.Name && !other.Pass() {
				r.Tests[i] = other
			}
		}
	}
}

// countedTracer keeps coverage to the modules that count.
type countedTracer struct {
	*cover.Cover
	counted map[string]*ast.Module
}

// TraceEvent implements topdown.QueryTracer.
func (t countedTracer) TraceEvent(event topdown.Event) {
	if event.Location != nil && t.counted[event.Location.File] != nil {
		t.Cover.TraceEvent(event)
	}
}

// printPretty prints results as `opa test` does, and coverage by file.
func (r *testRun) printPretty(w io.Writer, verbose bool) error {
	results := make(chan *tester.Result, len(r.Tests))
	for _, result := range r.Tests {
		result.Trace = lineage.Filter(result.Trace, func(event *topdown.Event) bool {
			return event.Op == topdown.NoteOp || event.Op == topdown.FailOp
		})
		results <- result
	}
	close(results)
	reporter := tester.PrettyReporter{Output: w, Verbose: verbose, FailureLine: true, LocalVars: true}
	if err := reporter.Report(results); err != nil {
		return err
	}
	if r.NothingToCover {
		_, _ = fmt.Fprintln(w, "COVERAGE: nothing to cover")
	}
	if r.Coverage == nil {
		return nil
	}
	for _, name := range util.KeysSorted(r.Coverage.Files) {
		file := r.Coverage.Files[name]
		_, _ = fmt.Fprintf(w, "%s: %.1f%% covered%s\n", name, file.Coverage, missed(file.NotCovered))
	}
	_, _ = fmt.Fprintf(w, "COVERAGE: %.1f%% of %s\n", r.Coverage.Coverage, plural(r.Coverage.CoveredLines+r.Coverage.NotCoveredLines, "line"))
	return nil
}

// missed lists the lines that no test has reached: ", not lines 3, 7-9".
func missed(ranges []cover.Range) string {
	lines := map[int]bool{}
	for _, r := range ranges {
		for line := r.Start.Row; line <= r.End.Row; line++ {
			lines[line] = true
		}
	}
	if len(lines) == 0 {
		return ""
	}
	sorted := util.KeysSorted(lines)
	var spans []string
	for i := 0; i < len(sorted); i++ {
		first := sorted[i]
		for i+1 < len(sorted) && sorted[i+1] == sorted[i]+1 {
			i++
		}
		span := strconv.Itoa(first)
		if sorted[i] > first {
			span += "-" + strconv.Itoa(sorted[i])
		}
		spans = append(spans, span)
	}
	return ", not lines " + strings.Join(spans, ", ")
}
