// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// loader is where every command gets its policy from.
type loader struct {
	paths         []string
	entrypoint    string
	allowBuiltins []string
	// samples are what the smoke test asks. Only the commands that tell
	// whether a server would take the policy have them: whoever wants to know
	// why the smoke test refuses a policy must be able to ask it.
	samples []decision.Input
}

// flags adds the flags of commands that ask a policy.
func (l *loader) flags(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&l.paths, "policy", "p", nil, "`Path` of the policy, as in the Caddyfile; may be repeated. None: the built-in policy alone")
	l.settings(flags)
}

// settings adds the flags that are settings of the policy block too, for
// commands that take the policy's paths as arguments.
func (l *loader) settings(flags *pflag.FlagSet) {
	flags.StringVar(&l.entrypoint, "entrypoint", policy.DefaultEntrypoint, "`Rule` that gives the decision, as the setting entrypoint")
	flags.StringSliceVar(&l.allowBuiltins, "allow-builtins", nil, "`Names` of functions that are off by default, as the setting allow_builtins")
}

// load compiles and checks the policy, as a server would.
func (l *loader) load(ctx context.Context, options ...policy.Option) (*policy.Policy, error) {
	return policy.Load(ctx, l.config(), options...)
}

func (l *loader) config() policy.Config {
	return policy.Config{
		Paths:         l.paths,
		Entrypoint:    l.entrypoint,
		AllowBuiltins: l.allowBuiltins,
		Samples:       l.samples,
	}
}
