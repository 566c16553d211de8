// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"
	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// maxLines is what fits on a screen.
const maxLines = 40

// explained is a decision and why it is so.
type explained struct {
	*verdict
	// Gave are the rules that gave the codes.
	Gave []ruleOutcome `json:"gave"`
	// Could are the rules that could have allowed it.
	Could []ruleOutcome `json:"could"`
	// Others are those of them that are about other requests.
	Others []ruleOutcome `json:"others,omitempty"`
	// Hides says which rule hides what from the answer.
	Hides []hiding `json:"hides,omitempty"`
	// Broke is where a function failed, which makes the decision an error.
	Broke []ruleOutcome `json:"broke,omitempty"`
	// Note says that no grant helps, where it would seem so.
	Note string `json:"note,omitempty"`
}

// hiding is a name that a rule hides.
type hiding struct {
	Name string `json:"name"`
	ruleOutcome
}

// explainCommand is `metaguard policy explain`.
func explainCommand(fetch Fetch) *cobra.Command {
	var (
		from   = loader{fetch: fetch}
		asked  question
		full   bool
		format = util.NewEnumFlag("text", []string{"text", "json"})
	)
	command := &cobra.Command{
		Use:   "explain",
		Short: "Tells why a policy decides as it does",
		Long: `
Asks a policy about one request, as eval does, and tells why it decided so:

- of an allow, and of a refusal by a rule of the team: the rules that gave the
  codes, and the expressions that held
- of any other refusal: the rules that could have allowed it, and the first
  expression of each that failed
- of an answer that is not shown whole: the rules that hide something

Each expression comes with the values of what stands in it. What is shown fits
on a screen; --full shows all of it, and OPA's whole trace.`,
		Example: `  metaguard policy explain --as instance:i-1 --path /openstack/latest/password
  metaguard policy explain -p policy --log decisions.log --decision 5b1c6c0e-6a8f-4a3e-9d0e-2f8f0e6f8f3e`,
		Args:         noPaths,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			got, err := asked.put(command, &from)
			if err != nil {
				return err
			}
			events := got.policy.Trace(command.Context(), got.query, &got.result)
			e := explain(got.verdict, &got.result, events)
			w := command.OutOrStdout()
			switch {
			case format.String() == "json":
				if err := printJSON(w, e); err != nil {
					return err
				}
			case full:
				e.print(w, got.query.Input, 0)
				_, _ = fmt.Fprintln(w, "\nOPA's trace")
				topdown.PrettyTraceWithLocation(w, lineage.Full(events))
			default:
				e.print(w, got.query.Input, maxLines)
			}
			return got.verdict.err()
		},
	}
	from.flags(command.Flags())
	asked.flags(command)
	command.Flags().BoolVar(&full, "full", false, "Show all of it, and OPA's trace")
	command.Flags().Var(format, "format", "Format of the explanation")
	return command
}

// The rule of the built-in policy that collects the reasons to allow.
var permissions = ast.MustParseRef("data.metaguard._permissions")

// A rule that fails at an expression about what is asked for, and not about
// who asks, is about other requests.
var (
	aboutRequest = regexp.MustCompile(`\b(kind|action)\b|\binput\.resource\b|\binput\.request\.(method|path|segments)\b`)
	aboutCaller  = regexp.MustCompile(`\bgranted\b|\binput\.(caller|target|session)\b`)
)

// explain finds in a trace what decided.
func explain(v *verdict, result *policy.Result, events []*topdown.Event) *explained {
	e := &explained{verdict: v, Gave: []ruleOutcome{}, Could: []ruleOutcome{}}
	t := readTrace(events)
	if broken := new(topdown.Error); errors.As(result.Err, &broken) && broken.Location != nil {
		e.Broke = t.failedAt(placeOf(broken.Location))
		return e
	}
	byTeam := false
	for _, f := range t.frames {
		if f.rule == nil || f.rule.Default || f.exit == nil || !slices.Contains(v.Rules, placeOf(f.rule.Loc())) {
			continue
		}
		e.Gave = appendNew(e.Gave, t.held(f, 0))
		byTeam = byTeam || f.rule.Module.Package.Path.String() == "data.metaguard.team"
	}
	if v.Redact != nil {
		e.Hides = t.hides(v.Redact)
	}
	if v.Reason == decision.PolicyAllow || byTeam {
		return e
	}
	for _, f := range t.candidates() {
		b := t.failed(f, 0)
		if at := b.Steps[0]; aboutRequest.MatchString(at.Expr) && !aboutCaller.MatchString(at.Expr) {
			e.Others = append(e.Others, b)
		} else {
			e.Could = appendNew(e.Could, b)
		}
	}
	if note := ungrantable(v, result.Input()); note != "" {
		e.Note = note
		e.Could = slices.DeleteFunc(e.Could, func(b ruleOutcome) bool {
			return strings.HasPrefix(b.Place, builtIn) && b.Code == "granted"
		})
	} else if len(e.Could) == 0 {
		e.Could, e.Others = e.Others, nil
	}
	// Whoever asks can change his own rules, and means the one that nearly held.
	slices.SortStableFunc(e.Could, func(a, b ruleOutcome) int {
		return cmp.Or(
			cmp.Compare(strings.Count(a.Place, builtIn), strings.Count(b.Place, builtIn)),
			cmp.Compare(b.passed, a.passed),
		)
	})
	return e
}

// ungrantable says of a resource that no grant opens what it takes.
func ungrantable(v *verdict, input ast.Value) string {
	if !slices.Contains(v.Codes, "resource_unknown") || !slices.ContainsFunc(v.Rules, func(place string) bool { return strings.HasPrefix(place, builtIn) }) {
		return ""
	}
	what := "the kind " + text(input, "resource", "kind")
	if kind := text(input, "resource", "kind"); kind != string(decision.KindUnknown) {
		what = text(input, "resource", "action") + " of " + what
	}
	return "no grant opens " + what + ": it takes a rule in package metaguard.team"
}

// builtIn stands in the names of the built-in policy's files.
const builtIn = "built-in:"

// hides finds the rules that hide names: those whose own names say so. The
// built-in policy takes the team's over into its own, which is not worth a word.
func (t *trace) hides(redact *decision.Redact) (found []hiding) {
	for _, name := range slices.Concat(redact.JSON, redact.Keys, redact.Listing) {
		var by, byTeam []hiding
		for _, f := range t.frames {
			if f.rule == nil || t.known[f.rule] != f || !slices.ContainsFunc(f.gave, ast.String(name).Equal) {
				continue
			}
			switch head := string(f.rule.Head.Name); {
			case strings.HasPrefix(head, "redact_"):
				byTeam = append(byTeam, hiding{name, outcomeOf(f.rule)})
			case strings.HasPrefix(head, "_hidden_"):
				by = append(by, hiding{name, outcomeOf(f.rule)})
			}
		}
		if len(byTeam) > 0 {
			by = byTeam
		}
		found = append(found, by...)
	}
	return found
}

// failedAt are the rules that failed at a place.
func (t *trace) failedAt(place string) (found []ruleOutcome) {
	for _, f := range t.frames {
		if at := f.failure(); f.rule != nil && at != nil && placeOf(at.expr.Loc()) == place {
			found = appendNew(found, t.failed(f, 0))
		}
	}
	return found
}

// candidates are the rules that could have allowed the request and failed:
// those that the built-in policy asks for permissions, or where another policy
// replaces it, the entrypoint's own.
func (t *trace) candidates() []*frame {
	var roots []*frame
	for _, f := range t.frames {
		if f.rule != nil && f.rule.Ref().Equal(permissions) {
			roots = append(roots, f)
		}
	}
	if len(roots) == 0 {
		for _, s := range t.frames[0].steps {
			roots = append(roots, s.rules()...)
		}
		return slices.DeleteFunc(roots, func(f *frame) bool { return f.failure() == nil })
	}
	var found []*frame
	for _, root := range roots {
		for _, s := range root.steps {
			for _, f := range t.rulesOf(s) {
				if f.failure() != nil && !slices.Contains(found, f) {
					found = append(found, f)
				}
			}
		}
	}
	return found
}
