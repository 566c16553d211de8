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
// settings, and Metaguard in the variants of the table (--list).
// 32 clients with kept connections ask for what 10,000 callers boot with, the
// callers in a Zipf order, with signatures made beforehand. All get the very same
// requests, except for the variant whose callers are never the same twice.
//
// # What is measured
//
// Rounds are short and interleaved (A B C A B C …), so that what else the machine
// does falls on all alike. Around each round the CPU time of the proxy's process is
// read from the kernel's clock of that process and divided by its requests; the load
// generator and the upstream are other processes and do not count. What is printed
// are medians over the rounds, the distance between the quartiles, and ratios, each
// of which is the median of the rounds' own ratios. Every answer is checked, and a
// round in which the log did not get exactly one line for each request is an error.
//
// Another machine gives other times. The ratios are what counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	metaguard   string
	before      string
	only        *regexp.Regexp
	rounds      int
	duration    time.Duration
	connections int
	list        bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == upstreamCommand {
		exit(serveUpstream(os.Args[2]))
	}
	var o options
	only := flag.String("only", "", "run the variants whose name matches this regular `expression`, and those that they are compared with")
	flag.StringVar(&o.metaguard, "metaguard", "", "the `binary` to measure; default: built from this module")
	flag.StringVar(&o.before, "before", "", "another `binary`, measured in the same rounds as variants NAME@before")
	flag.IntVar(&o.rounds, "rounds", 7, "how many rounds of each variant")
	flag.DurationVar(&o.duration, "duration", 2500*time.Millisecond, "how long a round is")
	flag.IntVar(&o.connections, "connections", 32, "how many clients ask at one time")
	flag.BoolVar(&o.list, "list", false, "list the variants and end")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("unknown argument %q", flag.Arg(0)))
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		exit(fmt.Errorf("--only: %w", err))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	exit(run(ctx, &o))
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
			fmt.Printf("%-10s %s\n", v.name, v.title)
		}
		return nil
	}
	b, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.measure(ctx); err != nil {
		return err
	}
	printTable(os.Stdout, b.results())
	return nil
}
