// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/response"
)

// maxParts is how many entries or members of one answer are judged. An Azure
// instance with the 64 disks that one can have has about 1,350.
const maxParts = 4096

// hidden is what is to be removed from the answer: what the decision hides, and
// the parts of it that are resources of their own and that the same caller could
// not read by themselves: entries of a listing, which shall advertise nothing
// that would be refused, and members of a document that holds a whole tree.
func (x *exchange) hidden() (decision.Redact, *decision.Refusal) {
	hidden := x.result.Decision.Redact
	if x.h.Mode == modeAudit { // in which a request for a part would be forwarded
		return hidden, nil
	}
	var refusal *decision.Refusal
	switch {
	case x.match.Tree:
		refusal = x.hideMembers(&hidden)
	case x.match.Format == dialect.Listing:
		refusal = x.hideEntries(&hidden)
	}
	return hidden, refusal
}

// hideEntries adds the entries of a listing that would be refused.
func (x *exchange) hideEntries(hidden *decision.Redact) *decision.Refusal {
	parent := x.request.Segments
	if x.match.Parent != nil {
		parent = x.match.Parent
	}
	asked := make(map[string]struct{}, 32)
	for entry := range response.Entries(x.reply) {
		if _, again := asked[entry]; again {
			continue
		}
		if asked[entry] = struct{}{}; len(asked) > maxParts {
			return decision.Refuse(decision.ResponseTooLarge, "entries_over_limit")
		}
		names := strings.FieldsFunc(entry, func(r rune) bool { return r == '/' })
		result, refusal := x.judge(dialect.Request{
			Method:        http.MethodGet,
			Segments:      append(parent[:len(parent):len(parent)], names...),
			TrailingSlash: strings.HasSuffix(entry, "/"),
			Query:         x.request.Query, // it says what an entry is where the path does not
			Header:        x.request.Header,
		})
		if refusal != nil {
			return refusal
		}
		if !result.allowed {
			hidden.Listing = append(hidden.Listing[:len(hidden.Listing):len(hidden.Listing)], entry)
		}
	}
	return nil
}

// hideMembers adds the members of a document that would be refused, and what
// the decisions for the others hide of them.
func (x *exchange) hideMembers(hidden *decision.Redact) *decision.Refusal {
	tree, ok := x.h.dialect.(dialect.Trees)
	if !ok {
		return decision.Refuse(decision.ResponseUnreadable, "tree")
	}
	asked := dialect.Request{
		Method:        http.MethodGet,
		Segments:      x.request.Segments,
		TrailingSlash: x.request.TrailingSlash,
		Query:         x.request.Query,
		Header:        x.request.Header,
	}
	pointers, keys := hidden.JSON[:len(hidden.JSON):len(hidden.JSON)], hidden.Keys[:len(hidden.Keys):len(hidden.Keys)]
	members := 0
	refusal := response.EachMember(x.reply, func(pointer string, names []string) (bool, *decision.Refusal) {
		if members++; members > maxParts {
			return false, decision.Refuse(decision.ResponseTooLarge, "members_over_limit")
		}
		result, refusal := x.judge(tree.Below(asked, names))
		switch {
		case refusal != nil:
			return false, refusal
		case !result.allowed, result.kind == decision.KindPassword: // which passes only where it can be checked
			pointers = append(pointers, pointer)
			return false, nil
		}
		for _, below := range result.redact.JSON {
			pointers = append(pointers, pointer+below)
		}
		keys = append(keys, result.redact.Keys...)
		return result.branch, nil
	})
	hidden.JSON, hidden.Keys = pointers, keys
	return refusal
}

// partVerdict is what the policy says of a part.
type partVerdict struct {
	allowed bool
	redact  decision.Redact
	branch  bool // it has parts itself
	kind    decision.Kind
}

// judge asks the policy whether the caller could read a part by itself. A policy
// that cannot tell ends the request.
func (x *exchange) judge(part dialect.Request) (partVerdict, *decision.Refusal) {
	for _, name := range part.Segments {
		if !x.h.canonicalizer.IsSegment(name) {
			return partVerdict{}, nil // no request can ask for it
		}
	}
	match := x.h.dialect.Classify(part)
	if match.Ambiguous != "" || !match.Allows(http.MethodGet) {
		return partVerdict{}, nil
	}
	in := x.input()
	in.Request.Method = http.MethodGet
	in.Request.Segments = part.Segments
	in.Request.Path = "/" + strings.Join(part.Segments, "/")
	if part.TrailingSlash {
		in.Request.Path += "/"
	}
	in.Request.Query = part.Query
	in.Request.Body = nil
	in.Resource = match.Resource
	result := x.h.engine.Decide(x.r.Context(), in)
	if result.Reason == decision.PolicyAllow {
		return partVerdict{result.Decision.Allow, result.Decision.Redact, match.Tree || match.Format == dialect.Listing, match.Resource.Kind}, nil
	}
	if result.Reason == decision.PolicyDeny || result.Reason == decision.PolicyUndefined {
		return partVerdict{}, nil
	}
	return partVerdict{}, decision.RefuseWith(result.Reason, "part", result.Err)
}
