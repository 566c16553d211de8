// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/metaguard/metaguard/module"
)

// Every Caddyfile is what its variant is called, and Caddy and Metaguard take it.
func TestCaddyfiles(t *testing.T) {
	t.Setenv("METAGUARD_NEUTRON_SECRET", neutronSecret)
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	logging, err := shippedLogging(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range append(variants, startVariants...) {
		if v.site == nil {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			p := place{dir: t.TempDir(), address: "127.0.0.1:1234", upstream: "127.0.0.1:2345", opa: "127.0.0.1:3456"}
			p.admin = filepath.Join(p.dir, "a.sock")
			if v.logs != "" {
				p.log = filepath.Join(p.dir, "counted.log")
			}
			s := subject{variant: v, place: p}
			files := map[string]string{"policy/data.json": "{}"}
			if v.files != nil {
				files = v.files()
			}
			files["logging.caddy"] = logging
			files["Caddyfile"] = v.caddyfile(&p)
			if err := s.write(files); err != nil {
				t.Fatal(err)
			}
			text := files["Caddyfile"]
			for what, want := range map[string]bool{
				"metaguard {": v.guarded, "counted.log": v.logs != "",
				"keepalive 1m": true, "forward_auth": len(v.needs) > 0,
			} {
				if strings.Contains(text, what) != want {
					t.Errorf("%q is there: %t\n%s", what, !want, text)
				}
			}
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": filepath.Join(p.dir, "Caddyfile")})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if len(warnings) > 0 {
				t.Errorf("%v\n%s", warnings, text)
			}
			var config caddy.Config
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(&config); err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}
