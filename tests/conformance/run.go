// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// verdict is how a step ended.
type verdict string

// The verdicts, as the table shows them.
const (
	passed  verdict = "ok"
	failed  verdict = "FAILED"
	leftOut verdict = "left out"
)

// result is one row of the table. Nothing in it comes from a saved value or
// from a body, but the reason and the decision id of a refusal and the name of
// an entry that was advertised and refused.
type result struct {
	Dialect  string  `json:"dialect"`
	Client   string  `json:"client"`
	Step     string  `json:"step"`
	Request  string  `json:"request"`
	Expected string  `json:"expected"`
	Got      string  `json:"got"`
	Result   verdict `json:"result"`
	Status   int     `json:"status,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Decision string  `json:"decision,omitempty"`
}

// runner plays transcripts against a deployment.
type runner struct {
	target    *target
	have      []string // what the deployment has, of what transcripts need
	write     bool     // whether something may be changed
	variables map[string]string
}

// run plays one transcript from top to bottom. A step that fails does not end
// it: the table shows all that is wrong.
func (r *runner) run(ctx context.Context, t *transcript) []result {
	v := newVariables(t.Variables, r.variables)
	var results []result
	for i := range t.Steps {
		s := &t.Steps[i]
		row := result{Dialect: t.Dialect, Client: t.name, Step: s.Name, Request: s.method() + " " + s.target(), Expected: s.Expect.summary(), Result: leftOut}
		if s.Crawl != "" {
			row.Request, row.Expected = "crawl "+s.Crawl, "200 for each"
		}
		if row.Got = r.omits(t, s, v); row.Got != "" {
			results = append(results, row)
			continue
		}
		if s.Each == "" {
			results = append(results, r.play(ctx, t, s, v, row))
			continue
		}
		entries, saved := v.lists[s.Each]
		if !saved || len(entries) == 0 {
			row.Got = "there is no " + s.Each
			results = append(results, row)
		}
		for n, entry := range entries {
			each := row
			each.Step = fmt.Sprintf("%s %d", s.Name, n)
			v.values[s.Each] = entry
			results = append(results, r.play(ctx, t, s, v, each))
		}
	}
	return results
}

// omits tells why a step is left out; an empty text is that it is not.
func (r *runner) omits(t *transcript, s *step, v *variables) string {
	for _, need := range slices.Concat(t.Needs, s.Needs) {
		if !slices.Contains(r.have, need) {
			return "needs --have " + need
		}
	}
	if s.Writes && !r.write {
		return "needs --write"
	}
	for name, unwanted := range s.Unless {
		value, saved := v.values[name]
		if !saved {
			return "nothing was saved as " + name
		}
		if unwanted.whole(value) {
			return "the client would not ask"
		}
	}
	return ""
}

// play does one request, or a crawl, and fills the row in.
func (r *runner) play(ctx context.Context, t *transcript, s *step, v *variables, row result) result {
	wire, err := prepare(t, s, v)
	if err != nil {
		row.Got = err.Error()
		return row
	}
	if s.Crawl != "" {
		return r.crawl(ctx, wire, row)
	}
	got, err := r.target.send(ctx, wire, s.Waits)
	switch {
	case errors.Is(err, errHeld):
		row.Result, row.Got = passed, "held for "+s.Waits.String()
		row.Expected += " or held"
		return row
	case err != nil:
		row.Result, row.Got = failed, err.Error()
		return row
	}
	row.describe(got)
	wrong := s.Expect.judge(got, v)
	if wrong == "" && got.status/100 == 2 {
		wrong = s.keep(got, v)
	}
	if wrong != "" {
		row.Result = failed
		row.Got += ": " + wrong
		return row
	}
	row.Result = passed
	return row
}

// prepare makes the request of a step, with the variables' values in place.
func prepare(t *transcript, s *step, v *variables) (request, error) {
	wire := request{method: s.method()}
	var err error
	if wire.target, err = v.expandTarget(s.target()); err != nil {
		return wire, err
	}
	for _, h := range slices.Concat(t.Headers, s.Headers) {
		value, err := v.expand(h.value, plain)
		if err != nil {
			return wire, err
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return wire, fmt.Errorf("the value for the header %s holds a line end", h.name)
		}
		wire.headers = append(wire.headers, header{h.name, value})
	}
	if s.Body != nil {
		wire.hasBody = true
		wire.body, err = v.expand(*s.Body, plain)
	}
	return wire, err
}

// describe says what came back without quoting it.
func (row *result) describe(got *answer) {
	row.Status = got.status
	row.Got = strconv.Itoa(got.status) + ", " + strconv.Itoa(len(got.body)) + " bytes"
	if row.Reason, row.Decision = refusal(got); row.Reason != "" {
		row.Got = fmt.Sprintf("%d %s (decision %s)", got.status, row.Reason, row.Decision)
	}
}

var (
	refusalLine = regexp.MustCompile(`^[A-Za-z ]+: ([a-z_]+) \(decision ([0-9A-Za-z_-]{1,64})\)\n$`)
	plainWord   = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
)

// refusal reads what Metaguard says of a refusal: the reason and the decision
// id in the body, which must be the id in the header.
func refusal(got *answer) (reason, decision string) {
	id := got.header.Get("X-Metaguard-Decision")
	if id == "" || got.status < 400 {
		return "", ""
	}
	if found := refusalLine.FindStringSubmatch(got.body); found != nil && found[2] == id {
		return found[1], id
	}
	document, err := decodeJSON(got.body)
	if err != nil {
		return "", ""
	}
	text := func(pointer string) string {
		value, _ := member(document, pointer)
		word, _ := value.(string)
		return word
	}
	if reason := text("/reason"); text("/decision") == id && plainWord.MatchString(id) && plainWord.MatchString(reason) {
		return reason, id
	}
	return "", ""
}
