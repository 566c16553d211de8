// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// replay is the command `metaguard policy replay`.
type replay struct {
	loader loader
	logs   []string
	accept []string
	format *util.EnumFlag
	codes  bool
	strict bool
	limit  int
}

func replayCommand(fetch Fetch) *cobra.Command {
	r := &replay{loader: loader{fetch: fetch}, format: util.NewEnumFlag("text", []string{"text", "json"})}
	command := &cobra.Command{
		Use:   "replay --log <decisions.ndjson>... [--policy <path>...]",
		Short: "Asks a policy again what a decision log has recorded, and shows what changes",
		Long: `
Gives every recorded input to the policy, at its recorded time and with the
recorded answers of non-deterministic builtins, and compares the verdicts: what
an edit would have changed, before it is live.

A log is Metaguard's own decision log, OPA's console log or files in OPA's
upload format, compressed or not; - is the standard input. Lines of other
loggers are skipped. Lines that cannot be read are counted and named.

Changes are grouped by resource, caller group and the codes of the rules. From
the gravest to the least they are: verdict (allow, deny or an error), status of
a refusal, redact (what is hidden from an answer), and codes (the same answer
for another reason), which counts with --codes only. What came after the policy,
such as a refusal by the password latch, is not compared.

The exit status is 0 where nothing changed that is not accepted, and 1
otherwise. Each group has a name that stays the same: --accept takes it, or a
file with one name a line, where # begins a comment.`,
		Example: `  metaguard policy replay --log /var/log/metaguard/decisions.log --policy /etc/metaguard/policy
  metaguard policy replay --log decisions.ndjson.gz --policy policy --accept accepted.txt
  journalctl -u metaguard -o cat | metaguard policy replay --log - --policy policy --format json`,
		Args:         noPaths,
		SilenceUsage: true,
		RunE:         func(command *cobra.Command, _ []string) error { return r.run(command) },
	}
	flags := command.Flags()
	r.loader.flags(flags)
	flags.StringArrayVarP(&r.logs, "log", "l", nil, "`Path` of a decision log; may be repeated. - is the standard input")
	flags.StringArrayVar(&r.accept, "accept", nil, "`Name` of a group of changes that are wanted, or a file of such names; may be repeated")
	flags.Var(r.format, "format", "Form of the result")
	flags.BoolVar(&r.codes, "codes", false, "Let changes of nothing but the codes count")
	flags.BoolVar(&r.strict, "strict", false, "Fail where a line of the log cannot be read")
	flags.IntVar(&r.limit, "limit", 100, "`Number` of groups that are shown as text; 0 shows all")
	_ = command.MarkFlagRequired("log") // it exists
	return command
}

func (r *replay) run(command *cobra.Command) error {
	accepted, err := readAccepted(r.accept)
	if err != nil {
		return err
	}
	p, err := r.loader.load(command.Context())
	if err != nil {
		return err
	}
	bar := startProgress(command.ErrOrStderr(), r.logs)
	rep, err := replayLogs(command.Context(), p, r.logs, bar)
	bar.stop()
	if err != nil {
		return err
	}
	rep.Policy = r.loader.describe(p)
	rep.judge(accepted, r.codes)
	rep.warn(command.ErrOrStderr())
	out := command.OutOrStdout()
	if r.format.String() == "json" {
		err = printJSON(out, rep)
	} else {
		err = rep.print(out, r.limit)
	}
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	switch {
	case r.strict && rep.Unreadable > 0:
		return fmt.Errorf("%s of the log cannot be read", plural(rep.Unreadable, "line"))
	case rep.Decisions == 0:
		return errors.New("no decisions in the log")
	case rep.Open > 0:
		are := "are"
		if rep.OpenGroups == 1 {
			are = "is"
		}
		return fmt.Errorf("%s in %s %s not accepted", plural(rep.Open, "changed decision"), plural(rep.OpenGroups, "group"), are)
	}
	return nil
}

// tally is what one goroutine has counted.
type tally struct {
	policy   *policy.Policy
	seen     *distinct
	groups   groups
	judged   int
	skipped  int
	altered  int
	changed  [codesChanged + 1]int
	first    time.Time
	last     time.Time
	progress *progress
	// recorded are the revisions that decided at the time.
	recorded revisions
}

// replayLogs asks the policy about everything in the logs, on all processors.
func replayLogs(ctx context.Context, p *policy.Policy, logs []string, bar *progress) (*report, error) {
	// Little is kept and much is thrown away, so collecting it less often costs
	// little memory and saves a quarter of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	seen := &distinct{questions: map[uint64]struct{}{}}
	tallies := make([]*tally, runtime.GOMAXPROCS(0))
	each := make([]func(*record) error, len(tallies))
	for i := range tallies {
		t := &tally{policy: p, seen: seen, groups: groups{}, progress: bar, recorded: revisions{}}
		tallies[i], each[i] = t, func(r *record) error { return t.ask(ctx, r) }
	}
	err := readParallel(ctx, logs, &bar.bytes, each)
	var unreadable *unreadableError
	if err != nil && !errors.As(err, &unreadable) {
		return nil, fmt.Errorf("replaying the log: %w", err)
	}
	rep := &report{judging: judging{Revision: p.Revision()}, distinct: seen}
	all, recorded := groups{}, revisions{}
	for _, t := range tallies {
		rep.count(t)
		for revision, last := range t.recorded {
			recorded.see(revision, last)
		}
		for _, g := range t.groups {
			if err := all.add(g); err != nil {
				return nil, err
			}
		}
	}
	rep.Groups, rep.Recorded = all.list(), append([]string{}, recorded.list()...)
	rep.Distinct, rep.DistinctAtLeast = len(seen.questions), seen.full
	if unreadable != nil {
		rep.Unreadable, rep.UnreadableLines = unreadable.Count, unreadable.First
	}
	return rep, nil
}

// ask judges one decision again.
func (t *tally) ask(ctx context.Context, r *record) error {
	before, ok := recordedOutcome(r)
	if !ok {
		t.skipped++
		return nil
	}
	// A slow machine must not make a change.
	result := t.policy.Judge(ctx, policy.Query{Input: r.Input, Time: r.Time, Answers: r.Answers, Unbounded: true})
	if result.Reason == decision.PolicyCancelled {
		return context.Cause(ctx)
	}
	t.judged++
	t.progress.decisions.Add(1)
	t.seen.add(r.question)
	t.recorded.see(r.Revision, r.Time)
	if r.Altered {
		t.altered++
	}
	if t.first.IsZero() || r.Time.Before(t.first) {
		t.first = r.Time
	}
	if r.Time.After(t.last) {
		t.last = r.Time
	}
	after := newOutcome(&result)
	c := compare(before, after)
	t.changed[c]++
	if c == unchanged {
		return nil
	}
	return t.groups.add(newGroup(r, c, before, after, &result))
}

// maxDistinct bounds the memory for telling one question from another.
const maxDistinct = 1 << 22

// distinct counts different questions, as far as memory reaches.
type distinct struct {
	mu        sync.Mutex
	questions map[uint64]struct{}
	full      bool
}

func (d *distinct) add(question uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.questions[question]; ok {
		return
	}
	if d.full = len(d.questions) >= maxDistinct; !d.full {
		d.questions[question] = struct{}{}
	}
}
