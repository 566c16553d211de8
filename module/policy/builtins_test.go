// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestForbiddenBuiltins fails when a new OPA brings a function that depends on
// more than its arguments: somebody has to decide whether it is harmless.
func TestForbiddenBuiltins(t *testing.T) {
	got := ForbiddenBuiltins()
	if want := []string{"http.send", "json.match_schema", "json.verify_schema", "net.lookup_ip_addr", "opa.runtime"}; !slices.Equal(got, want) {
		t.Errorf("off by default: %v, want %v", got, want)
	}
	for _, name := range harmless {
		if !slices.ContainsFunc(ast.Builtins, func(b *ast.Builtin) bool { return b.Name == name && b.Nondeterministic }) {
			t.Errorf("%s is no longer there or no longer marked", name)
		}
	}
}

func TestCapabilities(t *testing.T) {
	none, err := capabilities(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ForbiddenBuiltins() {
		if none.ContainsBuiltin(name) {
			t.Errorf("%s is there", name)
		}
		some, err := capabilities([]string{name})
		if err != nil || !some.ContainsBuiltin(name) || len(some.Builtins) != len(none.Builtins)+1 {
			t.Errorf("%s cannot be allowed alone: %v", name, err)
		}
	}
	if none.AllowNet == nil {
		t.Error("schemas may reach every host")
	}
	if len(ast.CapabilitiesForThisVersion().Builtins) != len(none.Builtins)+len(ForbiddenBuiltins()) {
		t.Error("OPA's own list was changed")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"allow", "deny", "redact_keys", "status"}
	for name, want := range map[string]string{
		"denny": "deny", "DENY": "deny", "alow": "allow", "redact_key": "redact_keys", "satus": "status",
		"helper": "", "x": "", "": "", "redact": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
