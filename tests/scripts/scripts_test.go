// SPDX-License-Identifier: Apache-2.0

// Package scripts runs the commands as they are written in testdata, which is
// also where to read what they do.
package scripts

import (
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/rogpeppe/go-internal/testscript"

	_ "github.com/metaguard/metaguard/module"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"metaguard": caddycmd.Main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
