// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// BenchmarkDecision is the cost of one decision, as the guard asks for it: a
// prepared query and a parsed input. With "million" there are a million grants,
// which must cost what ten do.
func BenchmarkDecision(b *testing.B) {
	teams := map[string]string{
		"builtin": "",
		"team": `package metaguard.team

deny contains "not_for_linux" if {
	input.resource.kind == "password"
	"linux" in input.caller.roles
}

allow contains "anything" if input.request.path == "/openstack/latest/nothing"
`,
	}
	for _, size := range []struct {
		name   string
		grants int
	}{{"ten", 10}, {"million", 1_000_000}} {
		data := grants(size.grants)
		for _, name := range []string{"builtin", "team"} {
			if size.grants > 10 && name != "builtin" {
				continue
			}
			for request, kind := range map[string]string{
				"metadata": `"metadata", "read"`, "listing": `"listing", "read"`,
				"password_empty": `"password", "read"`, "password_write": `"password", "write"`,
			} {
				b.Run(fmt.Sprintf("%s/%s/%s", size.name, name, request), func(b *testing.B) {
					benchmark(b, teams[name], data, `input_for("openstack", `+kind+`, data.metaguard.testing.instance("i-1", "p-1"))`)
				})
			}
		}
		b.Run(size.name+"/builtin/password_granted", func(b *testing.B) {
			benchmark(b, "", data, `input_for("openstack", "password", "read", data.metaguard.testing.instance("i-1", "p-7"))`)
		})
	}
}

// grants gives n projects the grant to read passwords, p-7 among them and p-1 not.
func grants(n int) map[string]any {
	projects := make(map[string]any, n)
	for i := range n {
		projects[fmt.Sprintf("p-%d", i+2)] = []any{"password:read"}
	}
	return map[string]any{"metaguard": map[string]any{"grants": map[string]any{"project_id": projects}}}
}

func benchmark(b *testing.B, team string, data map[string]any, request string) {
	b.Helper()
	results := eval(b, nil, "request := data.metaguard.testing."+request)
	text, err := json.Marshal(results[0].Bindings["request"])
	if err != nil {
		b.Fatal(err)
	}
	input := ast.MustParseTerm(string(text)).Value

	modules := embedded(b)
	if team != "" {
		modules["team.rego"] = parse(b, "team.rego", team)
	}
	compiler := newCompiler(b)
	if compiler.Compile(modules); compiler.Failed() {
		b.Fatal(compiler.Errors)
	}
	query, err := rego.New(
		rego.Compiler(compiler),
		rego.Store(inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false))),
		rego.Query("data.metaguard.decision"),
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		results, err := query.Eval(ctx, rego.EvalParsedInput(input))
		if err != nil || len(results) != 1 {
			b.Fatal(results, err)
		}
	}
}
