// SPDX-License-Identifier: Apache-2.0

// Package policytool holds the commands `metaguard policy …`, with which a
// policy is written, tested, understood and rolled out. They work on files and
// logs, without a running server.
package policytool

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Setup adds the commands to `metaguard policy`.
func Setup(parent *cobra.Command) {
	parent.RunE = func(command *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], command.CommandPath())
		}
		return command.Help()
	}
	parent.AddCommand(commands()...)
}
