// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
)

// An instance acts on itself, whatever else its source could find, and health is
// no one's data.
func TestFindTarget(t *testing.T) {
	const own, other = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	source := &identity.MTLS{Target: &identity.TargetRule{By: "claim", Claim: "vm"}}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := source.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	named := map[string]any{"vm": other}
	for name, test := range map[string]struct {
		caller decision.Caller
		kind   decision.Kind
		want   string
		code   string
	}{
		"an instance":             {decision.Caller{Source: "mtls", InstanceID: own, Claims: named}, decision.KindMetadata, own, ""},
		"no instance":             {decision.Caller{Source: "mtls", Claims: named}, decision.KindMetadata, other, ""},
		"no instance, none named": {decision.Caller{Source: "mtls"}, decision.KindMetadata, "", "target_not_found"},
		"health":                  {decision.Caller{Source: "mtls"}, decision.KindHealth, "", ""},
		"of another source":       {decision.Caller{Source: "jwt", Claims: named}, decision.KindMetadata, "", ""},
	} {
		x := &exchange{
			h: &Handler{identities: identity.Chain{source}}, r: httptest.NewRequest("GET", "/", nil), caller: &test.caller,
			match: dialect.Match{Resource: decision.Resource{Kind: test.kind}},
		}
		refusal := x.findTarget()
		if (refusal == nil) != (test.code == "") || refusal != nil && (refusal.Code != test.code || refusal.Reason != decision.TargetUnknown) || x.target.InstanceID != test.want {
			t.Errorf("%s: %+v, %v", name, x.target, refusal)
		}
	}
}
