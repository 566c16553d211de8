// SPDX-License-Identifier: Apache-2.0

// Package doctor holds the command `metaguard doctor`, which asks of a
// configuration, and of what runs, the questions that a security reviewer would
// ask: above all, whether the legacy server can be reached around the guard.
//
// # What it sends
//
// Without --live and --around no socket is opened. With them the doctor sends
// GETs to the legacy server that no policy has allowed: running it is the
// operator's own act. It follows no redirect, reads at most 64 KiB of an answer,
// waits for a bounded time, prints nothing of what comes, and never asks for
// what reading uses up.
package doctor

import (
	"context"
	"encoding/json"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// Severity says how bad a finding is.
type Severity string

// The severities, worst first.
const (
	Problem Severity = "problem" // the guard does not protect, or something is open
	Warning Severity = "warning" // it protects, and less than it could
	Note    Severity = "note"    // worth knowing
)

// severities in the order in which they are printed.
var severities = []Severity{Problem, Warning, Note}

// Finding is one thing that was found.
type Finding struct {
	// ID names the check, for --skip and for machines. It stays.
	ID string `json:"id"`
	// Severity is problem, warning or note.
	Severity Severity `json:"severity"`
	// What was found.
	What string `json:"what"`
	// Where it was found: file:line, the path in the JSON configuration, or an
	// address.
	Where string `json:"where,omitempty"`
	// Why it matters.
	Why string `json:"why"`
	// Do is what to do about it.
	Do string `json:"do"`
}

// Unchecked is something that was not looked at.
type Unchecked struct {
	// ID is the check's.
	ID string `json:"id"`
	// Where is what was not looked at; empty for all of it.
	Where string `json:"where,omitempty"`
	// Why it was not.
	Why string `json:"why"`
	// Chosen tells that it was left out on purpose, with --skip or by what was
	// asked for. Only what was not makes the exit code 2.
	Chosen bool `json:"chosen,omitempty"`
}

// Report is all that a run says.
type Report struct {
	// Looked is what was looked at: the configuration, and the process.
	Looked []string `json:"looked_at"`
	// Findings come worst first.
	Findings []Finding `json:"findings"`
	// Unchecked is what was not looked at.
	Unchecked []Unchecked `json:"not_checked"`
	// AdvisoriesAsOf is the date of the table of known vulnerabilities.
	AdvisoriesAsOf string `json:"advisories_as_of"`
}

// Smoke is what a policy was found to allow.
type Smoke struct {
	// Allows lists what it allows or shows beyond the built-in policy, and its
	// data does not accept. A server would not load it.
	Allows []string
	// Accepted names what it allows beyond the built-in policy because its data
	// says that it is meant.
	Accepted []string
	// Untried is what was not tried, and why; empty where all was.
	Untried string
}

// Needs is what the doctor cannot do by itself.
type Needs struct {
	// Smoke tries a policy with samples: the one that the setting `policy` of a
	// handler names, in JSON, or in place of its files the one that a running
	// server sent. An error is why it cannot be loaded at all.
	Smoke func(ctx context.Context, setting json.RawMessage, served []byte, samples []decision.Input) (Smoke, error)
	// RedisTime asks the Redis at a URL, which may hold a password, what time it is.
	// No error shows the URL.
	RedisTime func(ctx context.Context, url decision.Secret) (time.Time, error)
}

// examination is one run.
type examination struct {
	needs    Needs
	asked    options
	config   *configuration // nil where only --around is given
	guards   []*guard
	running  *process // nil where nothing runs, or it cannot be known
	admin    *adminClient
	prober   *prober
	report   *Report
	skipped  map[string]bool
	policies []runningPolicy // of the running server
	smoked   []smoked        // nil until they were tried
	resolved map[string][]string
	loaded   any // what the running server has loaded, in JSON; nil where it is not known
}

// run makes every check that is not skipped.
func (x *examination) run(ctx context.Context) {
	for i := range checks {
		c := &checks[i]
		f := &finder{x, c}
		switch {
		case x.skipped[c.id]:
			f.leftOut("", "--skip")
		case x.config == nil && c.needs != around:
			// Only --around was asked for.
		case c.needs == live && !x.asked.live:
			f.leftOut("", "it needs --live")
		case c.needs == around && len(x.asked.around) == 0:
			if x.asked.live {
				f.leftOut("", "it needs --around <host:port>, best from where clients are")
			}
		default:
			c.run(ctx, x, f)
		}
	}
	x.report.sort()
}

// finder is how a check tells what it found.
type finder struct {
	x     *examination
	check *check
}

// found adds a finding.
func (f *finder) found(where, what string) {
	f.x.report.Findings = append(f.x.report.Findings, Finding{
		ID: f.check.id, Severity: f.check.severity, What: what, Where: where, Why: f.check.why, Do: f.check.do,
	})
}

// unable tells what could not be looked at although it was asked for.
func (f *finder) unable(where, why string) { f.x.unable(f.check.id, where, why) }

// leftOut tells what was not looked at on purpose.
func (f *finder) leftOut(where, why string) { f.x.leftOut(f.check.id, where, why) }

func (x *examination) unable(id, where, why string) {
	x.report.Unchecked = append(x.report.Unchecked, Unchecked{ID: id, Where: where, Why: why})
}

func (x *examination) leftOut(id, where, why string) {
	x.report.Unchecked = append(x.report.Unchecked, Unchecked{ID: id, Where: where, Why: why, Chosen: true})
}
