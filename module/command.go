// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/policytool"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "password",
		Usage: "reset <instance> [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Manages the state of instances' passwords",
		Long: `
Manages what a running Metaguard knows of instances' passwords. It never knows a
password itself.`,
		CobraFunc: func(command *cobra.Command) {
			command.RunE = func(command *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unknown command %q for %q", args[0], command.CommandPath())
				}
				return command.Help()
			}
			command.AddCommand(passwordResetCommand())
		},
	})
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "policy",
		Usage: "<check|test|fmt|eval|explain|replay|draft|bench>",
		Short: "Writes, tests, explains and rolls out policies",
		Long: `
Works on policies: files and directories with Rego and data that are added to
the built-in policy, as the setting policy of the Caddyfile takes them.`,
		CobraFunc: policytool.Setup(fetchPolicy),
	})
}

// passwordResetCommand is `metaguard password reset`.
func passwordResetCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "reset <instance>",
		Short: "Forgets that an instance has set its password",
		Long: `
Makes the running Metaguard forget the state of an instance's password and its
fingerprints, in every site: for an instance that was rebuilt and cannot wait
until write_once has passed, or whose password was set by other means.

The next write is then forwarded, and what the legacy server holds counts as
written elsewhere, see the setting unverified. The legacy server's own copy is
not touched: it may still answer 409.

It speaks to the admin API at --address, at the one that --config names, or at
Caddy's default, and only over a Unix socket that nobody but its owner can use.`,
		Example: "metaguard password reset 5f1c0000-0000-4000-8000-000000000000 --address unix//run/metaguard/admin.sock",
		Args:    cobra.ExactArgs(1),
	}
	adminFlags(command)
	command.RunE = caddycmd.WrapCommandFuncForCobra(runPasswordReset)
	return command
}

func runPasswordReset(flags caddycmd.Flags) (int, error) {
	address, err := adminAddress(flags)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	body, err := json.Marshal(resetRequest{InstanceID: flags.Arg(0)})
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("encoding the request: %w", err)
	}
	response, err := caddycmd.AdminAPIRequest(address, http.MethodPost, resetPath, nil, bytes.NewReader(body))
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("resetting the password of %s: %w", flags.Arg(0), err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	var done resetAnswer
	if err := readAdminBody(response.Body, maxAdminBody, &done); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if done.Known == 0 {
		fmt.Printf("nothing was known of a password of instance %s in %d site(s)\n", done.InstanceID, done.Sites)
		return caddy.ExitCodeSuccess, nil
	}
	fmt.Printf("forgot the password of instance %s in %d of %d site(s)\n", done.InstanceID, done.Known, done.Sites)
	return caddy.ExitCodeSuccess, nil
}

// maxFetchedPolicy bounds what is read of a server's policy, in bytes: as much
// as a policy may hold.
const maxFetchedPolicy = 128 << 20

// fetchPolicy gets a policy from a running server's admin API.
func fetchPolicy(_ context.Context, address, name string) ([]byte, error) {
	if err := mustBeSocket(address); err != nil {
		return nil, err
	}
	response, err := caddycmd.AdminAPIRequest(address, http.MethodGet, policiesPath+"/"+url.PathEscape(name), nil, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	content, err := io.ReadAll(io.LimitReader(response.Body, maxFetchedPolicy+1))
	if err == nil && len(content) > maxFetchedPolicy {
		err = fmt.Errorf("the policy has more than %d bytes", maxFetchedPolicy)
	}
	return content, err
}

// adminFlags are those by which adminAddress finds the admin API.
func adminFlags(command *cobra.Command) {
	command.Flags().StringP("config", "c", "", "Configuration that names the admin API")
	command.Flags().StringP("adapter", "a", "", "Name of the configuration's adapter")
	command.Flags().StringP("address", "", "", "Address of the admin API, if not from the configuration")
}

// adminAddress finds the admin API.
func adminAddress(flags caddycmd.Flags) (string, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), nil, flags.String("config"), flags.String("adapter"))
	if err != nil {
		return "", fmt.Errorf("finding the admin API: %w", err)
	}
	return address, mustBeSocket(address)
}

// mustBeSocket refuses an admin API on a TCP port before anything is sent there.
func mustBeSocket(address string) error {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		return fmt.Errorf("address of the admin API: %w", err)
	}
	if !parsed.IsUnixNetwork() {
		return fmt.Errorf("the admin API at %s is no Unix socket, and passwords are reset, and policies and status shown, over nothing else: write `admin unix//run/metaguard/admin.sock|0600` in the global options, or give its address", address)
	}
	return nil
}
