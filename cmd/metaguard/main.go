// SPDX-License-Identifier: Apache-2.0

// Command metaguard is Caddy with Metaguard's modules: the command line is
// Caddy's own (run, reload, validate, adapt, fmt, …).
package main

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	// The modules that make up the binary.
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/metaguard/metaguard/module"
	_ "github.com/metaguard/metaguard/module/legacy"
)

func main() {
	caddy.CustomBinaryName = "metaguard" // what help and errors call it
	caddycmd.Main()
}
