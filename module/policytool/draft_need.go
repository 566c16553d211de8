// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// adminPass is the member that the built-in policy hides, and adminPassGrant
// the grant to see it.
const (
	adminPass      = "admin_pass"
	adminPassGrant = "admin_pass:read"
)

// holder is who holds a grant: one value of one attribute of callers.
type holder struct {
	attribute string
	value     string
}

func (h holder) String() string { return h.attribute + " " + h.value }

// explain asks the policy in force why it denies a request, and finds the
// grants that would allow it.
func (d *drafter) explain(ctx context.Context, o *observed, r *record) error {
	if r.Reason == decision.SessionMissing || r.Reason == decision.SessionInvalid {
		o.problem = string(r.Reason)
		return nil
	}
	// Others may count the same request while this asks, so only r is read.
	result := d.policy.Judge(ctx, policy.Query{Input: r.Input, Time: r.Time, Answers: r.Answers, Unbounded: true})
	if result.Reason == decision.PolicyCancelled {
		return context.Cause(ctx)
	}
	o.rules = sorted(result.Rules)
	switch {
	case o.hides && slices.Contains(result.Decision.Redact.Keys, adminPass):
		o.needs = []string{adminPassGrant}
	case result.Decision.Allow:
		return nil // needs nothing any more
	default:
		o.needs = missing(r.Input, result.Decision.Reasons)
	}
	if len(o.needs) == 0 {
		o.problem = problemOf(&result)
		return nil
	}
	o.leftOut = slices.ContainsFunc(o.needs, func(name string) bool {
		return slices.Contains(sensitive, name) && !slices.Contains(d.include, name)
	})
	if d.by != "role" || len(d.rolesOf(r.Input)) == 0 {
		o.holder, o.problem = d.holderOf(r.Input, o.needs)
	}
	return nil
}

// missing reads from the codes of a denial which grants would have helped. The
// built-in policy says of each that it is missing.
func missing(input ast.Value, codes []string) []string {
	var needs []string
	kind, action := text(input, "resource", "kind"), text(input, "resource", "action")
	if slices.Contains(codes, kind+"_"+action+"_not_granted") {
		needs = append(needs, kind+":"+action)
	}
	if slices.Contains(codes, "target_not_granted") {
		project := text(input, "caller", "project_id")
		if project != "" && project == text(input, "target", "project_id") {
			needs = append(needs, "target:project")
		} else {
			needs = append(needs, "target:any")
		}
	}
	return needs
}

// problemOf is why a denial cannot be helped.
func problemOf(result *policy.Result) string {
	if result.Reason != decision.PolicyDeny {
		return string(result.Reason)
	}
	return strings.Join(sorted(result.Decision.Reasons), " ")
}

// holderOf chooses who gets the grants of a caller.
func (d *drafter) holderOf(input ast.Value, needs []string) (holder, string) {
	of := func(attribute string) holder {
		if attribute == "caller_id" {
			return holder{attribute, text(input, "caller", "id")}
		}
		return holder{attribute, text(input, "caller", attribute)}
	}
	var first holder
	for _, attribute := range []string{d.by, "instance_id", "caller_id"} {
		h := of(attribute)
		switch {
		case attribute == "" || !usable(h.value):
		case !d.held[h]:
			return h, ""
		case first.value == "":
			first = h
		}
	}
	if first.value == "" {
		return holder{}, "the caller has nothing to key a grant by"
	}
	return first, fmt.Sprintf("%s has grants in the policy's data: add %s to them by hand", first, strings.Join(needs, " "))
}

// usable tells a value that can stand in a file that people read. No identity
// source has others, but a log can be anyone's.
func usable(value string) bool {
	return value != "" && !strings.ContainsFunc(value, unicode.IsControl)
}

// rolesOf are the roles of a caller that a draft can grant something to.
func (d *drafter) rolesOf(input ast.Value) []string {
	return slices.DeleteFunc(sorted(texts(get(input, "caller", "roles"))), func(role string) bool {
		return !usable(role) || d.held[holder{"role", role}]
	})
}

// heldGrants reads who has grants in the data of a policy. Two data files
// cannot both have a list for the same holder.
func heldGrants(p *policy.Policy) (map[holder]bool, error) {
	held := map[holder]bool{}
	data, err := p.Data()
	if err != nil {
		return nil, err
	}
	metaguard, _ := data["metaguard"].(map[string]any)
	grants, _ := metaguard["grants"].(map[string]any)
	for attribute, values := range grants {
		values, _ := values.(map[string]any)
		for value := range values {
			held[holder{attribute, value}] = true
		}
	}
	return held, nil
}
