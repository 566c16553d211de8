// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/dialect"
)

// dialects is where dialects are registered.
const dialects = "metaguard.dialects"

// dialectFlag is a dialect by its name in the Caddyfile, with its defaults.
type dialectFlag struct{ dialect.Dialect }

// newDialectFlag is a flag that says openstack until it is set.
func newDialectFlag() *dialectFlag { return &dialectFlag{dialect.OpenStack{}} }

// String implements pflag.Value.
func (f *dialectFlag) String() string { return f.Name() }

// Type implements pflag.Value.
func (*dialectFlag) Type() string { return "name" }

// Set implements pflag.Value.
func (f *dialectFlag) Set(name string) error {
	var names []string
	for _, info := range caddy.GetModules(dialects) {
		known, ok := info.New().(dialect.Dialect)
		if !ok {
			continue
		}
		if info.ID.Name() == name {
			f.Dialect = known
			return nil
		}
		names = append(names, info.ID.Name())
	}
	return fmt.Errorf("there are: %s", strings.Join(names, " "))
}
