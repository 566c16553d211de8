// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/policy"
)

// question is what a policy is asked, in one of three ways: as a person would
// say it, as a document, or as it was asked before.
type question struct {
	said     request
	document string
	logs     []string
	decision string
	at       string

	// found is the decision in the log, once it is read.
	found *record
}

// flags adds the flags of all three ways.
func (q *question) flags(command *cobra.Command) {
	q.said.flags(command.Flags())
	flags := command.Flags()
	flags.StringVarP(&q.document, "input", "i", "", "`File` with an input document, or - for the standard input")
	flags.StringArrayVar(&q.logs, "log", nil, "`File` of a decision log, or - for the standard input; may be repeated")
	flags.StringVar(&q.decision, "decision", "", "`Id` of a decision in the log, as in X-Metaguard-Decision")
	flags.StringVar(&q.at, "at", "", "`Time` that the policy takes for now, such as 2026-01-02T15:04:05Z; default: now, or the time of the decision in the log")
	command.MarkFlagsMutuallyExclusive("as", "input", "decision")
	command.MarkFlagsRequiredTogether("log", "decision")
	for _, name := range requestFlags {
		command.MarkFlagsMutuallyExclusive("input", name)
		command.MarkFlagsMutuallyExclusive("decision", name)
	}
}

// query makes the question.
func (q *question) query(ctx context.Context, stdin io.Reader) (policy.Query, error) {
	if !slices.ContainsFunc([]string{"as", "input", "decision"}, q.said.set.Changed) {
		return policy.Query{}, errors.New("say what to ask: --as with --path, --input, or --log with --decision")
	}
	var asked policy.Query
	var err error
	switch {
	case q.document != "":
		asked.Input, err = readInput(q.document, stdin)
	case q.decision != "":
		asked, err = q.recorded(ctx)
	default:
		asked.Input, err = q.said.input()
	}
	if err == nil && q.at != "" {
		if asked.Time, err = time.Parse(time.RFC3339Nano, q.at); err != nil {
			err = fmt.Errorf("--at %q is no time such as 2026-01-02T15:04:05Z", q.at)
		}
	}
	// Whoever asks here wants the answer, however slow this machine is.
	asked.Unbounded = true
	return asked, err
}

// answered is a question with what the policy said.
type answered struct {
	policy  *policy.Policy
	query   policy.Query
	result  policy.Result
	verdict *verdict
}

// put asks the policy of a command.
func (q *question) put(command *cobra.Command, from *loader) (*answered, error) {
	query, err := q.query(command.Context(), command.InOrStdin())
	if err != nil {
		return nil, err
	}
	p, err := from.load(command.Context(), withPrint())
	if err != nil {
		return nil, err
	}
	result, v, err := ask(command.Context(), p, query, q.found)
	if err != nil {
		return nil, err
	}
	return &answered{p, query, result, v}, nil
}

// recorded is a question that was asked before, at the same time and with the
// same answers of functions that answer otherwise each time.
func (q *question) recorded(ctx context.Context) (policy.Query, error) {
	found, err := findDecision(ctx, q.logs, q.decision)
	if err != nil {
		return policy.Query{}, err
	}
	if _, ok := found.Input.(ast.Object); !ok {
		return policy.Query{}, errors.New("decision " + q.decision + " was logged without its input: it did not reach the policy, or the log masks it")
	}
	q.found = found
	return policy.Query{Input: found.Input, Time: found.Time, Answers: found.Answers}, nil
}
