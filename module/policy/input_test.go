// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/metaguard/metaguard/module/decision"
)

// viaJSON builds the input by way of its JSON form, which is the contract.
func viaJSON(t testing.TB, in *decision.Input) map[string]any {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	caller := doc["caller"].(map[string]any)
	// A policy never meets null where a list or an object belongs.
	empty := func(object map[string]any, name string, value any) {
		if object[name] == nil {
			object[name] = value
		}
	}
	request := doc["request"].(map[string]any)
	empty(caller, "roles", []any{})
	empty(caller, "claims", map[string]any{})
	if process, ok := caller["process"].(map[string]any); ok {
		empty(process, "group_ids", []any{})
		empty(process, "groups", []any{})
	}
	empty(request, "segments", []any{})
	empty(request, "query", map[string]any{})
	empty(request, "headers", map[string]any{})
	return doc
}

func inputs() map[string]*decision.Input {
	full := instance(decision.KindPassword, decision.Write)
	full.Request.Query = map[string][]string{"recursive": {"true"}, "alt": {"json", "text"}, "none": {}}
	full.Caller.Roles = []string{"windows", "linux"}
	full.Caller.Claims = map[string]any{"sub": "x", "n": json.Number("12"), "deep": map[string]any{"a": []any{true, nil, 1.5}}}
	full.Session = decision.Session{Present: true, Valid: true, AgeSeconds: 100000}
	process, bare := instance(decision.KindMetadata, decision.Read), instance(decision.KindMetadata, decision.Read)
	process.Caller.Process = &decision.Process{
		PID: 4711, UserID: 1000, User: "ann", GroupIDs: []int{1000, 4, 100000}, Groups: []string{"ann", "adm"},
		Executable: "/usr/bin/agent", CommandLineSHA256: strings.Repeat("0a", 32),
		Cgroup: "/system.slice/agent.service", Unit: "agent.service", ContainerID: strings.Repeat("f0", 32),
	}
	bare.Caller.Process = &decision.Process{PID: 1}
	return map[string]*decision.Input{
		"process":  process,
		"bare":     bare,
		"zero":     {},
		"instance": instance(decision.KindMetadata, decision.Read),
		"full":     full,
		"sample":   samples()[2],
	}
}

func TestInputIsItsJSON(t *testing.T) {
	for name, in := range inputs() {
		t.Run(name, func(t *testing.T) {
			got, err := InputValue(in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := ast.InterfaceToValue(viaJSON(t, in))
			if err != nil {
				t.Fatal(err)
			}
			if got.Compare(want) != 0 {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if got.Hash() != want.Hash() {
				t.Error("the hashes differ")
			}
		})
	}
}

// TestInputMatchesItsSchema asks OPA itself.
func TestInputMatchesItsSchema(t *testing.T) {
	schema := schemas().Get(ast.Ref{ast.SchemaRootDocument, ast.StringTerm("input")})
	if schema == nil {
		t.Fatal("there is no input schema")
	}
	for name, in := range inputs() {
		if name == "zero" {
			continue // no caller is nobody
		}
		results, err := rego.New(rego.Query("r := json.match_schema(input.doc, input.schema)"),
			rego.Input(map[string]any{"doc": viaJSON(t, in), "schema": schema})).Eval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r := results[0].Bindings["r"].([]any); r[0] != true {
			t.Errorf("%s: %v", name, r[1])
		}
	}
}

func TestInputWithManyWords(t *testing.T) {
	in := instance(decision.KindMetadata, decision.Read)
	for range 300 {
		in.Request.Segments = append(in.Request.Segments, "a segment of its own")
	}
	got, err := InputValue(in)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := ast.InterfaceToValue(viaJSON(t, in))
	if got.Compare(want) != 0 {
		t.Error("terms were lost")
	}
}

func BenchmarkInput(b *testing.B) {
	in := instance(decision.KindMetadata, decision.Read)
	b.Run("process", func(b *testing.B) {
		b.ReportAllocs()
		in := inputs()["process"]
		for b.Loop() {
			if _, err := InputValue(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("built", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := InputValue(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	// What it would cost without: OPA's own way from a Go value.
	b.Run("reflected", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ast.InterfaceToValue(in); err != nil {
				b.Fatal(err)
			}
		}
	})
}
