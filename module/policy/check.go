// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/pace"
)

// checkNames refuses names in modules and data that mean nothing to the
// built-in policy. Who replaces that one gives the names a meaning of his own.
func (b *content) checkNames(p *pace.Pace, bad *findings) {
	if b.replaced {
		return
	}
	reserved := []ast.Ref{}
	for name, module := range b.modules {
		if !b.own[name] && !module.Package.Path.Equal(teamPackage) {
			reserved = append(reserved, module.Package.Path)
		}
	}
	for _, name := range ownData {
		reserved = append(reserved, metaguardPackage.Append(ast.StringTerm(name)))
	}
	for _, module := range b.ownModules() {
		path := module.Package.Path
		for _, ref := range reserved {
			// Below package metaguard itself a team may have packages.
			if path.Equal(ref) || len(ref) > 2 && path.HasPrefix(ref) {
				bad.at(module.Package.Loc(), CodePackageReserved, "rules of a team belong in package metaguard.team",
					"package %s belongs to the built-in policy", packageName(path))
				break
			}
		}
		checkTeam(module, bad)
	}
	for _, doc := range b.docs {
		doc.checkNames(p, bad)
	}
}

// checkEntrypoint refuses an entrypoint that is not one rule with one value.
func (s *settings) checkEntrypoint(c *ast.Compiler, b *content, bad *findings) {
	for _, rule := range c.GetRulesExact(s.query) {
		if len(rule.Head.Args) > 0 || rule.Head.RuleKind() != ast.SingleValue {
			bad.at(rule.Loc(), CodeEntrypointInvalid, "", "the entrypoint %s must be a rule with one value", s.Entrypoint)
			return
		}
	}
	if len(c.GetRulesWithPrefix(s.query)) > 0 {
		return
	}
	hint := ""
	var loc *ast.Location
	if b.replaced {
		hint = "your package metaguard replaces the built-in one; rules that add to it belong in package metaguard.team"
		for _, module := range b.ownModules() {
			if module.Package.Path.Equal(metaguardPackage) {
				loc = module.Package.Loc()
				break
			}
		}
	}
	if hint == "" {
		var known []string
		for _, module := range b.modules {
			for _, rule := range module.Rules {
				if rule.Head.RuleKind() == ast.SingleValue && len(rule.Head.Args) == 0 {
					known = append(known, strings.ReplaceAll(packageName(module.Package.Path), ".", "/")+"/"+ruleName(rule))
				}
			}
		}
		slices.Sort(known)
		hint = didYouMean(s.Entrypoint, known)
	}
	bad.at(loc, CodeEntrypointInvalid, hint, "no rule is defined for the entrypoint %s", s.Entrypoint)
}

// checkShadows refuses data where rules are: the rules would hide it or it
// would hide them.
func (b *content) checkShadows(c *ast.Compiler, bad *findings) {
	root := c.RuleTree.Child(ast.DefaultRootDocument.Value)
	for _, doc := range b.docs {
		path, node := shadows(root, doc.root, nil)
		if node == nil {
			continue
		}
		where := ""
		if len(node.Values) > 0 {
			where = " (" + node.Values[0].Loc().String() + ")"
		}
		doc.refuse(bad, CodeDataShadowsPolicy, path, "", "%s is a place of rules%s, so it cannot hold data", dataPath(path), where)
	}
}

func shadows(node *ast.TreeNode, value any, at []string) ([]string, *ast.TreeNode) {
	if node == nil {
		return nil, nil
	}
	object, ok := objectOf(value)
	if len(node.Values) > 0 || !ok && len(node.Children) > 0 {
		return at, node
	}
	for _, name := range sortedKeys(object) {
		path, found := shadows(node.Child(ast.String(name)), object[name], append(slices.Clone(at), name))
		if found != nil {
			return path, found
		}
	}
	return nil, nil
}

// systemRef is where OPA keeps rules for itself, such as system.log.mask.
var systemRef = ast.Ref{ast.DefaultRootDocument, ast.StringTerm("system")}

// checkReachable refuses packages of the operator that no rule reads, however
// far from the entrypoint: their rules would compile and do nothing.
func (s *settings) checkReachable(c *ast.Compiler, b *content, bad *findings) {
	reached := map[util.T]bool{}
	packages := map[string]bool{}
	var visit func(util.T)
	visit = func(node util.T) {
		if reached[node] {
			return
		}
		reached[node] = true
		if rule, ok := node.(*ast.Rule); ok && rule.Module != nil {
			packages[rule.Module.Package.Path.String()] = true
		}
		for next := range c.Graph.Dependencies(node) {
			visit(next)
		}
	}
	for _, rule := range c.GetRulesWithPrefix(s.query) {
		for ; rule != nil; rule = rule.Else {
			visit(rule)
		}
	}
	candidates := []string{packageName(teamPackage)}
	for _, module := range b.ownModules() {
		path := module.Package.Path
		name := packageName(path)
		if len(module.Rules) == 0 || strings.HasSuffix(name, "_test") || packages[path.String()] {
			continue
		}
		hint := didYouMean(name, candidates)
		switch {
		case path.Equal(teamPackage):
			hint = "it has none of the rules that are read (" + strings.Join(sortedKeys(teamRules), " ") + "); tests belong in files that end in _test.rego"
		case hint == "":
			hint = "rules that add to the built-in policy belong in package metaguard.team"
		}
		bad.at(module.Package.Loc(), CodePackageUnreached, hint,
			"nothing that the entrypoint %s reads refers to package %s", s.Entrypoint, name)
	}
}

// unread finds data at the top that no rule reads.
func (b *content) unread(data map[string]any) (unread findings) {
	read := map[string]bool{"metaguard": true}
	everything := false
	note := func(ref ast.Ref) bool {
		if len(ref) > 1 && ref.HasPrefix(ast.DefaultRootRef) {
			name, ok := ref[1].Value.(ast.String)
			read[string(name)], everything = true, everything || !ok
		}
		return false
	}
	for _, modules := range []map[string]*ast.Module{b.modules, b.system} {
		for _, module := range modules {
			for _, imported := range module.Imports {
				if ref, ok := imported.Path.Value.(ast.Ref); ok {
					note(ref)
				}
			}
			ast.WalkRefs(module, note)
		}
	}
	if everything {
		return unread
	}
	for _, name := range sortedKeys(data) {
		if read[name] {
			continue
		}
		for _, doc := range b.docs {
			if _, ok := doc.root[name]; ok {
				doc.refuse(&unread, CodeDataUnread, []string{name}, "take it out, or move it to where a rule reads it", "no rule reads data.%s", name)
				break
			}
		}
	}
	return unread
}

// packageName is a.b.c for data.a.b.c.
func packageName(path ast.Ref) string {
	return strings.TrimPrefix(path.String(), "data.")
}
