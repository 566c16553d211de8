// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// claimsPart is the one part that may be impossible to show, or to write into a key.
const claimsPart = "caller.claims"

// The parts of an input document, by their paths: texts and addresses, of which a policy
// may need no more than what they equal, and all others.
var (
	textParts = map[string]func(*decision.Input) string{
		"request.id":         func(in *decision.Input) string { return in.Request.ID },
		"request.method":     func(in *decision.Input) string { return in.Request.Method },
		"request.path":       func(in *decision.Input) string { return in.Request.Path },
		"request.host":       func(in *decision.Input) string { return in.Request.Host },
		"request.protocol":   func(in *decision.Input) string { return in.Request.Protocol },
		"caller.source":      func(in *decision.Input) string { return in.Caller.Source },
		"caller.id":          func(in *decision.Input) string { return in.Caller.ID },
		"caller.instance_id": func(in *decision.Input) string { return in.Caller.InstanceID },
		"caller.project_id":  func(in *decision.Input) string { return in.Caller.ProjectID },
		"target.instance_id": func(in *decision.Input) string { return in.Target.InstanceID },
		"target.project_id":  func(in *decision.Input) string { return in.Target.ProjectID },
		"resource.dialect":   func(in *decision.Input) string { return in.Resource.Dialect },
		"resource.kind":      func(in *decision.Input) string { return string(in.Resource.Kind) },
		"resource.version":   func(in *decision.Input) string { return in.Resource.Version },
		"resource.key":       func(in *decision.Input) string { return in.Resource.Key },
		"resource.action":    func(in *decision.Input) string { return string(in.Resource.Action) },
	}
	addressParts = map[string]func(*decision.Input) netip.Addr{
		"caller.address": func(in *decision.Input) netip.Addr { return in.Caller.Address },
		"target.address": func(in *decision.Input) netip.Addr { return in.Target.Address },
	}
	otherParts = map[string]otherPart{
		"version": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.number(in.Version) },
			func(_ *terms, in *decision.Input) *ast.Term { return ast.InternedTerm(in.Version) },
		},
		"request.segments": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.texts(in.Request.Segments) },
			func(t *terms, in *decision.Input) *ast.Term { return t.texts(in.Request.Segments) },
		},
		"request.query": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.query(in.Request.Query) },
			func(t *terms, in *decision.Input) *ast.Term { return t.query(in.Request.Query) },
		},
		"request.headers": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.headers(in.Request.Headers) },
			func(t *terms, in *decision.Input) *ast.Term { return t.headers(in.Request.Headers) },
		},
		"request.body": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.body(in.Request.Body) },
			func(t *terms, in *decision.Input) *ast.Term { return t.body(in.Request.Body) },
		},
		"caller.roles": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.texts(in.Caller.Roles) },
			func(t *terms, in *decision.Input) *ast.Term { return t.texts(in.Caller.Roles) },
		},
		claimsPart: {
			nil, // a keyer's own
			func(t *terms, in *decision.Input) *ast.Term { return t.claims(in.Caller.Claims) },
		},
		"caller.process": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.process(in.Caller.Process) },
			func(t *terms, in *decision.Input) *ast.Term { return t.process(in.Caller.Process) },
		},
		"resource.sensitive": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.flag(in.Resource.Sensitive) },
			func(_ *terms, in *decision.Input) *ast.Term { return ast.InternedTerm(in.Resource.Sensitive) },
		},
		"session.present": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.flag(in.Session.Present) },
			func(_ *terms, in *decision.Input) *ast.Term { return ast.InternedTerm(in.Session.Present) },
		},
		"session.valid": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.flag(in.Session.Valid) },
			func(_ *terms, in *decision.Input) *ast.Term { return ast.InternedTerm(in.Session.Valid) },
		},
		"session.age_seconds": {
			func(b keyBuffer, in *decision.Input) keyBuffer { return b.number(in.Session.AgeSeconds) },
			func(_ *terms, in *decision.Input) *ast.Term { return ast.InternedTerm(in.Session.AgeSeconds) },
		},
	}
)

// otherPart is a part of another kind: how it is written into a key, and shown.
type otherPart struct {
	key  func(keyBuffer, *decision.Input) keyBuffer // nil: not here
	term func(*terms, *decision.Input) *ast.Term
}

// partPaths are the paths of all parts, below the input.
var partPaths = func() map[string][]ast.String {
	paths := map[string][]ast.String{}
	add := func(name string) {
		for step := range strings.SplitSeq(name, ".") {
			paths[name] = append(paths[name], ast.String(step))
		}
	}
	for name := range textParts {
		add(name)
	}
	for name := range addressParts {
		add(name)
	}
	for name := range otherParts {
		add(name)
	}
	return paths
}()
