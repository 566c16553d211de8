// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// identified gives the caller of a token that must hold.
func identified(tb testing.TB, j *JWT, token string) *decision.Caller {
	tb.Helper()
	caller, refusal := j.Identify(withBearer(token), stranger)
	if refusal != nil {
		tb.Fatal(refusal)
	}
	return caller
}

func TestJWTClaims(t *testing.T) {
	k := testKeys()
	payload := goodPayload().but(doc{
		"azp": "cli", "scope": "read write", "groups": []string{"ops"}, "email": "u@example.com", "big": json.Number("9007199254740993"),
		"a":       doc{"b": "deep", "b.c": doc{"d": "dotted"}, "n": doc{"m": 1}},
		"a.b":     "whole name",
		"a.n":     doc{"x": true},
		"nothing": "x",
	})
	token := signedText(k.rsa, goodHeader().String(), strings.Replace(payload.String(), `"nothing":"x"`, `"nothing":null`, 1))
	number := json.Number("9007199254740993")
	for name, test := range map[string]struct {
		names []string
		want  map[string]any
	}{
		"default": {nil, map[string]any{
			"iss": testIssuer, "sub": "user-1", "aud": []any{testAudience}, "azp": "cli", "scope": "read write", "groups": []any{"ops"},
		}},
		"named":                {[]string{"email", "missing", "nothing"}, map[string]any{"email": "u@example.com"}},
		"large number":         {[]string{"big"}, map[string]any{"big": number}},
		"whole name first":     {[]string{"a.b"}, map[string]any{"a.b": "whole name"}},
		"into a dotted name":   {[]string{"a.b.c.d"}, map[string]any{}},
		"longest part":         {[]string{"a.n.x", "a.n.m"}, map[string]any{"a.n.x": true}},
		"nothing else is seen": {[]string{"sub"}, map[string]any{"sub": "user-1"}},
		"object":               {[]string{"a"}, map[string]any{"a": map[string]any{"b": "deep", "b.c": map[string]any{"d": "dotted"}, "n": map[string]any{"m": json.Number("1")}}}},
		"odd names":            {[]string{".", "a.", ".a", "a..b"}, map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJWT(t, allKeys(), func(j *JWT) { j.Claims = test.names })
			if got := identified(t, j, token).Claims; !reflect.DeepEqual(got, test.want) {
				t.Errorf("%#v, want %#v", got, test.want)
			}
		})
	}
	t.Run("inside", func(t *testing.T) {
		j := newJWT(t, allKeys(), func(j *JWT) { j.Claims = []string{"a.b.c.d", "a.n.m"} })
		got := identified(t, j, signedBy(k.rsa, goodHeader(), payload.but(doc{"a.b": nil, "a.n": nil}))).Claims
		want := map[string]any{"a.b.c.d": "dotted", "a.n.m": json.Number("1")}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%#v, want %#v", got, want)
		}
	})
}

func TestJWTProjectAndRoles(t *testing.T) {
	k := testKeys()
	j := newJWT(t, allKeys(), func(j *JWT) { j.Project, j.Roles = "tenant.id", "realm_access.roles" })
	roles := func(value any) doc { return doc{"realm_access": doc{"roles": value}} }
	tenant := doc{"tenant": doc{"id": tenantA}}
	for name, test := range map[string]struct {
		changes doc
		project string
		roles   []string
		code    string
	}{
		"no roles":           {tenant, tenantA, nil, ""},
		"list":               {tenant.but(roles([]string{"a", "b c"})), tenantA, []string{"a", "b c"}, ""},
		"string":             {tenant.but(roles(" a  b ")), tenantA, []string{"a", "b"}, ""},
		"empty list":         {tenant.but(roles([]string{})), tenantA, nil, ""},
		"roles a number":     {tenant.but(roles(1)), "", nil, "jwt_claim"},
		"roles of numbers":   {tenant.but(roles([]any{"a", 1})), "", nil, "jwt_claim"},
		"role empty":         {tenant.but(roles([]string{""})), "", nil, "jwt_claim"},
		"role with line end": {tenant.but(roles([]string{"a\nb"})), "", nil, "jwt_claim"},
		"roles an object":    {tenant.but(roles(doc{"a": true})), "", nil, "jwt_claim"},
		"no project":         {roles("a"), "", nil, "jwt_claim"},
		"project a number":   {doc{"tenant": doc{"id": 1}}, "", nil, "jwt_claim"},
		"project with comma": {doc{"tenant": doc{"id": "a,b"}}, "", nil, "jwt_claim"},
		"project empty":      {doc{"tenant": doc{"id": ""}}, "", nil, "jwt_claim"},
		"tenant a string":    {doc{"tenant": "id"}, "", nil, "jwt_claim"},
	} {
		t.Run(name, func(t *testing.T) {
			caller, refusal := j.Identify(withBearer(signedBy(k.rsa, goodHeader(), goodPayload().but(test.changes))), stranger)
			if test.code != "" {
				if refusal == nil || refusal.Code != test.code || refusal.Reason != decision.IdentityInvalid {
					t.Errorf("%+v, %v, want %s", caller, refusal, test.code)
				}
				return
			}
			if refusal != nil {
				t.Fatal(refusal)
			}
			if caller.ProjectID != test.project || !reflect.DeepEqual(caller.Roles, test.roles) {
				t.Errorf("%+v", caller)
			}
		})
	}
}

// What `target claim` names is seen without being listed again.
func TestJWTTarget(t *testing.T) {
	j := newJWT(t, allKeys(), func(j *JWT) {
		j.Target = &TargetRule{By: targetByClaim, Claim: "vm.id", ProjectClaim: "vm.project"}
	})
	token := signedBy(testKeys().rsa, goodHeader(), goodPayload().but(doc{"vm": doc{"id": instanceA, "project": tenantA}}))
	caller := identified(t, j, token)
	target, ok := j.TargetRule().Find(withBearer(token), stranger, caller)
	if !ok || target.InstanceID != instanceA || target.ProjectID != tenantA {
		t.Errorf("%+v, %t", target, ok)
	}
	caller = identified(t, j, signedBy(testKeys().rsa, goodHeader(), goodPayload()))
	if target, ok := j.TargetRule().Find(withBearer(token), stranger, caller); ok {
		t.Errorf("a token without the claim has target %+v", target)
	}
}
