// SPDX-License-Identifier: Apache-2.0

package policytool

import "github.com/spf13/cobra"

// commands lists them in the order in which a policy is made.
func commands() []*cobra.Command {
	return []*cobra.Command{
		checkCommand(),
		testCommand(),
		fmtCommand(),
		evalCommand(),
		explainCommand(),
		replayCommand(),
		draftCommand(),
		benchCommand(),
	}
}
