// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// instead says what to do in the place of Caddy's commands that replace the program by one
// from Caddy's download server. That has never heard of this binary's main module: a plain
// Caddy would stand where the guard was.
var instead = map[string]string{
	"upgrade":        "install the newer package, or put the newer binary in this one's place; see Upgrading in the README",
	"add-package":    "build it: xcaddy build --with github.com/metaguard/metaguard/module --with <package>",
	"remove-package": "build it without: xcaddy build --with github.com/metaguard/metaguard/module",
}

// standIn marks what stands in for one of Caddy's commands.
const standIn = "metaguard.stand-in"

func init() {
	var previous *cobra.Command
	for name, advice := range instead {
		delete(caddycmd.Commands(), name) // RegisterCommand panics at a name that is taken
		caddycmd.RegisterCommand(caddycmd.Command{
			Name:  name,
			Short: "Not in Metaguard",
			CobraFunc: func(cmd *cobra.Command) {
				cmd.Hidden = true
				cmd.DisableFlagParsing = true // whatever it is given
				cmd.Annotations = map[string]string{standIn: name}
				cmd.RunE = func(*cobra.Command, []string) error {
					return fmt.Errorf("metaguard has no %s, which would replace it by a plain Caddy from Caddy's download server; %s", name, advice)
				}
				// Caddy gives nobody its root command. A command's parent is known when the
				// next one is made, and by then Caddy's own commands are all there.
				if previous != nil {
					removeReplaced(previous.Root())
				}
				previous = cmd
			},
		})
	}
}

// removeReplaced takes the commands away that have a stand-in.
func removeReplaced(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if _, replaced := instead[cmd.Name()]; replaced && cmd.Annotations[standIn] == "" {
			root.RemoveCommand(cmd)
		}
	}
}
