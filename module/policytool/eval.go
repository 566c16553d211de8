// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"
)

// evalCommand is `metaguard policy eval`.
func evalCommand(fetch Fetch) *cobra.Command {
	var (
		from   = loader{fetch: fetch}
		asked  question
		format = util.NewEnumFlag("text", []string{"text", "json"})
	)
	command := &cobra.Command{
		Use:   "eval",
		Short: "Asks a policy about one request",
		Long: `
Asks a policy about one request, and prints the decision, its codes, the rules
that gave them, what is hidden from the answer, and what print() said.

The request is one of three: one that the flags describe (--as and --path), an
input document (--input), or one from a decision log (--log and --decision),
which is asked again at the same time and with the same answers of functions
such as http.send. What was decided then is shown beside what the policy says now.

The exit code is 0 for an allow and for a denial, and 1 if there is no decision.`,
		Example: `  metaguard policy eval --as instance:i-1 --path /openstack/latest/password
  metaguard policy eval -p policy --as user:alice --role helpdesk --project p-1 \
      --target i-2 --target-project p-1 --path /openstack/latest/password
  metaguard policy eval -p policy --as instance:i-1 -X POST --path /openstack/latest/password --body-format text
  metaguard policy eval -p policy --log decisions.log --decision 5b1c6c0e-6a8f-4a3e-9d0e-2f8f0e6f8f3e`,
		Args:         noPaths,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			got, err := asked.put(command, &from)
			if err != nil {
				return err
			}
			if format.String() != "json" {
				got.verdict.print(command.OutOrStdout(), got.query.Input)
			} else if err := printJSON(command.OutOrStdout(), got.verdict); err != nil {
				return err
			}
			return got.verdict.err()
		},
	}
	from.flags(command.Flags())
	asked.flags(command)
	command.Flags().Var(format, "format", "Format of the decision")
	return command
}
