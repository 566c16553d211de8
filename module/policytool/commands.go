// SPDX-License-Identifier: Apache-2.0

package policytool

import "github.com/spf13/cobra"

// commands lists them in the order in which a policy is made.
func commands(fetch Fetch) []*cobra.Command {
	return []*cobra.Command{
		checkCommand(fetch),
		testCommand(fetch),
		fmtCommand(fetch),
		evalCommand(fetch),
		explainCommand(fetch),
		replayCommand(fetch),
		draftCommand(fetch),
		benchCommand(fetch),
	}
}
