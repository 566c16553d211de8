// SPDX-License-Identifier: Apache-2.0

// Command conformance plays what real clients of metadata servers ask, request
// by request, against a deployment and prints a table of what came back. See
// the README beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// The exit codes.
const (
	exitPassed = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line's.
type options struct {
	target, dialect, client string
	timeout                 time.Duration
	json, list, write       bool
	have                    []string
	variables               map[string]string
	headers                 []header
}

// errNothing is for a run that would prove nothing.
var errNothing = errors.New("nothing was run: say what the deployment has with --have, or --write if its data may be changed")

// run is the command: it gives the exit code.
func run(ctx context.Context, arguments []string, out, errOut io.Writer) int {
	o, err := parseOptions(arguments, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return exitPassed
	}
	var results []result
	if err == nil {
		results, err = o.play(ctx, out)
	}
	switch {
	case err != nil:
		fmt.Fprintln(errOut, "conformance:", err)
		return exitUsage
	case count(results).Failed > 0:
		return exitFailed
	}
	return exitPassed
}

func parseOptions(arguments []string, errOut io.Writer) (*options, error) {
	o := &options{variables: make(map[string]string)}
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // it would print the value of a flag that is wrong
	flags.StringVar(&o.target, "target", "", "the deployment's `URL`: http://host:port")
	flags.StringVar(&o.dialect, "dialect", "", "run the clients of this `dialect`")
	flags.StringVar(&o.client, "client", "", "run this `client` alone")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long one request may take")
	flags.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	flags.BoolVar(&o.list, "list", false, "list the clients and run none")
	flags.BoolVar(&o.write, "write", false, "also do what changes something at the server, such as setting the instance's password")
	var wrong error
	flags.Func("have", "what the deployment has, of what --list says clients need: `name`[,name…]", func(text string) error {
		o.have = append(o.have, strings.Split(text, ",")...)
		return nil
	})
	flags.Func("var", "`name=value` of a transcript's variable", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if _, again := o.variables[name]; !found || again {
			wrong = errors.New("--var: want name=value, each name once")
		}
		o.variables[name] = value
		return nil
	})
	flags.Func("header", "an additional `\"Name: value\"` that the deployment needs", func(text string) error {
		h, err := parseHeader(text)
		if err != nil {
			wrong = fmt.Errorf("--header: %w", err)
		}
		o.headers = append(o.headers, h)
		return nil
	})
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(errOut)
			flags.PrintDefaults()
		}
		return nil, err
	}
	switch {
	case wrong != nil:
		return nil, wrong
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.target == "" && !o.list:
		return nil, errors.New("--target is needed")
	case o.timeout <= 0:
		return nil, errors.New("--timeout is not positive")
	}
	return o, nil
}

// play runs what was asked for and prints it.
func (o *options) play(ctx context.Context, out io.Writer) ([]result, error) {
	all, err := loadTranscripts(embedded)
	if err != nil {
		return nil, err
	}
	if o.list && o.dialect == "" && o.client == "" {
		return nil, printList(out, all)
	}
	chosen, err := o.choose(all)
	if err != nil {
		return nil, err
	}
	if o.list {
		return nil, printList(out, chosen)
	}
	target, err := parseTarget(o.target)
	if err != nil {
		return nil, err
	}
	target.timeout, target.extra = o.timeout, o.headers
	r := &runner{target: target, have: o.have, write: o.write, variables: o.variables}
	var results []result
	for _, t := range chosen {
		results = append(results, r.run(ctx, t)...)
	}
	printer := printTable
	if o.json {
		printer = printJSON
	}
	if err := printer(out, results); err != nil {
		return nil, err
	}
	if c := count(results); c.Passed+c.Failed == 0 {
		return nil, errNothing
	}
	return results, nil
}

// choose gives the transcripts of the dialect and client. A dialect cannot be
// told from a server's answers, so it is said, unless the client tells it.
func (o *options) choose(all []*transcript) ([]*transcript, error) {
	var chosen []*transcript
	var dialects, names []string
	for _, t := range all {
		for name := range t.Variables {
			names = appendNew(names, name)
		}
		if (o.dialect == "" || o.dialect == t.Dialect) && (o.client == "" || o.client == t.name) {
			chosen = append(chosen, t)
			dialects = appendNew(dialects, t.Dialect)
		}
	}
	for name := range o.variables {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("--var: no client has a variable %q", name)
		}
	}
	for _, have := range o.have {
		if !slices.ContainsFunc(all, func(t *transcript) bool { return slices.Contains(strings.Fields(t.needs()), have) }) {
			return nil, fmt.Errorf("--have: no client needs %q", have)
		}
	}
	switch {
	case len(chosen) == 0:
		return nil, errors.New("there is no such dialect or client: see --list")
	case len(dialects) > 1:
		return nil, fmt.Errorf("--dialect is needed: %s", strings.Join(sorted(dialects), ", "))
	}
	return chosen, nil
}

func appendNew(list []string, entry string) []string {
	if slices.Contains(list, entry) {
		return list
	}
	return append(slices.Clip(list), entry)
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
