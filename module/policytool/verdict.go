// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// printed is what one print() of a policy said.
type printed struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// verdict is a policy's answer to one question, as it is shown.
type verdict struct {
	Verdict  decision.Verdict `json:"verdict"`
	Reason   decision.Reason  `json:"reason"`
	Codes    []string         `json:"codes"`
	Rules    []string         `json:"rules"`
	Status   int              `json:"status,omitempty"`
	Redact   *decision.Redact `json:"redact,omitempty"`
	Error    string           `json:"error,omitempty"`
	Print    []printed        `json:"print,omitempty"`
	Time     time.Time        `json:"time"`
	Revision string           `json:"revision"`
	Input    any              `json:"input"`
	// Recorded is what was decided then, of a request from a decision log.
	Recorded *recorded `json:"recorded,omitempty"`

	took time.Duration
}

// withPrint keeps print() in a policy; each query brings its own hook.
func withPrint() policy.Option {
	return policy.WithPrint(nil, func(string, int, string) {})
}

// ask asks a policy one question. The record is what was decided then, if the
// question is from a decision log, or nil.
func ask(ctx context.Context, p *policy.Policy, q policy.Query, before *record) (policy.Result, *verdict, error) {
	var said []printed
	q.Print = func(file string, line int, text string) {
		said = append(said, printed{file, line, text})
	}
	result := p.Judge(ctx, q)
	v := &verdict{
		Verdict: decision.Deny, Reason: result.Reason, Status: result.Decision.Status,
		Codes: append([]string{}, result.Decision.Reasons...), Rules: append([]string{}, result.Rules...),
		Print: said, Time: result.Time, Revision: result.Revision, took: result.Duration,
	}
	if result.Decision.Allow {
		v.Verdict = decision.Allow
	}
	if !result.Decision.Redact.Empty() {
		v.Redact = &result.Decision.Redact
	}
	if result.Err != nil {
		v.Error = result.Err.Error()
	}
	if before != nil {
		v.Recorded = newRecorded(before, &result)
	}
	var err error
	if v.Input, err = ast.JSON(q.Input); err != nil {
		return result, nil, fmt.Errorf("encoding the input: %w", err)
	}
	return result, v, nil
}

// err tells a policy that gave no decision from one that refused.
func (v *verdict) err() error {
	if v.Reason == decision.PolicyAllow || v.Reason == decision.PolicyDeny {
		return nil
	}
	return fmt.Errorf("the policy gave no decision (%s), which a server takes for a refusal", v.Reason)
}

// textAt is the text at a path of the input, or "".
func textAt(input ast.Value, path ...string) string {
	ref := make(ast.Ref, len(path))
	for i, name := range path {
		ref[i] = ast.StringTerm(name)
	}
	value, err := input.Find(ref)
	if err != nil {
		return ""
	}
	text, _ := value.(ast.String)
	return string(text)
}

// headline says the decision and the request in one line.
func headline(v *verdict, input ast.Value) string {
	line := strings.ToUpper(string(v.Verdict)) + "  " + textAt(input, "request", "method") + " " + textAt(input, "request", "path") +
		" as " + textAt(input, "caller", "id")
	target, own := textAt(input, "target", "instance_id"), textAt(input, "caller", "instance_id")
	if target != "" && target != own {
		line += " for instance " + target
	}
	return line
}

// print shows the decision, and each thing that there is to say about it in a
// line of its own.
func (v *verdict) print(w io.Writer, input ast.Value) {
	_, _ = fmt.Fprintln(w, plain(headline(v, input)))
	field := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-9s %s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	field("reason", "%s", v.Reason)
	if v.Error != "" {
		field("error", "%s", v.Error)
	}
	if len(v.Codes) > 0 {
		field("codes", "%s", strings.Join(v.Codes, ", "))
	}
	for _, rule := range v.Rules {
		field("rule", "%s", rule)
	}
	switch {
	case v.Status == http.StatusOK:
		field("status", "200, answered as empty without asking the metadata server")
	case v.Status != 0:
		field("status", "%d", v.Status)
	}
	if v.Redact != nil {
		for _, hidden := range []struct {
			what  string
			names []string
		}{{"JSON", v.Redact.JSON}, {"keys", v.Redact.Keys}, {"entries", v.Redact.Listing}} {
			if len(hidden.names) > 0 {
				field("hidden", "%s %s", hidden.what, strings.Join(hidden.names, ", "))
			}
		}
	}
	for _, said := range v.Print {
		field("print", "%s:%d: %s", said.File, said.Line, said.Text)
	}
	if v.took > policy.DefaultTimeout {
		field("slow", "%v; a server waits %v, unless its timeout says otherwise", v.took.Round(time.Millisecond), policy.DefaultTimeout)
	}
	field("time", "%s", v.Time.UTC().Format(time.RFC3339))
	field("revision", "%s", v.Revision)
	if v.Recorded != nil {
		v.Recorded.print(w)
	}
}

// plain keeps what a client has sent from steering the terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
