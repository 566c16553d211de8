// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"maps"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// eval compiles the built-in policy with one more module, if any, and runs a query.
func eval(t testing.TB, more map[string]*ast.Module, query string, options ...func(*rego.Rego)) rego.ResultSet {
	t.Helper()
	modules := embedded(t)
	maps.Copy(modules, more)
	compiler := newCompiler(t)
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	options = append(options, rego.Compiler(compiler), rego.Query(query), rego.StrictBuiltinErrors(true))
	results, err := rego.New(options...).Eval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(results) == 0 {
		t.Fatalf("%s is undefined", query)
	}
	return results
}

// judge gives the decision for a request, in Rego, with a team's rules and data.
func judge(t testing.TB, team, data, request string) any {
	t.Helper()
	var more map[string]*ast.Module
	if team != "" {
		more = map[string]*ast.Module{"team.rego": parse(t, "team.rego", "package metaguard.team\n\n"+team+"\n")}
	}
	store := inmem.NewFromObject(document(t, data).(map[string]any))
	results := eval(t, more, "request := "+request+"; decision := data.metaguard.decision with input as request", rego.Store(store))
	return results[0].Bindings["decision"]
}

const (
	ownListing   = `data.metaguard.testing.input_for("openstack", "listing", "read", data.metaguard.testing.instance("i-1", "p-1"))`
	ownMetadata  = `data.metaguard.testing.input_for("openstack", "metadata", "read", data.metaguard.testing.instance("i-1", "p-1"))`
	ownPassword  = `data.metaguard.testing.input_for("openstack", "password", "read", data.metaguard.testing.instance("i-1", "p-1"))`
	ownWrite     = `data.metaguard.testing.input_for("openstack", "password", "write", data.metaguard.testing.instance("i-1", "p-1"))`
	unknownPath  = `data.metaguard.testing.input_for("openstack", "unknown", "read", data.metaguard.testing.instance("i-1", "p-1"))`
	emptyAnswer  = `{"allow": false, "reasons": ["password_read_not_granted"], "status": 200}`
	plainListing = `{"allow": true, "reasons": ["own_instance"], "redact": {"keys": ["admin_pass"]}}`
)

// A team's rules are rules, not the data that the Rego tests put in their place.
func TestTeamRules(t *testing.T) {
	for name, c := range map[string]struct{ team, data, request, want string }{
		"nothing": {request: ownListing, want: plainListing},
		"only a helper": {
			team:    `_x := 1`,
			request: ownListing, want: plainListing,
		},
		"allow an unknown path": {
			team:    `allow contains "new_file" if input.request.path == "/openstack/latest/nothing"`,
			request: unknownPath, want: `{"allow": true, "reasons": ["new_file"], "redact": {"keys": ["admin_pass"]}}`,
		},
		"deny beats the built-in rules and the team's": {
			team:    "allow contains \"yes\"\n\ndeny contains \"no\" if input.resource.kind == \"metadata\"",
			request: ownMetadata, want: `{"allow": false, "reasons": ["no"]}`,
		},
		"deny with a status": {
			team:    "deny contains \"no\" if input.resource.kind == \"metadata\"\n\nstatus := 404",
			request: ownMetadata, want: `{"allow": false, "reasons": ["no"], "status": 404}`,
		},
		"status alone refuses nothing": {
			team:    `status := 404`,
			request: ownListing, want: plainListing,
		},
		"redact": {
			team:    "redact_json contains \"/meta/x\"\n\nredact_keys contains \"random_seed\"\n\nredact_listing contains \"user_data\"",
			request: ownListing,
			want: `{"allow": true, "reasons": ["own_instance"], "redact":
				{"json": ["/meta/x"], "keys": ["admin_pass", "random_seed"], "listing": ["user_data"]}}`,
		},
		// The guard asks for the entries of a listing one by one.
		"entries are no matter of a listing's decision": {
			team:    "deny contains \"no\" if input.resource.kind == \"vendordata\"\n\nallow contains \"open\" if input.resource.key == \"password\"",
			request: ownListing, want: plainListing,
		},
		"no empty answer where the team denies writing": {
			team:    `deny contains "no_writes" if input.request.method == "POST"`,
			request: ownPassword, want: `{"allow": false, "reasons": ["password_read_not_granted"]}`,
		},
		"no empty answer where the team denies writing by action": {
			team:    `deny contains "no_writes" if input.resource.action == "write"`,
			request: ownPassword, want: `{"allow": false, "reasons": ["password_read_not_granted"]}`,
		},
		"an empty answer where the team wants encrypted passwords": {
			team:    "deny contains \"not_encrypted\" if {\n\tinput.resource.action == \"write\"\n\tnot input.request.body.format == \"rsa_base64\"\n}",
			request: ownPassword, want: emptyAnswer,
		},
		"what the team asks of a body": {
			team:    `deny contains "key_too_short" if input.request.body.key_bits < 3072`,
			request: ownWrite, want: `{"allow": false, "reasons": ["key_too_short"]}`,
		},
		"a policy reads what is granted": {
			team:    `deny contains "holds_it" if "password:read" in data.metaguard.granted`,
			data:    `{"metaguard": {"grants": {"project_id": {"p-1": ["password:read"]}}}}`,
			request: ownMetadata, want: `{"allow": false, "reasons": ["holds_it"]}`,
		},
		"a team's own data": {
			team:    `deny contains "listed" if input.caller.instance_id in data.blocked`,
			data:    `{"blocked": ["i-1"]}`,
			request: ownMetadata, want: `{"allow": false, "reasons": ["listed"]}`,
		},
		// What follows is malformed: the guard refuses it.
		"a status that is no number": {
			team:    `status := "404"`,
			request: unknownPath, want: `{"allow": false, "reasons": ["resource_unknown"], "status": "404"}`,
		},
		"a code that is no text": {
			team:    `allow contains 1`,
			request: unknownPath, want: `{"allow": true, "reasons": [1], "redact": {"keys": ["admin_pass"]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.data == "" {
				c.data = "{}"
			}
			got := asText(t, judge(t, c.team, c.data, c.request))
			if want := asText(t, document(t, c.want)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// A rule of another shape than its place wants would deny nothing, in silence.
// It does not compile.
func TestTeamRulesOfAnotherShape(t *testing.T) {
	for _, team := range []string{
		`deny if input.resource.kind == "metadata"`,
		`deny := "no" if input.resource.kind == "metadata"`,
		`allow if input.resource.kind == "unknown"`,
		`redact_keys := "random_seed"`,
	} {
		modules := embedded(t)
		modules["team.rego"] = parse(t, "team.rego", "package metaguard.team\n\n"+team+"\n")
		compiler := newCompiler(t)
		if compiler.Compile(modules); !compiler.Failed() {
			t.Errorf("%s: compiles", team)
		}
	}
}
