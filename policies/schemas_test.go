// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/metaguard/metaguard/module/decision"
)

// matches returns a function that tells what a schema finds wrong in a document.
func matches(t testing.TB, name string) func(document any) string {
	t.Helper()
	query, err := rego.New(rego.Query("[ok, errors] := json.match_schema(input.document, input.schema)")).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wanted := schema(t, name)
	return func(document any) string {
		input := map[string]any{"document": document, "schema": wanted}
		results, err := query.Eval(t.Context(), rego.EvalInput(input))
		if err != nil || len(results) != 1 {
			t.Fatalf("%v, %v", results, err)
		}
		if results[0].Bindings["ok"] == true {
			return ""
		}
		text, _ := json.Marshal(results[0].Bindings["errors"])
		return string(text)
	}
}

func document(t testing.TB, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

func roundTrip(t testing.TB, value any) map[string]any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return document(t, string(text)).(map[string]any)
}

// fullInput has a value in every field; the type is the guard's own.
func fullInput() decision.Input {
	caller := decision.Caller{
		Source: "remote_ip", ID: "instance:i-1", InstanceID: "i-1", ProjectID: "p-1",
		Address: netip.MustParseAddr("10.0.0.5"),
		Roles:   []string{"windows"}, Claims: map[string]any{"aud": "metadata"},
		Process: &decision.Process{PID: 7, GroupIDs: []int{0}, Groups: []string{"root"}},
	}
	return decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			ID: "id", Method: "POST", Path: "/openstack/latest/password",
			Segments: []string{"openstack", "latest", "password"},
			Query:    map[string][]string{"recursive": {"true"}},
			Host:     "169.254.169.254", Protocol: "HTTP/1.1",
			Headers: map[string]string{"user-agent": "x"},
			Body:    &decision.Body{Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048},
		},
		Caller: caller,
		Target: decision.Target{InstanceID: "i-1", ProjectID: "p-1", Address: caller.Address},
		Resource: decision.Resource{
			Dialect: "openstack", Kind: decision.KindPassword, Version: "latest", Key: "password",
			Action: decision.Write, Sensitive: true,
		},
		Session: decision.Session{Present: true, Valid: true, AgeSeconds: 12},
	}
}

func TestInputSchema(t *testing.T) {
	wrong := matches(t, "input")
	full := fullInput()
	if found := wrong(roundTrip(t, full)); found != "" {
		t.Errorf("the guard's own input is refused: %s", found)
	}
	full.Request.Body, full.Caller.Process = nil, nil
	full.Caller.Address, full.Target.Address = netip.Addr{}, netip.Addr{}
	if found := wrong(roundTrip(t, full)); found != "" {
		t.Errorf("an input without body and address is refused: %s", found)
	}
	for _, kind := range []decision.Kind{
		decision.KindListing, decision.KindMetadata, decision.KindPassword, decision.KindUserdata, decision.KindVendordata,
		decision.KindNetwork, decision.KindCredentials, decision.KindToken, decision.KindHealth, decision.KindUnknown,
	} {
		full.Resource.Kind = kind
		if found := wrong(roundTrip(t, full)); found != "" {
			t.Errorf("kind %s is refused: %s", kind, found)
		}
	}

	// Every object but the open ones refuses a field more, and any a field less.
	for _, path := range []string{"", "request", "request/body", "caller", "caller/process", "target", "resource", "session"} {
		at := func() (input, object map[string]any) {
			input = roundTrip(t, fullInput())
			object = input
			for _, name := range strings.Split(path, "/") {
				if name != "" {
					object = object[name].(map[string]any)
				}
			}
			return input, object
		}
		input, object := at()
		object["surplus"] = "x"
		if wrong(input) == "" {
			t.Errorf("a field more in %q is accepted", path)
		}
		for name := range object {
			input, object := at()
			delete(object, name)
			if name != "surplus" && wrong(input) == "" {
				t.Errorf("%q without %s is accepted", path, name)
			}
		}
	}
	for name, spoil := range map[string]func(*decision.Input){
		"version": func(in *decision.Input) { in.Version = 2 },
		"kind":    func(in *decision.Input) { in.Resource.Kind = "passwords" },
		"action":  func(in *decision.Input) { in.Resource.Action = "delete" },
		"format":  func(in *decision.Input) { in.Request.Body.Format = "rsa" },
		"size":    func(in *decision.Input) { in.Request.Body.Size = -1 },
		"roles":   func(in *decision.Input) { in.Caller.Roles = nil },
	} {
		input := fullInput()
		spoil(&input)
		if wrong(roundTrip(t, input)) == "" {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
}

// What the helpers of package metaguard.testing make is what policies see.
func TestHelpersMakeValidInput(t *testing.T) {
	wrong := matches(t, "input")
	modules := parseDirs(t, "testing")
	compiler := newCompiler(t)
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	results, err := rego.New(rego.Compiler(compiler), rego.Query(`
		some kind in ["listing", "metadata", "password", "userdata", "vendordata", "network", "credentials", "token", "health", "unknown"]
		some action in ["read", "write"]
		some dialect in ["openstack", "generic"]
		some caller in [
			data.metaguard.testing.instance("i-1", "p-1"),
			data.metaguard.testing.instance_with_roles("i-1", "p-1", ["windows"]),
			data.metaguard.testing.user("ann", "p-1", ["admin"]),
			data.metaguard.testing.anonymous,
			data.metaguard.testing.process(1000, "/usr/bin/agent"),
		]
		made := data.metaguard.testing.input_for(dialect, kind, action, caller)
		x := [
			made,
			data.metaguard.testing.about(made, "i-2", "p-2"),
			data.metaguard.testing.at(made, []),
			data.metaguard.testing.with_session(made, 3),
			data.metaguard.testing.with_body(made, "text", 3, 0),
		][_]`)).Eval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := 10 * 2 * 2 * 5 * 5; len(results) != want {
		t.Fatalf("%d inputs, want %d", len(results), want)
	}
	for _, result := range results {
		if found := wrong(result.Bindings["x"]); found != "" {
			t.Fatalf("%v: %s", result.Bindings["x"], found)
		}
	}
}

// What a policy misspells is found when it is compiled, with its place.
func TestInputSchemaFindsTypos(t *testing.T) {
	for body, ok := range map[string]bool{
		`input.caller.instance_id == "x"`:           true,
		`input.request.body.format == "text"`:       true,
		`is_null(input.request.body)`:               true,
		`input.request.headers["user-agent"] == ""`: true,
		`input.caller.claims.sub == "x"`:            true,
		`input.caller.process.user == "root"`:       true,
		`input.caller.process.name == "x"`:          false,
		`"windows" in input.caller.roles`:           true,
		`input.caler.instance_id == "x"`:            false,
		`input.caller.instanceid == "x"`:            false,
		`input.request.body.formt == "text"`:        false,
		`input.request.boddy.format == "text"`:      false,
		`input.resource.knd == "password"`:          false,
		`input.session.age == 3`:                    false,
		`input.target.id == "x"`:                    false,
		`input.resource.sensitive == "true"`:        false,
	} {
		compiler := newCompiler(t)
		modules := embedded(t)
		modules["team.rego"] = parse(t, "team.rego", "package metaguard.team\n\ndeny contains \"no\" if "+body+"\n")
		compiler.Compile(modules)
		if compiler.Failed() == ok {
			t.Errorf("%s: compiles is %v, want %v: %v", body, !compiler.Failed(), ok, compiler.Errors)
		}
		for _, err := range compiler.Errors {
			if err.Location.File != "team.rego" || err.Location.Row != 3 {
				t.Errorf("%s: the error is at %v", body, err.Location)
			}
		}
	}
}

func TestDataSchema(t *testing.T) {
	wrong := matches(t, "data")
	for text, ok := range map[string]bool{
		`{}`:                              true,
		`{"metaguard": {}}`:               true,
		`{"break_glass": {"until": "x"}}`: true,
		`{"metaguard": {"settings": {}}}`: true,
		`{"metaguard": {"settings": []}}`: false,
		`{"metaguard": {"team": {}}}`:     false,
		`{"metaguard": {"decision": {}}}`: false,
		`{"metaguard": {"grants": []}}`:   false,
		`{"metaguard": {"grants": {"project_id": {"p": ["password:read"]}}}}`:                  true,
		`{"metaguard": {"grants": {"role": {"r": ["target:any", "admin_pass:read"]}}}}`:        true,
		`{"metaguard": {"grants": {"instance_id": {"i": []}, "caller_id": {}}}}`:               true,
		`{"metaguard": {"grants": {"project": {"p": ["password:read"]}}}}`:                     false,
		`{"metaguard": {"grants": {"project_id": {"p": ["password_read"]}}}}`:                  false,
		`{"metaguard": {"grants": {"project_id": {"p": ["unknown:read"]}}}}`:                   false,
		`{"metaguard": {"grants": {"project_id": {"p": ["metadata:write"]}}}}`:                 false,
		`{"metaguard": {"grants": {"project_id": {"p": "password:read"}}}}`:                    false,
		`{"metaguard": {"grants": {"project_id": {"p": {"x": "password:read"}}}}}`:             false,
		`{"metaguard": {"grants": {"project_id": {"p": ["password:read", "password:read"]}}}}`: false,
		`{"metaguard": {"grants": {"project_id": {"": ["password:read"]}}}}`:                   false,
	} {
		if found := wrong(document(t, text)); (found == "") != ok {
			t.Errorf("%s: accepted is %v, want %v %s", text, found == "", ok, found)
		}
	}
}

// What the smoke test can say, and nothing more general, can be accepted.
func TestDataSchemaOfAcceptedFindings(t *testing.T) {
	wrong := matches(t, "data")
	accept := func(finding string) any {
		return map[string]any{"metaguard": map[string]any{"settings": map[string]any{"accept": []any{finding}}}}
	}
	definitions := schema(t, "data").(map[string]any)["definitions"].(map[string]any)
	good := []string{
		"unknown:read by other_project", "password:write by anonymous", "health:read by no_project",
		"listing:read by own shows meta_data.json", "metadata:read by own shows /meta/x y",
	}
	for _, name := range definitions["grant"].(map[string]any)["enum"].([]any) {
		good = append(good, "password:read by other_instance without "+name.(string))
	}
	for _, example := range definitions["finding"].(map[string]any)["examples"].([]any) {
		good = append(good, example.(string))
	}
	for _, finding := range good {
		if found := wrong(accept(finding)); found != "" {
			t.Errorf("%q is refused: %s", finding, found)
		}
	}
	for _, finding := range []string{
		"", "password:read", "password:read by", "password:read by all", "passwords:read by own", "password:delete by own", "password:* by own",
		"password:read by own ", " password:read by own", "password:read by own without", "password:read by own without target:all",
		"metadata:read by own shows", "metadata:read by own shows ", "password:read by own, unknown:read by own",
	} {
		if wrong(accept(finding)) == "" {
			t.Errorf("%q is accepted", finding)
		}
	}
	for text, ok := range map[string]bool{
		`{"accept": []}`:                                             true,
		`{"accept": "password:read by own"}`:                         false,
		`{"accept": {"password:read by own": true}}`:                 false,
		`{"accept": [true]}`:                                         false,
		`{"accept": ["unknown:read by own", "unknown:read by own"]}`: false,
		`{"acept": ["unknown:read by own"]}`:                         false,
	} {
		if found := wrong(document(t, `{"metaguard": {"settings": `+text+`}}`)); (found == "") != ok {
			t.Errorf("%s: accepted is %v, want %v %s", text, found == "", ok, found)
		}
	}
}

// Editors show descriptions where a name is typed, so that every one has its own.
func TestSchemasDescribeEverything(t *testing.T) {
	for _, name := range []string{"input", "data", "decision"} {
		properties := 0
		var visit func(path string, value any)
		visit = func(path string, value any) {
			switch value := value.(type) {
			case []any:
				for i, item := range value {
					visit(fmt.Sprintf("%s/%d", path, i), item)
				}
			case map[string]any:
				if value["$id"] != nil {
					t.Errorf("%s%s: has an $id, which tools would try to fetch", name, path)
				}
				for _, group := range []string{"properties", "definitions"} {
					members, _ := value[group].(map[string]any)
					for member, inner := range members {
						properties++
						if text, _ := inner.(map[string]any)["description"].(string); text == "" {
							t.Errorf("%s%s/%s/%s: has no description", name, path, group, member)
						}
					}
				}
				for member, inner := range value {
					visit(path+"/"+member, inner)
				}
			}
		}
		root := schema(t, name).(map[string]any)
		visit("", root)
		if properties < 5 {
			t.Errorf("%s: only %d properties", name, properties)
		}
		if root["$schema"] != "http://json-schema.org/draft-07/schema#" || root["title"] == nil || root["description"] == nil {
			t.Errorf("%s: is no draft-07 schema with a title and a description", name)
		}
	}
}

// The schema knows the grants that the policy knows, and the other way round.
func TestDataSchemaListsEveryGrant(t *testing.T) {
	results := eval(t, nil, `names := {name | some actions in data.metaguard._grants; some name in actions}`)
	want := []string{"admin_pass:read", "target:any", "target:project"}
	for _, name := range results[0].Bindings["names"].([]any) {
		want = append(want, name.(string))
	}
	slices.Sort(want)
	definitions := schema(t, "data").(map[string]any)["definitions"].(map[string]any)
	var got []string
	for _, name := range definitions["grant"].(map[string]any)["enum"].([]any) {
		got = append(got, name.(string))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the schema has %q, the policy %q", got, want)
	}
}

func TestDecisionSchema(t *testing.T) {
	wrong := matches(t, "decision")
	for text, ok := range map[string]bool{
		`{"allow": true}`:  true,
		`{"allow": false}`: true,
		`{"allow": true, "reasons": ["own_instance"]}`:     true,
		`{"allow": false, "status": 404, "reasons": []}`:   true,
		`{"allow": false, "status": 200}`:                  true,
		`{"allow": true, "redact": {"json": ["/a~1b/0"]}}`: true,
		`{"allow": true, "redact": {"json": ["a"]}}`:       false,
		`{"allow": true, "redact": {"headers": ["a"]}}`:    false,
		`{"allow": true, "redact": {"keys": "a"}}`:         false,
		`{"allow": true, "status": 404}`:                   false,
		`{"allow": false, "redact": {}}`:                   false,
		`{"allow": false, "status": 500}`:                  false,
		`{"allow": false, "status": "404"}`:                false,
		`{"allow": "true"}`:                                false,
		`{"Allow": true}`:                                  false,
		`{"allow": true, "reasons": "x"}`:                  false,
		`{"allow": true, "reasons": [1]}`:                  false,
		`{"allow": true, "ttl": 3}`:                        false,
		`{}`:                                               false,
	} {
		if found := wrong(document(t, text)); (found == "") != ok {
			t.Errorf("%s: accepted is %v, want %v %s", text, found == "", ok, found)
		}
	}
}

// asText is a document as text, with its keys in order.
func asText(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
