// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
)

// maxRecorded is how many recorded requests are kept in memory.
const maxRecorded = 10_000

// benchmark is how fast a policy decides.
type benchmark struct {
	Requests int        `json:"requests"`
	Recorded bool       `json:"recorded"`
	Revision string     `json:"revision"`
	Runs     []benchRun `json:"runs"`
}

// benchRun is one run, per decision.
type benchRun struct {
	Iterations         int     `json:"iterations"`
	NanosecondsPerOp   int64   `json:"ns_per_op"`
	DecisionsPerSecond float64 `json:"decisions_per_second"`
	BytesPerOp         int64   `json:"bytes_per_op"`
	AllocsPerOp        int64   `json:"allocs_per_op"`
}

// benchCommand is `metaguard policy bench`.
func benchCommand(fetch Fetch) *cobra.Command {
	var (
		from   = loader{fetch: fetch}
		logs   []string
		count  int
		length string
		spoken = newDialectFlag()
		format = util.NewEnumFlag("text", []string{"text", "json"})
	)
	command := &cobra.Command{
		Use:   "bench",
		Short: "Measures how fast a policy decides",
		Long: `
Measures how long a decision takes and what it allocates, one after the other on
one CPU. It asks for one request of each kind, from an instance that asks for
itself, or for the requests of a decision log, in their order: at most the first
10,000 of them.

The text is what Go's benchmarks print, so benchstat compares two policies.`,
		Example: `  metaguard policy bench -p policy
  metaguard policy bench -p policy --log decisions.log --count 10 > new.txt && benchstat old.txt new.txt`,
		Args:         noPaths,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			if count < 1 {
				return fmt.Errorf("--count %d: it is measured once at least", count)
			}
			queries, err := benchQueries(command.Context(), logs, spoken)
			if err != nil {
				return err
			}
			p, err := from.load(command.Context())
			if err != nil {
				return err
			}
			testing.Init()
			if err := flag.Set("test.benchtime", length); err != nil {
				return fmt.Errorf("--benchtime %q is neither a duration such as 1s nor a number of decisions such as 1000x", length)
			}
			result := benchmark{Requests: len(queries), Recorded: len(logs) > 0, Revision: p.Revision()}
			for range count {
				run, err := measure(command.Context(), p, queries)
				if err != nil {
					return err
				}
				result.Runs = append(result.Runs, run)
			}
			if format.String() == "json" {
				return printJSON(command.OutOrStdout(), &result)
			}
			result.print(command.OutOrStdout())
			return nil
		},
	}
	flags := command.Flags()
	from.flags(flags)
	flags.StringArrayVar(&logs, "log", nil, "`File` of a decision log, or - for the standard input; may be repeated")
	flags.Var(spoken, "dialect", "Dialect whose requests are asked for, without a log: a name or a Caddyfile")
	flags.IntVar(&count, "count", 1, "How many `times` it is measured")
	flags.StringVar(&length, "benchtime", "1s", "How long it is measured, or how many decisions: 1s, 1000x")
	flags.Var(format, "format", "Format of the result")
	return command
}

// benchQueries are the questions to ask, in turn.
func benchQueries(ctx context.Context, logs []string, spoken dialect.Dialect) ([]policy.Query, error) {
	var queries []policy.Query
	if len(logs) == 0 {
		for _, in := range dialect.Samples(spoken) {
			in.Caller = decision.Caller{Source: "neutron", ID: "instance:bench", InstanceID: "bench", ProjectID: "bench", Address: callerAddress}
			in.Target = decision.Target{InstanceID: "bench", ProjectID: "bench", Address: callerAddress}
			input, err := policy.InputValue(&in)
			if err != nil {
				return nil, err
			}
			queries = append(queries, policy.Query{Input: input})
		}
		return queries, nil
	}
	enough := errors.New("enough")
	err := readLogs(ctx, logs, func(r *record) error {
		if _, ok := r.Input.(ast.Object); ok {
			queries = append(queries, policy.Query{Input: r.Input, Time: r.Time, Answers: r.Answers})
		}
		if len(queries) == maxRecorded {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return nil, err
	}
	if len(queries) == 0 {
		return nil, errors.New("there is no decision with an input in the log")
	}
	return queries, nil
}

// measure asks all questions in turn, again and again.
func measure(ctx context.Context, p *policy.Policy, queries []policy.Query) (run benchRun, err error) {
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			answer := p.Judge(ctx, queries[i%len(queries)])
			if answer.Reason != decision.PolicyAllow && answer.Reason != decision.PolicyDeny {
				err = errors.Join(fmt.Errorf("the policy gives no decision for %s %s (%s)",
					textAt(answer.Input(), "request", "method"), textAt(answer.Input(), "request", "path"), answer.Reason), answer.Err)
				b.FailNow()
			}
		}
	})
	if err != nil {
		return run, err
	}
	if err := ctx.Err(); err != nil {
		return run, err
	}
	run = benchRun{
		Iterations: result.N, NanosecondsPerOp: result.NsPerOp(),
		BytesPerOp: result.AllocedBytesPerOp(), AllocsPerOp: result.AllocsPerOp(),
	}
	if seconds := result.T.Seconds(); seconds > 0 {
		run.DecisionsPerSecond = float64(result.N) / seconds
	}
	return run, nil
}

// print prints runs in the format of Go's benchmarks.
func (b *benchmark) print(w io.Writer) {
	what := "sample"
	if b.Recorded {
		what = "recorded"
	}
	_, _ = fmt.Fprintf(w, "requests: %d %s\nrevision: %s\n", b.Requests, what, b.Revision)
	for _, run := range b.Runs {
		_, _ = fmt.Fprintf(w, "BenchmarkDecision\t%8d\t%10d ns/op\t%10.0f decisions/s\t%8d B/op\t%8d allocs/op\n",
			run.Iterations, run.NanosecondsPerOp, run.DecisionsPerSecond, run.BytesPerOp, run.AllocsPerOp)
	}
}
