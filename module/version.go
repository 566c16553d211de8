// SPDX-License-Identifier: Apache-2.0

package module

import (
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
)

// versions are what the running program was built from.
type versions struct {
	// Metaguard is the version of this module, or (devel).
	Metaguard string `json:"metaguard"`
	// Revision is the commit that it was built from, with +modified where files
	// differed. Default: none, where it was built from a module's archive.
	Revision string `json:"revision,omitempty"`
	Caddy    string `json:"caddy"`
	OPA      string `json:"opa"`
	Go       string `json:"go"`
}

const (
	modulePath = "github.com/metaguard/metaguard"
	opaPath    = "github.com/open-policy-agent/opa"
)

// builtFrom reads what Go wrote into the program.
func builtFrom() versions {
	simple, _ := caddy.Version()
	v := versions{Metaguard: "unknown", Caddy: simple, OPA: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	for _, built := range append(info.Deps, &info.Main) {
		from := built
		if from.Replace != nil && from.Replace.Version != "" {
			from = from.Replace
		}
		switch built.Path {
		case modulePath:
			v.Metaguard = from.Version
		case opaPath:
			v.OPA = from.Version
		}
	}
	if info.Main.Path != modulePath {
		return v // the commit is another program's, of which this module is a part
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			v.Revision = setting.Value + v.Revision
		case setting.Key == "vcs.modified" && setting.Value == "true":
			v.Revision += "+modified"
		}
	}
	return v
}
