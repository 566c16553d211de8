// SPDX-License-Identifier: Apache-2.0

// Command bench measures what Metaguard costs beside the same Caddy without it,
// on this machine:
//
//	go run ./tests/bench
//
// # What runs
//
// A tiny upstream (40-byte answers), and in front of it, each in a process of its
// own: plain Caddy, which is the same binary without the directive and with the same
// settings, but for its logs: Metaguard's are those of loggers.caddy; Metaguard in the variants of --list; and, where the machine has nginx, nginx
// alone and with an OPA server, and Caddy with one. 32 clients with kept connections ask
// for what 10,000 callers boot with, the callers in a Zipf order, with signatures made
// beforehand. All get the very same requests, but for the variants whose callers are
// never the same twice: strangers, and those whom the policy tells apart, so that their
// decisions were never seen.
//
// # What is measured
//
// Rounds are short and interleaved (A B C A B C …), so that what else the machine
// does falls on all alike. Around each round the CPU time of the proxy's process, and of
// OPA's where it is apart, is read from the kernel's clock of that process and divided by
// the requests; the load generator and the upstream are other processes and do not count.
// Then the same at a constant rate, the same one for all, for latencies: these count
// from when a request was due, whether or not a client was free (no coordinated
// omission), and "generator_late" in --json is how late the generator itself was. Memory
// is resident memory; a start is from the process's start to its first right answer.
//
// What is printed are medians over the rounds, half the distance between the quartiles,
// and ratios, each of which is the median of the rounds' own ratios. Every answer is checked, and a
// round in which the log did not get exactly one line for each request is an error.
// All Go programs run with GOGC=100, and with Caddy's own GOMEMLIMIT.
//
// # What it is compared with
//
// Plain Caddy twice: without any log, and with an access log in a file. Metaguard writes
// a line for each request, so that --check compares with the second, which does the same
// work, unless --against says caddy.
//
// # Further
//
// --scale measures cost against size instead; --before compares two binaries in the same
// rounds; --profile fetches profiles by Caddy's admin API; --update writes README.md and
// its drawings.
//
// Another machine gives other times. The ratios are what counts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	metaguard, before, opa     string
	only                       *regexp.Regexp
	rounds, connections        int
	duration                   time.Duration
	pace                       float64
	list, check, scale, update bool
	against                    string
	json, svg, profiles        string
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == upstreamCommand {
		size, err := strconv.Atoi(os.Args[3])
		if err == nil {
			err = serveUpstream(os.Args[2], size)
		}
		exit(err)
	}
	o, err := parse()
	if err != nil {
		exit(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	exit(run(ctx, o))
}

func parse() (*options, error) {
	var o options
	only := flag.String("only", "", "run the variants whose name matches this regular `expression`, and those that they are compared with")
	flag.StringVar(&o.metaguard, "metaguard", "", "the `binary` to measure; default: built from this module")
	flag.StringVar(&o.before, "before", "", "another `binary`, measured in the same rounds as variants NAME@before")
	flag.StringVar(&o.opa, "opa", "", "OPA's own `binary`; default: the one in PATH, or built in the version that Metaguard has")
	flag.IntVar(&o.rounds, "rounds", 7, "how many rounds of each variant")
	flag.DurationVar(&o.duration, "duration", 2500*time.Millisecond, "how long a round is")
	flag.IntVar(&o.connections, "connections", 32, "how many clients ask at one time")
	flag.Float64Var(&o.pace, "rate", 0, "requests per second when latencies are measured; default: a quarter of what the slowest variant without an OPA server can do")
	flag.BoolVar(&o.list, "list", false, "list the variants and end")
	flag.BoolVar(&o.check, "check", false, "end with 1 if a target is missed")
	flag.StringVar(&o.against, "against", plainLogged, "the `variant` that --check compares with: caddy-log, which writes a line for each request as Metaguard does, or caddy")
	flag.BoolVar(&o.scale, "scale", false, "measure cost against size instead: inventory, grants, policy, documents, connections")
	flag.StringVar(&o.json, "json", "", "write what was found to this `file`, or - for standard output")
	flag.StringVar(&o.svg, "svg", "", "draw what was found into this `file`")
	flag.BoolVar(&o.update, "update", false, "put what was found into the README and the drawings that it shows")
	flag.StringVar(&o.profiles, "profile", "", "write CPU and allocation profiles of every round into this `directory`")
	flag.Parse()
	if flag.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	if o.rounds < 1 || o.connections < 1 || o.connections > maxClients || o.duration <= 0 {
		return nil, fmt.Errorf("--rounds and --duration must be above 0, and --connections between 1 and %d", maxClients)
	}
	if o.against != plain && o.against != plainLogged {
		return nil, fmt.Errorf("--against %s: it must be %s or %s", o.against, plain, plainLogged)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	if o.check && !o.scale && (!o.only.MatchString("seen") || !o.only.MatchString("never")) {
		return nil, errors.New("--check needs the variants seen and never: --only leaves one out")
	}
	if o.profiles != "" {
		err = os.MkdirAll(o.profiles, 0o700)
	}
	return &o, err
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o *options) error {
	if o.list {
		for _, v := range variants {
			fmt.Printf("%-12s %s\n", v.name, v.title)
		}
		return nil
	}
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if o.scale {
		return b.runScale(ctx)
	}
	if err := b.startAll(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	starts, err := b.starts(ctx)
	if err != nil {
		return err
	}
	found := b.report(starts)
	if err := b.tell(ctx, "figures", found, found.print, found.draw); err != nil {
		return err
	}
	if !o.check {
		return nil
	}
	targets, err := found.targets(o.against)
	if err != nil {
		return err
	}
	return judge(os.Stderr, targets)
}

// tell prints, writes, draws and publishes what was found, as the options say.
func (b *bench) tell(ctx context.Context, name string, found any, table func(io.Writer), draw func(path string) error) error {
	if b.json != "-" {
		table(os.Stdout)
	}
	if b.json != "" {
		if err := writeJSON(b.json, found); err != nil {
			return err
		}
	}
	if b.svg != "" {
		if err := draw(b.svg); err != nil {
			return err
		}
	}
	if !b.update {
		return nil
	}
	var tables strings.Builder
	table(&tables)
	drawing, err := publish(ctx, name, tables.String())
	if err != nil {
		return err
	}
	return draw(drawing)
}
