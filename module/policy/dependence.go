// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// dependence is what the answers of a compiled policy, or of one of its rules, can depend
// on beside its data, and beside the parts of the input that are in its [readSet]. It errs
// on one side only: what it says they do not depend on, no evaluation can reach.
type dependence struct {
	// input tells that a rule looks at the input at all.
	input bool
	// world tells that a rule can reach a builtin whose answer is not in its
	// arguments: the clock, random numbers, the network, the environment.
	world bool
	// prints tells that a rule prints.
	prints bool
}

// dependenceOf reads every rule of a compiled policy, whether or not the
// entrypoint reaches it.
func dependenceOf(compiler *ast.Compiler) dependence {
	d := dependence{world: slices.ContainsFunc(compiler.Required.Builtins, func(b *ast.Builtin) bool { return asksOutside(b.Name) })}
	for _, module := range compiler.Modules {
		for _, rule := range module.Rules { // imports are references in rules by now
			d.read(rule)
		}
	}
	return d
}

// read takes in a rule or a part of one.
func (d *dependence) read(part any) {
	ast.NewGenericVisitor(func(node any) bool {
		switch node := node.(type) {
		case ast.Ref:
			d.readRef(node)
			return true
		case *ast.Expr:
			if terms, ok := node.Terms.([]*ast.Term); ok {
				d.readCall(terms)
			}
		case ast.Call:
			d.readCall(node)
		case ast.Var:
			if node.Equal(ast.InputRootDocument.Value) {
				d.input = true
			}
		}
		return false
	}).Walk(part)
}

// readRef takes in a reference: into the input or the data, or the name of a
// function, which may also be handed over in the place of another (`with f as g`).
func (d *dependence) readRef(ref ast.Ref) {
	if len(ref) == 0 {
		return
	}
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		d.input = true
	case ref[0].Equal(ast.DefaultRootDocument):
	default:
		name := ref.String()
		d.prints = d.prints || name == ast.InternalPrint.Name || name == ast.Print.Name
		d.world = d.world || ast.BuiltinMap[name] != nil && asksOutside(name)
	}
	if _, isVar := ref[0].Value.(ast.Var); !isVar {
		d.read(ref[0].Value)
	}
	for _, term := range ref[1:] { // what it is looked up by can be a reference itself
		d.read(term)
	}
}

// unmarked are builtins that answer otherwise at other times although OPA does not
// say so: the first two judge certificates by the clock, unless they are given
// another time (topdown/crypto.go), and the last can show addresses in memory.
var unmarked = []string{
	"crypto.x509.parse_and_verify_certificates", "crypto.x509.parse_and_verify_certificates_with_options",
	"strings.render_template",
}

// asksOutside tells whether a builtin may answer the same question otherwise.
func asksOutside(name string) bool {
	known, ok := ast.BuiltinMap[name]
	_, forbidden := reasonsForbidden[name]
	return !ok || known.Nondeterministic || forbidden || slices.Contains(unmarked, name)
}

// showsAddress finds the verb of sprintf that shows an address in memory, in a
// format that is known.
var showsAddress = regexp.MustCompile(`%[^a-zA-Z%]*p`)

// readCall takes in what a function is called with, where that matters.
func (d *dependence) readCall(terms []*ast.Term) {
	if len(terms) < 2 || terms[0].String() != ast.Sprintf.Name {
		return
	}
	format, known := terms[1].Value.(ast.String)
	d.world = d.world || !known || showsAddress.MatchString(strings.ReplaceAll(string(format), "%%", ""))
}
