// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// A decision names the rules that gave its codes, and no others that would give
// the same.
func TestRulesOfADecision(t *testing.T) {
	root := dir(t, files{"team.rego": `package metaguard.team

deny contains "same" if input.resource.kind == "userdata"

deny contains "same" if input.resource.kind == "network"

deny contains sprintf("%s_closed", [input.resource.kind]) if input.resource.kind == "vendordata"

allow contains "twice" if input.resource.kind == "listing"

allow contains "twice" if input.resource.kind == "password"

allow contains "same" if input.resource.kind == "unknown"

deny contains "both" if input.resource.kind == "token"

deny contains "both" if {
	input.caller.source == "neutron"
	input.resource.kind == "token"
}
`})
	e := engine(t, Config{Paths: []string{root}})
	for kind, lines := range map[decision.Kind][]string{
		decision.KindUserdata:   {"3"},
		decision.KindNetwork:    {"5"},
		decision.KindVendordata: {"7"},
		decision.KindListing:    {"9"}, // line 11 holds for an entry of it only
		decision.KindUnknown:    {"13"},
		decision.KindToken:      {"15", "17"},
	} {
		var want []string
		for _, line := range lines {
			want = append(want, root+"/team.rego:"+line)
		}
		r := e.Decide(t.Context(), instance(kind, decision.Read))
		own := slices.DeleteFunc(slices.Clone(r.Rules), func(place string) bool { return place[0] == 'b' }) // built-in
		if !slices.Equal(own, want) {
			t.Errorf("%s: %v, want %v", kind, r.Rules, want)
		}
	}
}
