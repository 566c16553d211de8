// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// What a running policy writes of itself decides like it, elsewhere.
func TestServedPolicy(t *testing.T) {
	for name, content := range map[string]files{
		"a team's": {
			"team.rego": "package metaguard.team\n\ndeny contains data.codes[0] if input.resource.kind == \"userdata\"\n",
			"data.json": `{"codes": ["from_data"], "big": 12345678901234567890, "metaguard": {"grants": {"project_id": {"9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2": ["password:read"]}}}}`,
		},
		"a whole one": whole("default decision := {\"allow\": false, \"reasons\": [\"mine\"]}"),
		"nothing":     {"data.json": "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			original, err := Load(t.Context(), Config{Paths: []string{dir(t, content)}})
			if err != nil {
				t.Fatal(err)
			}
			var written bytes.Buffer
			if err := original.WriteBundle(&written); err != nil {
				t.Fatal(err)
			}
			served, err := Load(t.Context(), Config{Served: written.Bytes()})
			if err != nil {
				t.Fatal(err)
			}
			if served.Revision() != original.Revision() {
				t.Errorf("revision %s, was %s", served.Revision(), original.Revision())
			}
			for _, kind := range []decision.Kind{decision.KindUserdata, decision.KindPassword, decision.KindMetadata} {
				a, b := original.Decide(t.Context(), instance(kind, decision.Read)), served.Decide(t.Context(), instance(kind, decision.Read))
				if a.Reason != b.Reason || !reflect.DeepEqual(a.Decision, b.Decision) {
					t.Errorf("%s: %v %v, was %v %v", kind, b.Reason, b.Decision, a.Reason, a.Decision)
				}
			}
		})
	}
	if _, err := Load(t.Context(), Config{Served: []byte("no bundle")}); err == nil {
		t.Error("loaded something else")
	}
}

// A file and a bundle's file that are called alike both arrive.
func TestServedNamesAlike(t *testing.T) {
	rules := func(kind string) []byte {
		return []byte("package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"" + kind + "\"\n")
	}
	s, err := Config{}.check()
	if err != nil {
		t.Fatal(err)
	}
	original, err := s.compile(t.Context(), &source{
		files:   []file{{name: "b/team.rego", rel: "team.rego", bytes: rules("userdata")}},
		bundles: []loadedBundle{{name: "b", revision: "r", roots: []string{"metaguard/team"}, modules: []file{{name: bundlePrefix + "b/team.rego", rel: "b/team.rego", bytes: rules("network")}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if err := original.WriteBundle(&written); err != nil {
		t.Fatal(err)
	}
	served, err := Load(t.Context(), Config{Served: written.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []decision.Kind{decision.KindUserdata, decision.KindNetwork} {
		if r := served.Decide(t.Context(), instance(kind, decision.Read)); r.Reason != decision.PolicyDeny {
			t.Errorf("%s: %+v", kind, r)
		}
	}
}
