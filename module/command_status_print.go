// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/metaguard/metaguard/module/decision"
)

// print shows the answer to somebody in a hurry: what is wrong comes first.
func (a *statusAnswer) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, oneLine(fmt.Sprintf(format, args...))) // Flush tells of an error
	}
	for _, wrong := range a.Problems {
		line("PROBLEM", "%s at %s: %s", wrong.What, wrong.Site, wrong.Detail)
	}
	if len(a.Problems) == 0 {
		line("ok", "every site decides, and its server answers")
	}
	v := a.Version
	line("version", "metaguard %s, caddy %s, opa %s, %s", strings.TrimSpace(v.Metaguard+" "+v.Revision), v.Caddy, v.OPA, v.Go)
	line("started", "%s, this configuration %s", ago(a.Now, a.StartedAt), ago(a.Now, a.LoadedAt))
	c := a.Counters
	line("requests", "%d allowed, %d denied, %d would be denied, %d in flight; %d events dropped",
		c.Requests[string(decision.Allow)], c.Requests[string(decision.Deny)], c.Requests[string(decision.WouldDeny)], c.InFlight, c.DroppedEvents)
	if len(c.Refusals) > 0 {
		line("refusals", "%s", strings.Join(byCount(c.Refusals), ", "))
	}
	for i := range a.Sites {
		_, _ = fmt.Fprintln(w)
		a.Sites[i].print(a.Now, line)
	}
	return w.Flush()
}

// print shows one site.
func (s *siteStatus) print(now time.Time, line func(name, format string, args ...any)) {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	line("site", "%s  %s, dialect %s, mode %s, deny_status %d, session %s", s.Name, ready, s.Dialect, s.Mode, s.DenyStatus, s.Sessions)
	for _, server := range s.Upstreams {
		line("upstream", "%s %s, %s", server.Address, answersOr(server.Answers, server.Error), ago(now, s.CheckedAt))
	}
	if s.UpstreamError != "" {
		line("upstream", "none was found: %s", s.UpstreamError)
	}
	for _, source := range s.Identities {
		line("identify", "%s%s", source.Source, source.text(now))
	}
	s.Policy.print("policy", now, line)
	if s.Candidate != nil {
		s.Candidate.print("candidate", now, line)
	}
	line("latch", "%s %s", s.Latch.Kind, answersOr(s.Latch.Reachable, s.Latch.Error))
	line("memory", "%s in use, %s at the peak, of %s; %d waiting, %d limited", ofBytes(s.Memory.InUse), ofBytes(s.Memory.Peak), ofBytes(s.Memory.Max), s.Waiting, s.Limited)
}

// print shows one policy with its bundles.
func (p *policyState) print(name string, now time.Time, line func(name, format string, args ...any)) {
	if p.Revision == "" {
		line(name, "%s: none has come yet", p.Name)
	} else {
		line(name, "%s, revision %.12s, loaded %s, %d files", p.Name, p.Revision, ago(now, p.LoadedAt), p.Files)
	}
	if c := p.Cache; c.Size == 0 {
		line("cache", "no verdict is remembered: it is off, or the policy uses the clock or the like")
	} else {
		line("cache", "%d verdicts remembered of %d, %d hits, %d misses", c.Entries, c.Size, c.Hits, c.Misses)
	}
	for _, bundle := range slices.Sorted(maps.Keys(p.Bundles)) {
		state := p.Bundles[bundle]
		line("bundle", "%s", strings.TrimSpace(fmt.Sprintf("%s %s, activated %s %s", bundle, state.Revision, ago(now, state.ActivatedAt), state.LastError)))
	}
}

// text is what a source has to tell beside its name.
func (s *identityStatus) text(now time.Time) string {
	var text strings.Builder
	for _, inventory := range s.Inventories {
		_, _ = fmt.Fprintf(&text, "  %s: %d entries, loaded %s", filepath.Base(inventory.Path), inventory.Entries, ago(now, inventory.LoadedAt))
	}
	if s.Keys != nil {
		_, _ = fmt.Fprintf(&text, "  %d keys, fetched %s", s.Keys.Keys, ago(now, s.Keys.FetchedAt))
	}
	if s.Remembered != nil {
		_, _ = fmt.Fprintf(&text, "  %d tokens remembered, %d refused ones", s.Remembered.Taken, s.Remembered.Refused)
	}
	return text.String()
}

// print shows each decision in a line, the newest first.
func (a *decisionsAnswer) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, raw := range a.Decisions {
		var d struct {
			Time                    time.Time
			Verdict, Reason, Code   string
			Status                  int
			Method, Path, Caller    string
			Peer                    string
			DecisionID              string `json:"decision_id"`
			Outcome, Dialect, Error string
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("reading a decision: %w", err)
		}
		who := d.Caller
		if who == "" {
			who = "peer:" + d.Peer
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", d.Time.Format(time.RFC3339), d.Verdict, d.Reason, d.Status,
			oneLine(d.Method+" "+d.Path), oneLine(who), d.DecisionID) // Flush tells of an error
	}
	_, _ = fmt.Fprintf(w, "%d of %d decisions since the start\n", len(a.Decisions), a.Ever)
	return w.Flush()
}

// answersOr says how something is that was asked.
func answersOr(answers bool, problem string) string {
	if answers {
		return "answers"
	}
	return "DOES NOT ANSWER: " + problem
}

// byCount lists counters, the largest first.
func byCount(counts map[string]uint64) []string {
	names := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(names, func(a, b string) int {
		return int(min(counts[b], 1<<62)) - int(min(counts[a], 1<<62))
	})
	for i, name := range names {
		names[i] = fmt.Sprint(name, " ", counts[name])
	}
	return names
}

// ago is how long ago something was, in whole seconds.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return now.Sub(then).Round(time.Second).String() + " ago"
}

func ofBytes(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// oneLine keeps what came from elsewhere from steering the terminal, or from
// looking like a line of ours.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case unicode.IsControl(r) || r == unicode.ReplacementChar:
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
