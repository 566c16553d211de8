// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/dialect"
)

// Usage, Short and Long are what `metaguard help` says.
const (
	Usage = "[--config <path> [--adapter <name>]] [--live] [--address <interface>] [--around <host:port>]... [--skip <id>]... [--json]"
	Short = "Asks what a security reviewer would ask of a configuration and of what runs"
	Long  = `
Looks for what makes the guard worth less: ways around it, servers that believe
anybody, an open admin API, weak secrets, files that others can change, known
vulnerabilities. Each finding says what it is, where, why it matters and what to
do.

With --config it examines that configuration, with file and line where they can
be known. It starts nothing, opens no socket and needs nothing that runs.

Without --config, or with --live or --address, it examines what runs as well. The
configuration is then the one that the server has loaded, unless --config names
one. The server is asked at --address, else at the admin API of the
configuration, else at unix//run/metaguard/admin.sock, else at Caddy's default.
THE LEGACY SERVER IS THEN ASKED WHAT NO POLICY HAS ALLOWED: a few GETs for a
listing, metadata and a password, without an identity and with forged ones.
Nothing of the answers is printed. Passwords that reading uses up are not asked
for. The guard's own sites are asked as well, which its log and metrics show.

--around gives further addresses at which clients could reach the legacy server.
Alone, without --config, --live and --address, it needs no configuration: run it
where clients are, such as on an instance, with the server's --dialect.

The exit code is 0 if nothing is worse than a note, 1 if something is, and 2 if
something could not be looked at and nothing else was found.

The checks:
`
)

// options are what the command was asked.
type options struct {
	config, adapter, address string
	live                     bool
	around                   []string
	skip                     []string
	json                     bool
	timeout                  time.Duration
	dialectName              string
	dialect                  dialect.Dialect
}

// Setup adds the flags and what runs.
func Setup(needs Needs) func(*cobra.Command) {
	return func(command *cobra.Command) {
		var asked options
		flags := command.Flags()
		flags.StringVarP(&asked.config, "config", "c", "", "`File` with the configuration")
		flags.StringVarP(&asked.adapter, "adapter", "a", "", "`Name` of the configuration's adapter; default: caddyfile, unless the file is .json")
		flags.StringVar(&asked.address, "address", "", "`Address` of the running server's admin API")
		flags.BoolVar(&asked.live, "live", false, "Ask what runs, too, when --config is given")
		flags.StringArrayVar(&asked.around, "around", nil, "`Address` at which clients could reach the legacy server; may be repeated")
		flags.StringVar(&asked.dialectName, "dialect", "openstack", "`Name` of the legacy server's dialect, for --around without a configuration")
		flags.StringSliceVar(&asked.skip, "skip", nil, "`Ids` of checks to leave out, exactly; the report says that they were")
		flags.DurationVar(&asked.timeout, "timeout", 5*time.Second, "How long one question to a server may take")
		flags.BoolVar(&asked.json, "json", false, "Print the report as JSON")
		command.Args = func(command *cobra.Command, args []string) error {
			if len(args) > 0 { // not 1, which would look like findings
				return exit(command, exitUnable, fmt.Errorf("unexpected argument %q: a configuration is given with --config <path>", args[0]))
			}
			return nil
		}
		command.SetFlagErrorFunc(func(command *cobra.Command, err error) error { return exit(command, exitUnable, err) })
		command.Long += checkList()
		command.RunE = func(command *cobra.Command, _ []string) error {
			command.SilenceUsage = true
			command.SilenceErrors = true // Caddy's logger, or the report, has said it
			code, err := execute(command.Context(), needs, asked, command.OutOrStdout())
			return exit(command, code, err)
		}
	}
}

// checkList is the table of checks as text.
func checkList() string {
	var b strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&b, "  %-26s %-8s %s\n", c.id, c.severity, c.asks)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// errFindings makes the exit code 1.
var errFindings = errors.New("there are findings")

// exit ends the command with a code. Caddy takes any but 0 and 1 from an error
// of its own kind.
func exit(command *cobra.Command, code int, err error) error {
	if code == exitFindings {
		return errFindings
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, err })(command, nil)
}

// execute makes a run.
func execute(ctx context.Context, needs Needs, asked options, out io.Writer) (int, error) {
	x, err := prepare(ctx, needs, asked)
	if err != nil {
		return exitUnable, err
	}
	x.run(ctx)
	write := x.report.write
	if asked.json {
		write = x.report.writeJSON
	}
	if err := write(out); err != nil {
		return exitUnable, fmt.Errorf("writing the report: %w", err)
	}
	return x.report.exitCode(), nil
}

// prepare gets what is examined.
func prepare(ctx context.Context, needs Needs, asked options) (*examination, error) {
	x := &examination{
		needs:   needs,
		prober:  &prober{timeout: asked.timeout, silent: map[string]error{}},
		skipped: map[string]bool{}, resolved: map[string][]string{},
		report: &Report{Looked: []string{}, Findings: []Finding{}, Unchecked: []Unchecked{}, AdvisoriesAsOf: advisoriesAsOf},
	}
	for _, id := range asked.skip {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.id == id }) {
			return nil, fmt.Errorf("--skip %s: there is no such check; `metaguard help doctor` lists them", id)
		}
		x.skipped[id] = true
	}
	if asked.timeout <= 0 {
		return nil, fmt.Errorf("--timeout %s: it is a duration above zero, such as 5s", asked.timeout)
	}
	var err error
	if asked.dialect, err = loadDialect(map[string]any{"name": asked.dialectName}); err != nil {
		return nil, fmt.Errorf("--dialect: %w", err)
	}
	onlyAround := len(asked.around) > 0 && asked.config == "" && asked.address == "" && !asked.live
	asked.live = !onlyAround && (asked.live || asked.config == "" || asked.address != "")
	x.asked = asked
	if onlyAround {
		x.report.look(strings.Join(asked.around, " ") + ", and nothing else")
		return x, nil
	}
	if asked.config != "" {
		if x.config, err = loadFile(asked.config, asked.adapter); err != nil {
			return nil, err
		}
		x.report.look(asked.config)
	}
	if asked.live {
		if err := x.findRunning(ctx); err != nil {
			return nil, err
		}
	}
	x.guards, err = findGuards(x.config.tree)
	return x, err
}

// defaultSocket is where the shipped Caddyfiles have the admin API.
const defaultSocket = "/run/metaguard/admin.sock"

// findRunning asks the running server for what it can tell.
func (x *examination) findRunning(ctx context.Context) error {
	listen := x.asked.address
	if listen == "" && x.config != nil {
		if _, listen = x.config.adminListen(); listen == "" {
			x.unable("config_differs", "the running server", "its admin API is off")
			return nil
		}
	}
	if listen == "" {
		if _, err := os.Stat(defaultSocket); err == nil {
			listen = "unix/" + defaultSocket
		} else {
			listen = caddy.DefaultAdminListen
		}
	}
	var err error
	if x.admin, err = newAdminClient(listen); err != nil {
		return err
	}
	if x.loaded, err = x.admin.runningConfig(ctx); err != nil {
		if x.config == nil {
			return fmt.Errorf("there is nothing to examine: %w; name the configuration with --config, or the admin API with --address", err)
		}
		x.unable("config_differs", "the running server", err.Error())
		return nil
	}
	x.report.look("the running server at " + listen)
	if x.config == nil {
		x.config = &configuration{name: "the running configuration", tree: x.loaded}
	}
	if x.running, err = x.admin.process(ctx); err != nil {
		x.leftOut("known_vulnerability", "the running process", err.Error()+"; this program is looked at instead")
	} else if x.running.environ == nil {
		x.leftOut("secret_weak", "the server's environment", "it may not be seen by this user; this program's is looked at instead")
	}
	if x.policies, err = x.admin.runningPolicies(ctx); err != nil {
		x.unable("policy_stale", "the running policy", err.Error())
	}
	return nil
}

// checkDiffers finds a running configuration that is not the one examined.
func checkDiffers(_ context.Context, x *examination, f *finder) {
	if x.loaded == nil || x.asked.config == "" {
		return
	}
	if !reflect.DeepEqual(withoutDigests(x.config.tree), withoutDigests(x.loaded)) {
		f.found(x.asked.config, "the running server has another configuration loaded than this file gives")
	}
}

// withoutDigests leaves out what changes with the files that policies are read
// from anyway.
func withoutDigests(value any) any {
	switch value := value.(type) {
	case map[string]any:
		kept := make(map[string]any, len(value))
		for name, member := range value {
			if name != "digest" && name != "ca_digest" {
				kept[name] = withoutDigests(member)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(value))
		for i, element := range value {
			kept[i] = withoutDigests(element)
		}
		return kept
	}
	return value
}
