// SPDX-License-Identifier: Apache-2.0

// Command metaguard is Caddy with Metaguard's modules: the command line is
// Caddy's own (run, reload, validate, adapt, fmt, …).
package main

import (
	"fmt"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	// The modules that make up the binary.
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/metaguard/metaguard/module"
	_ "github.com/metaguard/metaguard/module/legacy"
)

// description is what help says first, in the place of Caddy's own, which leads to Caddy's
// downloads.
const description = `Metaguard stands in front of a legacy metadata server. It finds out who calls, asks Rego
policies whether that caller may use that method on that resource, and gives every client
one well-formed answer or none.

It is Caddy with Metaguard's modules: a Caddyfile configures it, and Caddy's commands run,
reload, validate and format that. Before a start, ask doctor:

	$ metaguard doctor --config Caddyfile
	$ metaguard run --config Caddyfile

Metaguard's own commands are policy, doctor, status and password; its manual is the README
of https://github.com/metaguard/metaguard.
`

func main() {
	caddy.CustomBinaryName = "metaguard" // what help and errors call it
	caddy.CustomLongDescription = description
	if build, ok := debug.ReadBuildInfo(); ok {
		caddy.CustomVersion = version(build)
	}
	caddycmd.Main()
}

// version is what `metaguard version` says before Caddy's own version: the module's,
// which Go takes from the git tag, and the revision that was built.
func version(build *debug.BuildInfo) string {
	revision := "unknown"
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			revision = setting.Value
		}
	}
	return fmt.Sprintf("Metaguard %s revision %s, Caddy", build.Main.Version, revision)
}
