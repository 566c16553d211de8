// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "status",
		Usage: "[--decisions] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Shows how a running Metaguard is",
		Long: `
Shows how the running Metaguard is: what is wrong first, then its sites with their
servers, policies, inventories and latches, and what was counted since it
began. With --decisions it shows the last decisions instead, the newest first.

The exit code is 0 if all is well, 1 if something is wrong: what "PROBLEM" lines
say, among them a site in audit mode; and 2 if no Metaguard could be asked. With
--decisions it is 0 or 2.

It speaks to the admin API at --address, at the one that --config names, or at
Caddy's default, and only over a Unix socket that nobody but its owner can use.`,
		CobraFunc: func(command *cobra.Command) {
			command.Example = "  metaguard status --address unix//run/metaguard/admin.sock\n" +
				"  metaguard status --config /etc/metaguard/Caddyfile --json"
			command.Args = cobra.NoArgs
			adminFlags(command)
			command.Flags().BoolP("json", "", false, "The admin API's own answer")
			command.Flags().BoolP("decisions", "", false, "The last decisions")
			command.RunE = caddycmd.WrapCommandFuncForCobra(runStatus)
		},
	})
}

// exitNobodyAsked is the exit code where no Metaguard could be asked.
const exitNobodyAsked = 2

// maxStatus bounds what is read of an answer, in bytes.
const maxStatus = 64 << 20

func runStatus(flags caddycmd.Flags) (int, error) {
	path, show := statusPath, showStatus
	if flags.Bool("decisions") {
		path, show = decisionsPath, showDecisions
	}
	content, err := askAdmin(flags, path)
	if err != nil {
		return exitNobodyAsked, err
	}
	return show(os.Stdout, content, flags.Bool("json"))
}

// askAdmin gets a document from a running server's admin API.
func askAdmin(flags caddycmd.Flags, path string) ([]byte, error) {
	address, err := adminAddress(flags)
	if err != nil {
		return nil, err
	}
	response, err := caddycmd.AdminAPIRequest(address, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the admin API at %s: %w", address, err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(response.Body, maxStatus+1))
	if err == nil && len(content) > maxStatus {
		err = fmt.Errorf("the answer has more than %d bytes", maxStatus)
	}
	return content, err
}

// showStatus prints the answer, and says by its exit code whether all is well.
func showStatus(w io.Writer, content []byte, asJSON bool) (int, error) {
	var answer statusAnswer
	if err := json.Unmarshal(content, &answer); err != nil {
		return exitNobodyAsked, fmt.Errorf("reading the answer: %w", err)
	}
	if asJSON {
		if _, err := w.Write(content); err != nil {
			return exitNobodyAsked, err
		}
	} else if err := answer.print(w); err != nil {
		return exitNobodyAsked, err
	}
	if len(answer.Problems) > 0 || !answer.Ready {
		return caddy.ExitCodeFailedStartup, errors.New("something is wrong")
	}
	return caddy.ExitCodeSuccess, nil
}

// showDecisions prints decisions, each in a line.
func showDecisions(w io.Writer, content []byte, asJSON bool) (int, error) {
	if asJSON {
		_, err := w.Write(content)
		return caddy.ExitCodeSuccess, err
	}
	var answer decisionsAnswer
	if err := json.Unmarshal(content, &answer); err != nil {
		return exitNobodyAsked, fmt.Errorf("reading the answer: %w", err)
	}
	return caddy.ExitCodeSuccess, answer.print(w)
}
