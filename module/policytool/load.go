// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// loader is where every command gets its policy from.
type loader struct {
	fetch         Fetch
	paths         []string
	opa           string
	entrypoint    string
	allowBuiltins []string
	server, name  string
	content       []byte // what the server sent, once
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
	flags.StringVar(&l.opa, "opa", "", "`File` with OPA's configuration, as the setting opa; it is checked, and nothing is fetched")
	flags.StringSliceVar(&l.allowBuiltins, "allow-builtins", nil, "`Names` of functions that are off by default, as the setting allow_builtins")
	l.serverFlags(flags)
}

// serverFlags adds the flags that ask a running server for its policy.
func (l *loader) serverFlags(flags *pflag.FlagSet) {
	flags.StringVar(&l.server, "server", "", "`Address` of a running server's admin API, such as /run/metaguard/admin.sock: take the policy that it has in force, with its bundles and data. Paths are added to it")
	flags.StringVar(&l.name, "name", "", "`Name` of the policy in the server, as in its metrics, where it has several")
}

// load compiles and checks the policy, as a server would.
func (l *loader) load(ctx context.Context, options ...policy.Option) (*policy.Policy, error) {
	config, err := l.config(ctx)
	if err != nil {
		return nil, err
	}
	return policy.Load(ctx, config, options...)
}

// loadTests is load for tests.
func (l *loader) loadTests(ctx context.Context) (*policy.Tests, error) {
	config, err := l.config(ctx)
	if err != nil {
		return nil, err
	}
	return policy.LoadTests(ctx, config)
}

// checkBundles finds what a server would refuse in the bundles that directories
// with a .manifest are to become.
func (l *loader) checkBundles(ctx context.Context) ([]policy.Finding, error) {
	config, err := l.config(ctx)
	if err != nil {
		return nil, err
	}
	return policy.CheckBundles(config)
}

func (l *loader) config(ctx context.Context) (policy.Config, error) {
	config := policy.Config{
		Paths:         l.paths,
		OPA:           l.opa,
		Entrypoint:    l.entrypoint,
		AllowBuiltins: l.allowBuiltins,
		Samples:       l.samples,
	}
	if l.server == "" {
		if l.name != "" {
			return config, errors.New("--name is the name of a policy in a server: give --server too")
		}
		return config, nil
	}
	var err error
	config.Served, err = l.served(ctx)
	return config, err
}

// served is the policy of the server.
func (l *loader) served(ctx context.Context) ([]byte, error) {
	address := l.server
	if strings.HasPrefix(address, "/") { // the path of the socket, as a shell completes it
		address = "unix/" + address
	}
	if l.content == nil {
		var err error
		if l.content, err = l.fetch(ctx, address, l.name); err != nil {
			return nil, fmt.Errorf("asking the server for its policy: %w", err)
		}
	}
	return l.content, nil
}

// noPaths refuses arguments of commands whose policy comes from --policy.
func noPaths(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: give the policy with --policy <path>", args[0])
	}
	return nil
}
