// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// described holds the settings of dialects that know nothing without.
var described = map[string]string{
	"generic": `{"resources": [
		{"kind": "metadata", "pattern": "/v1/metadata"},
		{"kind": "credentials", "pattern": "/v1/credentials/*", "sensitive": true}
	]}`,
}

// dialects gives every dialect that is registered, ready to be asked. What lands
// later is among them.
func dialects(t testing.TB) []dialect.Dialect {
	t.Helper()
	var all []dialect.Dialect
	for _, info := range caddy.GetModules("metaguard.dialects") {
		module := info.New()
		if settings := described[info.ID.Name()]; settings != "" {
			if err := json.Unmarshal([]byte(settings), module); err != nil {
				t.Fatal(err)
			}
			if provisioner, ok := module.(caddy.Provisioner); ok {
				ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
				t.Cleanup(cancel)
				if err := provisioner.Provision(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		d, ok := module.(dialect.Dialect)
		if !ok || len(dialect.Samples(d)) == 0 {
			t.Fatalf("%s is no dialect, or has no samples", info.ID)
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		t.Fatal("there is no dialect")
	}
	return all
}

// sampleInput is a sample as a caller asks for it.
func sampleInput(in decision.Input, source, id, instance, target string, session bool) decision.Input {
	in.Request.ID = "0190a0b0-0000-7000-8000-000000000000"
	if in.Request.Segments == nil {
		in.Request.Segments = []string{}
	}
	if in.Request.Query == nil {
		in.Request.Query = map[string][]string{}
	}
	in.Caller = decision.Caller{Source: source, ID: id, InstanceID: instance, ProjectID: "p-1", Address: sampleAddress, Roles: []string{}, Claims: map[string]any{}}
	in.Target = decision.Target{InstanceID: target, ProjectID: "p-1", Address: sampleAddress}
	if source == "anonymous" {
		in.Caller.ProjectID, in.Target = "", decision.Target{Address: sampleAddress}
	}
	in.Session = decision.Session{Present: session, Valid: session}
	return in
}

// verdicts is the built-in policy's answer by kind and action, the same in every
// dialect: may it be done by the instance itself, by it in a session, by
// another instance (in a session), by nobody whom an identity source knows, by a
// user, and by a user who holds every grant?
var verdicts = map[string]string{
	"listing:read":      "own session       granted",
	"metadata:read":     "own session       granted",
	"network:read":      "own session       granted",
	"userdata:read":     "own session       granted",
	"vendordata:read":   "own session       granted",
	"password:read":     "                  granted",
	"password:write":    "own session       granted",
	"credentials:read":  "    session       granted",
	"token:write":       "own session       granted",
	"health:read":       "own session other user granted",
	"metadata:write":    "",
	"userdata:write":    "",
	"network:write":     "",
	"vendordata:write":  "",
	"credentials:write": "",
	"unknown:read":      "",
	"unknown:write":     "",
}

// statuses are those that the built-in policy gives a refusal itself: where clients
// must be told that there is nothing.
var statuses = map[string]json.Number{"password:read": "200", "unknown:read": "404"}

// The built-in policy, asked for each sample of each dialect. Credentials are
// refused to another instance, to an unidentified caller and to one without a
// session, whatever the server.
func TestVerdictsPerDialect(t *testing.T) {
	var asked []map[string]any
	for _, d := range dialects(t) {
		for _, in := range dialect.Samples(d) {
			for who, document := range map[string]decision.Input{
				"own":       sampleInput(in, "remote_ip", "instance:i-1", "i-1", "i-1", false),
				"session":   sampleInput(in, "remote_ip", "instance:i-1", "i-1", "i-1", true),
				"other":     sampleInput(in, "remote_ip", "instance:i-2", "i-2", "i-1", true),
				"anonymous": sampleInput(in, "anonymous", "anonymous", "", "", true),
				"user":      sampleInput(in, "keystone", "user:ann", "", "i-1", true),
				"granted":   sampleInput(in, "keystone", "user:root", "", "i-1", false),
			} {
				asked = append(asked, map[string]any{"who": who, "input": roundTrip(t, document)})
			}
		}
	}
	wrong := matches(t, "input")
	definitions := schema(t, "data").(map[string]any)["definitions"].(map[string]any)
	grants := definitions["grant"].(map[string]any)["enum"]
	results := eval(t, nil, `some one in data.asked
		decision := data.metaguard.decision with input as one.input`, withData(map[string]any{
		"asked":     asked,
		"metaguard": map[string]any{"grants": map[string]any{"caller_id": map[string]any{"user:root": grants}}},
	}))
	if len(results) != len(asked) {
		t.Fatalf("%d answers to %d questions", len(results), len(asked))
	}
	seen := map[string]bool{}
	for _, result := range results {
		one := result.Bindings["one"].(map[string]any)
		if found := wrong(one["input"]); found != "" {
			t.Fatalf("%v: %s", one["input"], found)
		}
		resource := one["input"].(map[string]any)["resource"].(map[string]any)
		what := resource["kind"].(string) + ":" + resource["action"].(string)
		seen[resource["dialect"].(string)+" "+what] = true
		want, known := verdicts[what]
		if !known {
			t.Errorf("%v: nobody says who may %s", resource, what)
			continue
		}
		answer := result.Bindings["decision"].(map[string]any)
		if expected := slices.Contains(strings.Fields(want), one["who"].(string)); answer["allow"] != expected {
			t.Errorf("%s %v: %v, want %v for %s", what, resource, answer, expected, one["who"])
		}
		status, has := answer["status"]
		if wanted := statuses[what]; has && status != wanted {
			t.Errorf("%v: %v for %s", resource, answer, one["who"])
		}
	}
	for _, d := range dialects(t) {
		if !seen[d.Name()+" unknown:read"] {
			t.Errorf("%s has no sample of what it does not know", d.Name())
		}
	}
	t.Logf("%d questions about %d kinds of requests", len(asked), len(seen))
}

// publicKeys are sensitive since whoever could write them gets in, and since they
// tell who does; the instance's own agent must read them.
var publicKeys = []string{"gce /computeMetadata/v1/instance/attributes/ssh-keys"}

// What else a dialect calls sensitive is of a kind that nobody reads by being the
// instance alone.
func TestSensitiveIsNeverReadByAnyone(t *testing.T) {
	for _, d := range dialects(t) {
		for _, in := range dialect.Samples(d) {
			secret := in.Resource.Kind == decision.KindPassword || in.Resource.Kind == decision.KindCredentials || in.Resource.Kind == decision.KindToken
			if slices.Contains(publicKeys, d.Name()+" "+in.Request.Path) {
				continue
			}
			if in.Resource.Sensitive && !secret || (!in.Resource.Sensitive && secret && in.Resource.Kind != decision.KindToken) {
				t.Errorf("%s %s %s is %s, sensitive is %v", d.Name(), in.Request.Method, in.Request.Path, in.Resource.Kind, in.Resource.Sensitive)
			}
		}
	}
}
