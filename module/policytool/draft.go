// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"
)

// draft is the command `metaguard policy draft`.
type draft struct {
	loader  loader
	logs    []string
	include []string
	by      *util.EnumFlag
	denied  bool
	output  string
	force   bool
}

// sensitive are the grants that are proposed only where they are asked for by
// name: each opens the secrets of an instance, or all instances.
var sensitive = []string{"admin_pass:read", "credentials:read", "password:read", "password:write", "target:any"}

// attributes are what a grant can be keyed by.
var attributes = []string{"instance_id", "project_id", "role", "caller_id"}

func draftCommand(fetch Fetch) *cobra.Command {
	d := &draft{loader: loader{fetch: fetch}, by: util.NewEnumFlag("", attributes)}
	command := &cobra.Command{
		Use:   "draft --log <decisions.ndjson>... [--policy <path>...] [--output <directory>]",
		Short: "Drafts the least grants that would have allowed what audit mode would have denied",
		Long: `
Reads decision logs, see replay, and drafts grants as data for the requests that
audit mode let pass and the policy would deny, with Rego tests for them.

A grant goes to the narrowest holder: to an instance by its instance_id, to
others by their caller_id. --by keys wider, and so reaches callers that were not
seen. Another's data is reached by target:project where it is in the caller's
project, and by target:any otherwise.

Every request that the draft is for is judged with it and must be allowed, and
taking any one grant away must leave something denied. What no grant can help,
such as a deny rule of the policy, is listed.

The dangerous grants are drafted only where --include names them; what is left
out for that is listed too. A log shows what was asked for, and not who was
right to ask: read a draft before you load it.`,
		Example: `  metaguard policy draft --log audit.ndjson --policy /etc/metaguard/policy
  metaguard policy draft --log audit.ndjson.gz --by role --include password:read --output draft
  metaguard policy test draft`,
		Args:         noPaths,
		SilenceUsage: true,
		RunE:         func(command *cobra.Command, _ []string) error { return d.run(command) },
	}
	flags := command.Flags()
	d.loader.flags(flags)
	flags.StringArrayVarP(&d.logs, "log", "l", nil, "`Path` of a decision log; may be repeated. - is the standard input")
	flags.StringSliceVar(&d.include, "include", nil, "Dangerous `grant` that may be drafted, of "+strings.Join(sensitive, ", ")+"; may be repeated")
	flags.Var(d.by, "by", "What to key grants by, where the caller has it (default: the narrowest)")
	flags.BoolVar(&d.denied, "denied", false, "Take what was denied in earnest too")
	flags.StringVarP(&d.output, "output", "o", "", "`Directory` to write "+dataFile+" and "+testFile+" to. None: they are printed")
	flags.BoolVar(&d.force, "force", false, "Overwrite files in the output directory")
	_ = command.MarkFlagRequired("log") // it exists
	return command
}

// The files of a draft.
const (
	dataFile = "data.json"
	testFile = "draft_test.rego"
)

func (d *draft) run(command *cobra.Command) error {
	if err := d.check(); err != nil {
		return err
	}
	ctx := command.Context()
	drafter, err := newDrafter(ctx, d)
	if err != nil {
		return err
	}
	bar := startProgress(command.ErrOrStderr(), d.logs)
	err = drafter.observe(ctx, d.logs, bar)
	bar.stop()
	var unreadable *unreadableError
	switch {
	case errors.As(err, &unreadable):
		_, _ = fmt.Fprintf(command.ErrOrStderr(), "Warning: %v\n", unreadable)
	case err != nil:
		return err
	case drafter.seen == 0:
		return errors.New("no decisions in the log")
	}
	plan, err := drafter.draft(ctx)
	if err != nil {
		return err
	}
	by := judging{Policy: d.loader.describe(drafter.policy), Revision: drafter.policy.Revision(), Recorded: drafter.recorded.list()}
	by.warn(command.ErrOrStderr())
	if err := by.print(command.OutOrStdout()); err != nil {
		return fmt.Errorf("writing the draft: %w", err)
	}
	return d.write(command.OutOrStdout(), drafter, plan)
}

func (d *draft) check() error {
	for _, name := range d.include {
		if !slices.Contains(sensitive, name) {
			return fmt.Errorf("--include %q: can be %s; all others are drafted anyway", name, strings.Join(sensitive, ", "))
		}
	}
	if d.output == "" || d.force {
		return nil
	}
	for _, name := range []string{dataFile, testFile} {
		if _, err := os.Lstat(filepath.Join(d.output, name)); err == nil {
			return fmt.Errorf("%s exists: --force overwrites it", filepath.Join(d.output, name))
		}
	}
	return nil
}

// write writes the files, or prints them, and tells what they are.
func (d *draft) write(out io.Writer, drafter *drafter, plan *plan) error {
	if len(plan.uses) > 0 {
		data, err := plan.data()
		if err != nil {
			return err
		}
		tests, err := drafter.tests(plan)
		if err != nil {
			return err
		}
		if err := d.files(out, data, tests); err != nil {
			return err
		}
	}
	if err := drafter.summary(out, plan); err != nil {
		return fmt.Errorf("writing the summary: %w", err)
	}
	return nil
}

// files writes the two files, or prints them.
func (d *draft) files(out io.Writer, data, tests []byte) error {
	if d.output == "" {
		_, err := fmt.Fprintf(out, "==> %s <==\n%s\n==> %s <==\n%s\n", dataFile, data, testFile, tests)
		return err
	}
	if err := os.MkdirAll(d.output, 0o755); err != nil {
		return fmt.Errorf("making the output directory: %w", err)
	}
	for name, content := range map[string][]byte{dataFile: data, testFile: tests} {
		if err := os.WriteFile(filepath.Join(d.output, name), content, 0o644); err != nil {
			return fmt.Errorf("writing the draft: %w", err)
		}
	}
	return nil
}

// newDrafter loads the policy that is in force.
func newDrafter(ctx context.Context, d *draft) (*drafter, error) {
	p, err := d.loader.load(ctx)
	if err != nil {
		return nil, err
	}
	config, err := d.loader.config(ctx)
	if err != nil {
		return nil, err
	}
	held, err := heldGrants(p)
	if err != nil {
		return nil, err
	}
	return &drafter{
		policy: p, config: config, held: held, by: d.by.String(), include: d.include, denied: d.denied,
		asksClock: asksClock(ctx, p), observed: map[observedKey]*observed{}, recorded: revisions{},
	}, nil
}
