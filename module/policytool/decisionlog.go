// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/metaguard/metaguard/module/decision"
)

// record is one decision, as a decision log has it: a line of Metaguard's own
// log, of OPA's console log, or an event of a file in OPA's upload format.
type record struct {
	ID string
	// Input is the document that the policy judged.
	Input ast.Value
	Time  time.Time
	// Answers are what non-deterministic builtins said; nil if none was asked.
	Answers builtins.NDBCache
	// Reason and Verdict are how the request ended. A log of plain OPA does
	// not say so; they are then what the result stands for.
	Reason  decision.Reason
	Verdict decision.Verdict
	// Decided tells that there is a result: the policy gave some decision.
	Decided bool
	// Allow, Status, Codes and Redact are what the result says.
	Allow  bool
	Status int
	Codes  []string
	Redact decision.Redact
	// Rules are the places, file:line, of the rules that gave the codes.
	Rules    []string
	Revision string
	Mode     string
	// Altered tells that a mask has removed or changed a part of the event.
	Altered bool
	File    string
	// Line counts from 1. In a file in the upload format it is the event's
	// number.
	Line int

	// question is a hash of the input without its request id.
	question uint64
}

// lineError is a line that cannot be read as JSON, or as a decision.
type lineError struct {
	File string
	Line int
	Err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

func (e *lineError) Unwrap() error { return e.Err }

// maxNamedLines is how many unreadable lines are named.
const maxNamedLines = 5

// unreadableError tells which lines of a log cannot be read. All others have
// been read.
type unreadableError struct {
	Count int
	// First are the first of them, in the order of the log.
	First []*lineError
}

func (e *unreadableError) Error() string {
	if e.Count == 1 {
		return "unreadable line " + e.First[0].Error()
	}
	return fmt.Sprintf("%d unreadable lines, the first is %v", e.Count, e.First[0])
}

// note counts one more unreadable line.
func (e *unreadableError) note(line *lineError) {
	e.Count++
	if len(e.First) < maxNamedLines {
		e.First = append(e.First, line)
	}
}

// orNil gives an error only if there is one, which keeps a nil pointer from
// being taken for an error.
func (e *unreadableError) orNil() error {
	if e.Count == 0 {
		return nil
	}
	return e
}

// readLogs calls each for every decision in these files, in their order; "-"
// is the standard input. Lines that are no decision are skipped. Those that
// cannot be read do not stop it: they are told in an *unreadableError at the
// end, which a caller may take for a warning.
func readLogs(ctx context.Context, paths []string, each func(*record) error) error {
	p, unreadable := newParser(), &unreadableError{}
	err := scanLogs(ctx, paths, nil, func(l line) error {
		return p.each(l, unreadable, each)
	})
	if err != nil {
		return err
	}
	return unreadable.orNil()
}
