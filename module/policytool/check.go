// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
)

// checked is what `metaguard policy check` found out.
type checked struct {
	OK       bool             `json:"ok"`
	Findings []policy.Finding `json:"findings"`
	Warnings []policy.Finding `json:"warnings"`
	Revision string           `json:"revision,omitempty"`
	Files    int              `json:"files"`
}

// checkCommand is `metaguard policy check`.
func checkCommand(fetch Fetch) *cobra.Command {
	var (
		from   = loader{fetch: fetch}
		spoken = newDialectFlag()
		format = util.NewEnumFlag("text", []string{"text", "json", "github"})
	)
	command := &cobra.Command{
		Use:   "check [path…]",
		Short: "Tells whether a server would take a policy",
		Long: `
Does all that a server does before it takes a policy: it reads and parses every
file, compiles strictly and against the schema of the input, checks names, data
and whether each package is reached, and tries sample requests of the dialect:
what the built-in policy refuses or hides, the policy must refuse or hide too,
unless data.metaguard.settings.accept says that it is meant.

Each finding has a file, a line, and what to do. Without a path it checks the
built-in policy. Tests (_test.rego) are left out, as by a server.

With --format github, findings are shown in a pull request by GitHub Actions.`,
		Example: `  metaguard policy check /etc/metaguard/policy
  metaguard policy check --format json policy grants.json | jq -r '.findings[].message'`,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, args []string) error {
			from.paths = args
			from.samples = dialect.Samples(spoken)
			result := checked{Findings: []policy.Finding{}, Warnings: []policy.Finding{}}
			p, err := from.load(command.Context())
			if err == nil {
				result.Revision, result.Files = p.Revision(), p.Files()
				result.Warnings = append(result.Warnings, p.Warnings()...)
			} else if found := findingsOf(err); found != nil {
				result.Findings = found
			} else {
				return err
			}
			bundles, err := from.checkBundles(command.Context())
			if err != nil {
				return err
			}
			result.Findings = append(result.Findings, bundles...)
			result.OK = len(result.Findings) == 0
			if err := result.print(command.OutOrStdout(), format.String()); err != nil {
				return err
			}
			if !result.OK {
				return fmt.Errorf("a server would not take this policy: %s", plural(len(result.Findings), "finding"))
			}
			return nil
		},
	}
	from.settings(command.Flags())
	command.Flags().Var(spoken, "dialect", "Dialect whose requests are tried: a name or a Caddyfile")
	command.Flags().Var(format, "format", "Format of the result")
	return command
}

// findingsOf takes the findings out of an error; nil if it has none.
func findingsOf(err error) []policy.Finding {
	var found *policy.Error
	if errors.As(err, &found) {
		return found.Findings
	}
	return nil
}

func (c *checked) print(w io.Writer, format string) error {
	switch format {
	case "json":
		return printJSON(w, c)
	case "github":
		for _, finding := range c.Findings {
			printGitHub(w, "error", finding)
		}
		for _, warning := range c.Warnings {
			printGitHub(w, "warning", warning)
		}
		return nil
	}
	for _, finding := range c.Findings {
		_, _ = fmt.Fprintf(w, "%s [%s]\n", finding, finding.Code)
	}
	for _, warning := range c.Warnings {
		_, _ = fmt.Fprintf(w, "warning: %s [%s]\n", warning, warning.Code)
	}
	if c.OK {
		what := "the built-in policy"
		if c.Files > 0 {
			what = plural(c.Files, "file") + " and the built-in policy"
		}
		_, _ = fmt.Fprintf(w, "ok: %s, revision %s\n", what, c.Revision)
	}
	return nil
}

// printGitHub prints a finding as a workflow command of GitHub Actions.
func printGitHub(w io.Writer, level string, f policy.Finding) {
	text := f.Message
	if f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	var properties []string
	property := func(name, value string) {
		properties = append(properties, name+"="+gitHubProperty.Replace(value))
	}
	if f.File != "" {
		property("file", f.File)
	}
	if f.Line > 0 {
		property("line", fmt.Sprint(f.Line))
	}
	if f.Col > 0 {
		property("col", fmt.Sprint(f.Col))
	}
	property("title", f.Code)
	_, _ = fmt.Fprintf(w, "::%s %s::%s\n", level, strings.Join(properties, ","), gitHubData.Replace(text))
}

// What GitHub's runner reads back, see actions/toolkit, packages/core,
// command.ts.
var (
	gitHubData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	gitHubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// plural counts things.
func plural(count int, thing string) string {
	if count == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", count, thing)
}
