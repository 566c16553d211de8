// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/policies"
)

// readInput reads an input document from a file, or from the standard input.
// A server's input always has every member, so one that has not is refused: a
// policy would meet an undefined value there, and decide otherwise.
func readInput(name string, stdin io.Reader) (ast.Value, error) {
	var content []byte
	var err error
	if name == "-" {
		name = "stdin"
		content, err = io.ReadAll(stdin)
	} else {
		content, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	if err := checkJSON(content); err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	var document any
	if err := util.UnmarshalJSON(content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	input, err := ast.InterfaceToValue(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, ok := input.(ast.Object); !ok {
		return nil, fmt.Errorf("%s: an input document is an object, this is %s", name, ast.ValueName(input))
	}
	wrong, err := holdAgainstSchema(input)
	if err != nil {
		return nil, err
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s is no input document as a server makes it: %s", name, strings.Join(wrong, "; "))
	}
	return input, nil
}

// checkJSON says at which line a document is no JSON.
func checkJSON(content []byte) error {
	decoder := jsontext.NewDecoder(bytes.NewReader(content))
	if _, err := decoder.ReadValue(); err != nil {
		var syntax *jsontext.SyntacticError
		if errors.As(err, &syntax) {
			err = syntax.Err
		}
		read := content[:min(decoder.InputOffset(), int64(len(content)))]
		if syntax != nil {
			read = content[:min(syntax.ByteOffset, int64(len(content)))]
		}
		return fmt.Errorf("%d: not JSON: %w", 1+bytes.Count(read, []byte("\n")), err)
	}
	return nil
}

// holdAgainstSchema tells in what a document differs from schemas/input.json.
func holdAgainstSchema(input ast.Value) (wrong []string, err error) {
	schema, err := policies.Builtin.ReadFile("schemas/input.json")
	if err != nil {
		return nil, err
	}
	match := topdown.GetBuiltin(ast.JSONMatchSchema.Name)
	operands := []*ast.Term{ast.NewTerm(input), ast.StringTerm(string(schema))}
	err = match(topdown.BuiltinContext{Capabilities: &ast.Capabilities{AllowNet: []string{}}}, operands, func(result *ast.Term) error {
		problems, ok := result.Value.(*ast.Array).Elem(1).Value.(*ast.Array)
		if !ok {
			return errors.New("the schema of the input cannot be used")
		}
		problems.Foreach(func(problem *ast.Term) {
			text, _ := problem.Value.(ast.Object).Get(ast.StringTerm("error")).Value.(ast.String)
			wrong = append(wrong, strings.TrimPrefix(string(text), "(Root): "))
		})
		return nil
	})
	return wrong, err
}
