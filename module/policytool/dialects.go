// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/metaguard/metaguard/module/dialect"
)

// dialects is where dialects are registered.
const dialects = "metaguard.dialects"

// dialectFlag is a dialect by its name in the Caddyfile, with its defaults, or as
// a Caddyfile describes it.
type dialectFlag struct{ dialect.Dialect }

// newDialectFlag is a flag that says openstack until it is set.
func newDialectFlag() *dialectFlag { return &dialectFlag{dialect.OpenStack{}} }

// String implements pflag.Value.
func (f *dialectFlag) String() string { return f.Name() }

// Type implements pflag.Value.
func (*dialectFlag) Type() string { return "name" }

// Set implements pflag.Value.
func (f *dialectFlag) Set(name string) error {
	if strings.ContainsAny(name, "./") {
		return f.fromCaddyfile(name)
	}
	var names []string
	for _, info := range caddy.GetModules(dialects) {
		known, ok := info.New().(dialect.Dialect)
		if !ok {
			continue
		}
		if info.ID.Name() == name {
			if described, ok := known.(caddy.Validator); ok {
				if err := described.Validate(); err != nil {
					return fmt.Errorf("%w; name the Caddyfile instead", err)
				}
			}
			f.Dialect = known
			return nil
		}
		names = append(names, info.ID.Name())
	}
	return fmt.Errorf("there are: %s, or a Caddyfile", strings.Join(names, " "))
}

// fromCaddyfile takes the dialect of the site in a Caddyfile. Nothing else in it
// is looked at, and nothing of it starts.
func (f *dialectFlag) fromCaddyfile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	if adapter == nil {
		return errors.New("this program reads no Caddyfiles")
	}
	adapted, _, err := adapter.Adapt(text, map[string]any{"filename": path})
	if err != nil {
		return err
	}
	var config any
	if err := json.Unmarshal(adapted, &config); err != nil {
		return fmt.Errorf("reading what %s is adapted to: %w", path, err)
	}
	found := dialectsIn(config)
	if len(found) != 1 {
		return fmt.Errorf("%s has %d sites with metaguard: it must be one", path, len(found))
	}
	name, _ := found[0]["name"].(string)
	delete(found[0], "name")
	raw, err := json.Marshal(found[0])
	if err != nil {
		return fmt.Errorf("dialect %s: %w", name, err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID(dialects+"."+name, raw)
	if err != nil {
		return err
	}
	known, ok := loaded.(dialect.Dialect)
	if !ok {
		return fmt.Errorf("%T is no dialect", loaded)
	}
	f.Dialect = known
	return nil
}

// dialectsIn finds the dialects of all sites in a configuration.
func dialectsIn(config any) (found []map[string]any) {
	switch node := config.(type) {
	case map[string]any:
		if site, ok := node["dialect"].(map[string]any); ok && node["handler"] == "metaguard" {
			return []map[string]any{site}
		}
		for _, member := range node {
			found = append(found, dialectsIn(member)...)
		}
	case []any:
		for _, element := range node {
			found = append(found, dialectsIn(element)...)
		}
	}
	return found
}
