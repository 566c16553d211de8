// SPDX-License-Identifier: Apache-2.0

// Package policytool holds the commands `metaguard policy …`, with which a
// policy is written, tested, understood and rolled out. They work on files and
// logs, without a running server.
package policytool

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// Fetch gets the policy that a running Metaguard has in force, as
// [policy.Policy.WriteBundle] writes it, from its admin API. The name is the
// policy's there; without one it is the only one.
type Fetch func(ctx context.Context, address, name string) ([]byte, error)

// Setup adds the commands to `metaguard policy`.
func Setup(fetch Fetch) func(parent *cobra.Command) {
	return func(parent *cobra.Command) {
		parent.RunE = func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], command.CommandPath())
			}
			return command.Help()
		}
		parent.AddCommand(commands(fetch)...)
	}
}
