// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/policy"
)

// testOptions are the flags of `metaguard policy test`.
type testOptions struct {
	run       string
	verbose   bool
	coverage  bool
	threshold float64
	timeout   time.Duration
}

// testCommand is `metaguard policy test`.
func testCommand(fetch Fetch) *cobra.Command {
	var (
		from    = loader{fetch: fetch}
		options testOptions
		format  = util.NewEnumFlag("pretty", []string{"pretty", "json"})
	)
	command := &cobra.Command{
		Use:   "test [path…]",
		Short: "Runs a policy's tests",
		Long: `
Runs the tests of a policy with OPA's own tester: rules whose names begin with
test_, in files that end in _test.rego, beside the policy or in directories of
their own. The built-in policy and package metaguard.testing are there already.
Without a path it runs the built-in policy's own tests.

The same files run under plain OPA too:

  opa test policies/metaguard policies/testing /etc/metaguard/policy

One thing differs: a function that fails is an error here, as it is in a server,
where OPA goes on with an undefined value.

Coverage is that of the policy's own files, without tests and without the
built-in policy; a policy of data alone has nothing to cover, which fails no
threshold. A test that fails is shown with the expression that failed, its
values, and what print() said.`,
		Example: `  metaguard policy test /etc/metaguard/policy
  metaguard policy test --threshold 90 /etc/metaguard/policy
  metaguard policy test --run 'windows' -v /etc/metaguard/policy`,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, args []string) error {
			from.paths = args
			if err := options.check(); err != nil {
				return err
			}
			tests, err := from.loadTests(command.Context())
			if err != nil {
				return err
			}
			run, err := options.runTests(command.Context(), tests)
			if err != nil {
				return err
			}
			if format.String() == "json" {
				err = run.printJSON(command.OutOrStdout())
			} else {
				err = run.printPretty(command.OutOrStdout(), options.verbose)
			}
			if err != nil {
				return err
			}
			return options.judge(run)
		},
	}
	flags := command.Flags()
	from.settings(flags)
	flags.StringVarP(&options.run, "run", "r", "", "`Expression` that the names of tests must match, such as data.team_test.test_")
	flags.BoolVarP(&options.verbose, "verbose", "v", false, "Show every test, and the trace of those that fail")
	flags.BoolVarP(&options.coverage, "coverage", "c", false, "Show which lines no test has reached")
	flags.Float64Var(&options.threshold, "threshold", 0, "Fail if fewer `percent` of the lines are covered; implies --coverage")
	flags.DurationVar(&options.timeout, "timeout", 5*time.Second, "How long one test may take")
	flags.Var(format, "format", "Format of the results")
	return command
}

func (o *testOptions) check() error {
	if o.threshold < 0 || o.threshold > 100 {
		return fmt.Errorf("--threshold %v is no percentage: it is between 0 and 100", o.threshold)
	}
	if o.timeout <= 0 {
		return fmt.Errorf("--timeout %v leaves no time for a test", o.timeout)
	}
	if _, err := regexp.Compile(o.run); err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	o.coverage = o.coverage || o.threshold > 0
	return nil
}

// judge says whether the run as a whole is a success.
func (o *testOptions) judge(run *testRun) error {
	switch {
	case len(run.Tests) == 0 && o.run != "":
		return fmt.Errorf("no test has a name that matches %q", o.run)
	case len(run.Tests) == 0:
		return errors.New("there is no test: tests are rules whose names begin with test_, in files that end in _test.rego")
	case run.failed > 0:
		return fmt.Errorf("%d of %s failed", run.failed, plural(len(run.Tests), "test"))
	case run.Coverage != nil && run.Coverage.Coverage < o.threshold:
		return fmt.Errorf("coverage is %.1f%%, below the threshold of %v%%", run.Coverage.Coverage, o.threshold)
	}
	return nil
}

// testRun is what the tests said, in the order of their files and lines.
type testRun struct {
	OK       bool             `json:"ok"`
	Tests    []*tester.Result `json:"tests"`
	Coverage *cover.Report    `json:"coverage,omitempty"`
	// NothingToCover says why there is no coverage, though it was asked for.
	NothingToCover bool `json:"nothing_to_cover,omitempty"`
	failed         int
}

// runTests runs the tests, and those that fail once more with a trace:
// coverage and traces exclude each other, and most tests pass.
func (o *testOptions) runTests(ctx context.Context, tests *policy.Tests) (*testRun, error) {
	runner := o.runner(tests, false).Filter(o.run)
	coverage := cover.New()
	if o.coverage {
		runner.SetCoverageQueryTracer(countedTracer{coverage, tests.Counted})
	}
	results, err := collect(ctx, tests, runner)
	if err != nil {
		return nil, err
	}
	run := &testRun{Tests: results}
	var again []string
	for _, result := range results {
		if result.Pass() || result.Skip {
			continue
		}
		run.failed++
		// An error says itself where it is. It may be that the test takes too
		// long, and a trace of that would fill the memory.
		if result.Error == nil {
			again = append(again, regexp.QuoteMeta(result.Package+"."+result.Name))
		}
	}
	run.OK = run.failed == 0
	if len(again) > 0 {
		names := "^(" + strings.Join(again, "|") + ")$"
		traced, err := collect(ctx, tests, o.runner(tests, true).EnableTracing(true).Filter(names))
		if err != nil {
			return nil, err
		}
		run.take(traced)
	}
	if o.coverage {
		report := coverage.Report(tests.Counted)
		// A policy of data alone has no lines.
		if run.NothingToCover = report.CoveredLines+report.NotCoveredLines == 0; !run.NothingToCover {
			run.Coverage = &report
		}
	}
	return run, nil
}

// printJSON prints results as `opa test --format json` has them, and coverage
// as `opa test --coverage` has it.
func (r *testRun) printJSON(w io.Writer) error {
	for _, test := range r.Tests {
		test.Trace = nil
	}
	return printJSON(w, r)
}
