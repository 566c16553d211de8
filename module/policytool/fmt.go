// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	opaloader "github.com/open-policy-agent/opa/v1/loader"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/policy"
)

// formatter is the flags of `metaguard policy fmt`.
type formatter struct {
	check, list, diff bool
	from              loader
}

// fmtCommand is `metaguard policy fmt`.
func fmtCommand(fetch Fetch) *cobra.Command {
	f := formatter{from: loader{fetch: fetch}}
	command := &cobra.Command{
		Use:   "fmt [path…]",
		Short: "Formats a policy",
		Long: `
Rewrites Rego files, tests too, as OPA formats them, and names those that it has
changed. Directories are searched for files that end in .rego. Without a path it
formats the standard input to the standard output.

A file is replaced as a whole or not at all. One that does not parse is left
alone and reported. What a server has in force is looked at and not changed.`,
		Example: `  metaguard policy fmt /etc/metaguard/policy
  metaguard policy fmt --check --diff /etc/metaguard/policy`,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, args []string) error {
			if f.from.server != "" {
				return f.served(command.Context(), command.OutOrStdout(), args)
			}
			if len(args) == 0 {
				return f.stream(command.InOrStdin(), command.OutOrStdout())
			}
			return f.files(command.OutOrStdout(), args)
		},
	}
	command.Flags().BoolVar(&f.check, "check", false, "Change nothing, and fail if a file is not formatted")
	command.Flags().BoolVarP(&f.list, "list", "l", false, "Change nothing, and name the files that are not formatted")
	command.Flags().BoolVarP(&f.diff, "diff", "d", false, "Change nothing, and show what would change")
	f.from.serverFlags(command.Flags())
	return command
}

// served looks at the rules that a server has in force.
func (f *formatter) served(ctx context.Context, w io.Writer, args []string) error {
	if len(args) > 0 {
		return errors.New("with --server there is nothing on this side to format: leave the paths out")
	}
	content, err := f.from.served(ctx)
	if err != nil {
		return err
	}
	rules, err := policy.ServedRules(content)
	if err != nil {
		return err
	}
	changed := 0
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		formatted, err := policy.Format(name, rules[name])
		if err != nil {
			return err
		}
		if !bytes.Equal(rules[name], formatted) {
			changed++
			f.report(w, name, rules[name], formatted)
		}
	}
	return f.judge(changed)
}

// stream formats one file from r to w.
func (f *formatter) stream(r io.Reader, w io.Writer) error {
	source, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading the standard input: %w", err)
	}
	formatted, err := policy.Format("stdin", source)
	if err != nil {
		return err
	}
	if !f.dry() {
		_, err := w.Write(formatted)
		return err
	}
	if bytes.Equal(source, formatted) {
		return nil
	}
	f.report(w, "stdin", source, formatted)
	return f.judge(1)
}

// dry tells whether nothing is to be changed.
func (f *formatter) dry() bool { return f.check || f.list || f.diff }

// files formats all Rego that paths hold. One bad file does not keep the
// others from being formatted.
func (f *formatter) files(w io.Writer, paths []string) error {
	var bad []error
	changed := 0
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.IsDir() && filepath.Ext(path) != ".rego" {
			bad = append(bad, fmt.Errorf("%s: not Rego: the name does not end in .rego", path))
			continue
		}
		names, err := opaloader.FilteredPaths([]string{path}, notRego)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		for _, name := range names {
			differs, err := f.file(w, name)
			if err != nil {
				bad = append(bad, err)
			}
			if differs {
				changed++
			}
		}
	}
	if err := f.judge(changed); err != nil {
		bad = append(bad, err)
	}
	return errors.Join(bad...)
}

// notRego leaves out files that are not formatted.
func notRego(path string, info fs.FileInfo, depth int) bool {
	name := filepath.Base(path)
	return depth > 0 && strings.HasPrefix(name, ".") || !info.IsDir() && filepath.Ext(name) != ".rego"
}

// judge says whether the files are as they have to be.
func (f *formatter) judge(changed int) error {
	if !f.check || changed == 0 {
		return nil
	}
	return fmt.Errorf("%s not formatted: run metaguard policy fmt", plural(changed, "file"))
}

// file formats one file, and tells whether that makes a difference.
func (f *formatter) file(w io.Writer, name string) (differs bool, err error) {
	source, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	formatted, err := policy.Format(name, source)
	if err != nil || bytes.Equal(source, formatted) {
		return false, err
	}
	if !f.dry() {
		if err := replace(name, formatted); err != nil {
			return true, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	f.report(w, name, source, formatted)
	return true, nil
}

func (f *formatter) report(w io.Writer, name string, source, formatted []byte) {
	if f.diff {
		_, _ = w.Write(diff.Diff(name, source, name, formatted))
		return
	}
	_, _ = fmt.Fprintln(w, name)
}

// replace puts content in place of a file in one step, so that a server that
// follows it never reads half of it. A link stays one.
func replace(name string, content []byte) (err error) {
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	// The name begins with a dot, so that nobody takes the file for a policy.
	temporary, err := os.CreateTemp(filepath.Dir(name), ".metaguard-fmt-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}
