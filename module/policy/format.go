// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Format gives Rego as OPA formats it; name is for messages. Source that does
// not parse is an *Error.
func Format(name string, source []byte) ([]byte, error) {
	parser := ast.ParserOptions{RegoVersion: ast.RegoV1}
	formatted, err := format.SourceWithOpts(name, source, format.Opts{
		RegoVersion: ast.RegoV1, ParserOptions: &parser, Capabilities: ast.CapabilitiesForThisVersion(),
	})
	if err != nil {
		var bad findings
		bad.addOPA(err, &settings{})
		return nil, bad.err()
	}
	// The formatter has made invalid Rego before.
	if _, err := ast.ParseModuleWithOpts(name, string(formatted), parser); err != nil {
		return nil, fmt.Errorf("%s: OPA's formatter would break this file, please report it: %w", name, err)
	}
	return formatted, nil
}
