// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// usesOfInput are rules that use an input in every way that is known, each a policy of its
// own.
var usesOfInput = map[string]string{
	"array path":        `codes contains "x" if data.d.objs["0"][input.caller.id] == true`,
	"array path 2":      `codes contains "x" if { v := data.d.objs["0"]["tbl"][input.caller.id]; v != 99 }`,
	"array path not":    `codes contains "x" if not data.d.objs["0"].tbl[input.caller.id]`,
	"array iterate":     "codes contains \"x\" if {\nsome x\ndata.d.objs[\"0\"].tbl[x] == true\nx == input.caller.id\n}",
	"array in table":    `codes contains "x" if data.big.arr["0"][input.caller.id] == true`,
	"head ref input":    "h[input.caller.id] := 1\ncodes contains \"x\" if h.a",
	"head ref input 2":  "h[input.caller.id].z := 1\ncodes contains \"x\" if h.a.z\ncodes contains \"y\" if h[input.target.instance_id].z",
	"constants":         "k := {\"u1\": 1}\nk2 := \"u1\"\nk3 contains \"u1\"\nk4[\"u1\"] := 2\nk5 := data.d.tbl\nk6 if data.d.tbl.a\nk7 := {x | some x; data.d.tbl[x]}\nk8[x] := 1 if some x in [\"u1\", \"a\"]\ncodes contains \"a\" if k[input.caller.id]\ncodes contains \"b\" if k2 == input.target.instance_id\ncodes contains \"c\" if k3[input.caller.id]\ncodes contains \"d\" if k4[input.caller.instance_id] == 2\ncodes contains \"e\" if { k5[input.caller.id]; k6 }\ncodes contains \"f\" if input.caller.id in k7\ncodes contains \"g\" if k8[input.target.instance_id]\ncodes contains \"h\" if k6 with data.d.tbl as {}\ncodes contains \"i\" if k2 == input.caller.id with input.caller.id as \"a\"",
	"mock neq":          "e2(x, _) := true if { x == \"u1\" }\ne3(_, x) := x == \"u2\"\na1 if input.caller.id != \"a\"\na2 if input.target.instance_id != input.caller.id\ncodes contains \"x\" if a1 with neq as e2\ncodes contains \"y\" if a2 with neq as e3",
	"mock deep":         "a1 if data.d.tbl[input.caller.id]\na2 if a1 with data.d.tbl.u1 as 1\ncodes contains \"x\" if a2",
	"head ref set":      "h[input.caller.id] contains 1\ncodes contains \"x\" if 1 in h.a",
	"else chain":        "g := 1 if input.caller.id == \"a\" else := 2 if input.caller.id == input.target.instance_id else := 3 if data.d.tbl[input.caller.instance_id]\ncodes contains \"x\" if g == 2\ncodes contains \"y\" if g == 3",
	"nested with":       "a1 if input.caller.id == input.target.instance_id\nb1 if a1 with input.target.instance_id as input.caller.instance_id\nc1 if b1 with input.caller.id as \"u1\"\ncodes contains \"x\" if c1\ncodes contains \"y\" if b1\ncodes contains \"z\" if b1 with input.caller.instance_id as \"u2\"",
	"nested with 3":     "a1 if { x := input.caller.id; x == input.target.instance_id }\na2 if { input.target.instance_id == input.caller.instance_id }\nb1 if { a1; a2 }\ncodes contains \"x\" if b1 with input.caller.id as \"u1\"\ncodes contains \"y\" if not b1 with input.caller.instance_id as \"u1\"",
	"with parent":       "a1 if input.caller.id == input.target.instance_id\ncodes contains \"x\" if a1 with input.caller as {\"id\": \"u1\"}",
	"with own":          "codes contains \"x\" if input.caller.id == input.target.instance_id with input.target.instance_id as \"u1\"\ncodes contains \"y\" if { x := input.caller.id with input.caller.id as \"u2\"; x == input.target.instance_id }",
	"with chain":        "a1 if input.caller.id == input.target.instance_id\na2 if a1 with input.caller.id as input.caller.instance_id\ncodes contains \"x\" if a2\ncodes contains \"y\" if a2 with input.target.instance_id as input.caller.id",
	"with twice":        "a1 if input.caller.id == input.target.instance_id\ncodes contains \"x\" if a1 with input.caller.id as input.target.instance_id with input.target.instance_id as input.caller.id",
	"not body":          "codes contains \"x\" if not { input.caller.id == input.target.instance_id; data.d.tbl[input.caller.id] }",
	"and or":            "codes contains \"x\" if { input.caller.id == \"a\" } or { input.caller.id == input.target.instance_id }\ncodes contains \"y\" if { data.d.tbl[input.caller.id] } and { input.caller.instance_id != input.target.instance_id }",
	"or in or":          "codes contains \"x\" if { x := input.caller.id; x == \"a\" or x == input.target.instance_id }",
	"iterate ne":        "codes contains \"x\" if {\nsome k\ndata.d.tbl[k]\nk != input.caller.id\nk == input.target.instance_id\n}",
	"iterate two":       "codes contains \"x\" if {\nsome k, l\ndata.d.tbl[k]\ndata.d.same[l]\nk == l\nl != input.caller.id\nk == input.target.instance_id\n}",
	"every":             "codes contains \"x\" if every k, v in data.d.tbl { k != input.caller.id; v != 99 }",
	"comprehension":     "codes contains \"x\" if count({1 | some k; data.d.tbl[k]; k != input.caller.id}) == 1\ncodes contains \"y\" if count([1 | some k; data.d.tbl[k]; k != input.caller.id]) == 1",
	"default function":  "default f(_) := false\nf(x) := true if x == input.caller.id\ncodes contains \"x\" if f(\"u1\")\ncodes contains \"y\" if f(input.target.instance_id)",
	"three":             "codes contains \"x\" if {\nx := input.caller.id\ny := input.caller.instance_id\nz := input.target.instance_id\nx == y\ny != z\n}\ncodes contains \"y\" if {\nsome x\nx = input.caller.id\nx = input.target.instance_id\n}",
	"big":               "codes contains \"x\" if data.big[input.caller.id]\ncodes contains \"y\" if not data.big[input.target.instance_id].x\ncodes contains \"z\" if { some k; data.big[k].x == 1; k == input.caller.id }",
	"null":              "codes contains \"x\" if data.d.tbl[input.caller.id] == null\ncodes contains \"y\" if not is_null(data.d.tbl[input.caller.id])",
	"merged":            "codes contains \"x\" if data.metaguard.base[input.caller.id]",
	"merged 2":          "a.b.c := 1\ncodes contains \"y\" if data.metaguard.a.b[input.caller.id]\ncodes contains \"z\" if data.metaguard.a.z[input.caller.id]\ncodes contains \"w\" if data.metaguard.a[input.caller.id]",
	"general refs":      "q[x].w := 1 if x := input.caller.id\nq[y].v := 2 if { some y; data.d.tbl[y]; y != input.target.instance_id }\ncodes contains \"x\" if q[input.target.instance_id].w\ncodes contains \"y\" if q.a.v\ncodes contains \"z\" if q[\"\"].v",
	"object equality":   "codes contains \"x\" if {\"a\": input.caller.id} == {\"a\": input.target.instance_id}\ncodes contains \"y\" if input.caller != {}\ncodes contains \"z\" if input.target == {\"address\": \"10.0.0.5\", \"instance_id\": \"u1\", \"project_id\": \"\"}",
	"destructuring":     "codes contains \"x\" if { [a, b] := [input.caller.id, input.target.instance_id]; a == b }\ncodes contains \"y\" if { {\"k\": a} = {\"k\": input.caller.id}; a == \"u1\" }",
	"template":          "codes contains \"x\" if $\"{input.caller.id}\" == \"u1\"",
	"session probes":    "codes contains \"x\" if count(input.session) == 3\ncodes contains \"y\" if a1 with input.session.valid as true\na1 if input.session.valid\ncodes contains \"z\" if input.session.valid",
	"with absent":       "a1 if input.request.body.size == 3\ncodes contains \"x\" if a1 with input.request.body as {\"size\": 3}\ncodes contains \"y\" if a2 with input.request.headers.x as \"1\"\na2 if count(input.request.headers) == 1",
	"mock equal":        "e2(x, y) := true if { x; y }\ncodes contains \"x\" if a1 with equal as e2\na1 if equal(input.caller.id, \"a\")\ncodes contains \"y\" if input.caller.id == input.target.instance_id",
	"mock data":         "a1 if data.d.tbl[input.caller.id]\ncodes contains \"x\" if a1 with data.d.tbl as {\"u1\": 1}",
	"mock function":     "f(x) := 1 if x == input.caller.id\ng(_) := 1\ncodes contains \"x\" if a1 with f as g\na1 if f(\"u1\")",
	"bool var":          "codes contains \"x\" if { x := input.caller.id == input.target.instance_id; x }\ncodes contains \"y\" if { equal(input.caller.id, \"u1\") }\ncodes contains \"z\" if { not neq(input.caller.id, \"u1\") }",
	"import alias":      "codes contains \"x\" if who.id == \"u1\"\ncodes contains \"y\" if tb[who.id]\ncodes contains \"z\" if tb[cid]\ncodes contains \"w\" if cid == target.instance_id",
	"text in leaked":    "codes contains x if { x := input.caller.id; x != \"\" }",
	"leak by table":     "codes contains x if { some x; data.d.leak[x]; x == input.caller.id }\ncodes contains x if { some y; x := data.d.leak[y]; y == input.target.instance_id }",
	"conflict":          "g := 1 if input.caller.id == \"u1\"\ng := 2 if input.caller.id == input.target.instance_id\ncodes contains \"x\" if g == 1",
	"address":           "codes contains \"x\" if input.caller.address == \"10.0.0.5\"\ncodes contains \"y\" if input.caller.address == input.target.address\ncodes contains \"z\" if input.caller.address == \"::ffff:10.0.0.5\"\ncodes contains \"w\" if input.target.address == \"::FFFF:10.0.0.5\"\ncodes contains \"v\" if input.target.address == \"\"\ncodes contains \"u\" if input.caller.address == \"fe80::1%a%b\"\ncodes contains \"t\" if input.caller.address == \"::ffff:10.0.0.5%z\"",
	"address text":      "codes contains \"x\" if input.caller.address == input.caller.id\ncodes contains \"y\" if data.d.tbl[input.caller.address]\ncodes contains \"z\" if input.target.address == input.caller.address",
	"address in data":   "codes contains \"x\" if data.d.addresses[input.target.address]",
	"below a rule":      "k := {\"in\": {\"a\": 1, \"u1\": 2}}\ncodes contains \"x\" if k[\"in\"][input.caller.id] == 1",
	"walk":              "codes contains \"x\" if { walk(input, [_, \"u1\"]) }\ncodes contains \"y\" if contains(json.marshal(input.target), \"u2\")",
	"input iteration":   "codes contains \"x\" if { some k; input[k].id == \"u1\" }\ncodes contains \"y\" if { some k; input[k].instance_id == input.caller.id }\ncodes contains \"z\" if { some k; input.target[k] == \"u2\" }",
	"input iteration 2": "codes contains \"x\" if count([k | some k; input[k].id]) == 2\ncodes contains k if some k, _ in input\ncodes contains k if { some k; input[k].instance_id }",
}

// usesOfInputData is what they look into.
const usesOfInputData = `{
	"d": {
		"tbl": {"a": true, "0": "b", "": "c", "b": false, "u2": null, "in": {"a": 1}}, "arr": ["a", "b"],
		"objs": [{"a": true, "u1": true, "tbl": {"u1": true}}], "leak": {"u1": "x1", "a": "x2"}, "same": {"a": "a", "u1": "b", "": 0},
		"addresses": {"10.0.0.5": 1}
	},
	"metaguard": {"base": {"u1": 1}, "a": {"z": {"u1": 1}}},
	"big": {"a": {"x": 1}, "arr": [{"u1": true}], "u1": {"x": 1}`

// manyInputs differ in few parts, in all ways.
func manyInputs(t *testing.T) (all []*decision.Input) {
	texts := []string{"", "a", "0", "u1", "u2", "10.0.0.5"}
	addresses := []netip.Addr{{}}
	for _, text := range []string{"10.0.0.5", "::ffff:10.0.0.5", "fe80::1%a%b", "::ffff:10.0.0.5%z"} {
		address, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, address)
	}
	for i, id := range texts {
		for j, caller := range texts {
			for k, target := range texts {
				in := instance(decision.KindMetadata, decision.Read)
				in.Caller.ID, in.Caller.InstanceID, in.Target.InstanceID, in.Target.ProjectID = id, caller, target, ""
				in.Caller.Address, in.Target.Address = addresses[(i+2*j)%len(addresses)], addresses[(k+j)%len(addresses)]
				in.Session.Valid = (i+j+k)%2 == 0
				if j%2 == 0 {
					in.Request.Body = &decision.Body{Size: k}
				}
				all = append(all, in)
			}
		}
	}
	return all
}

// Whoever asks first, the cache says what an evaluation of the whole input does.
func TestUsesOfInput(t *testing.T) {
	inputs := manyInputs(t)
	for name, rules := range usesOfInput {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "package metaguard\nimport future.keywords.and\nimport future.keywords.or\nimport future.keywords.not\n"
			if name == "import alias" {
				text += "import input.caller as who\nimport input.caller.id as cid\nimport data.d.tbl as tb\nimport input.target\n"
			}
			text += rules + "\ncodes contains \"sensitive\" if input.resource.sensitive\ndecision := {\"allow\": true, \"reasons\": [\"a\"], \"redact\": {\"keys\": sort(codes)}}\n"
			s, err := Config{Timeout: 1 << 40}.check()
			if err != nil {
				t.Fatal(err)
			}
			named := func(name, text string) file { return file{name: name, rel: name, bytes: []byte(text)} }
			p, err := s.compile(t.Context(), &source{files: []file{named("p.rego", text), named("d.json", usesOfInputData+others(1100)+"}}")}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, reversed := range []bool{false, true} {
				order := slices.Clone(inputs)
				if reversed {
					slices.Reverse(order)
				}
				e := &Engine{settings: s}
				p.verdicts.Store(newVerdicts(p.verdicts.Load().cache.anew()))
				for _, in := range order {
					got, want := e.decideCached(context.Background(), p, in), judgeWhole(t, p, in)
					if !sameVerdict(&got, &want) {
						t.Fatalf("cached (%t): %+v\nevaluated: %+v\n%v", got.Cached, got, want, got.Input())
					}
				}
				if e.cacheMisses.Load() == 0 {
					t.Error("nothing was evaluated")
				}
			}
		})
	}
}

// judgeWhole evaluates a policy about all of an input, also what its rules do not read, and
// with no constants.
func judgeWhole(t interface{ Fatal(...any) }, p *Policy, in *decision.Input) Result {
	value, err := InputValue(in)
	if err != nil {
		t.Fatal(err)
	}
	return p.Judge(context.Background(), Query{Input: value, Tracer: newRuleTracer(nil)})
}

// sameVerdict compares all that a verdict says.
func sameVerdict(a, b *Result) bool {
	if a.Output == nil || b.Output == nil {
		return a.Output == nil && b.Output == nil && a.Reason == b.Reason
	}
	return a.Reason == b.Reason && identical(a.Output, b.Output) && a.Decision.Allow == b.Decision.Allow && a.Decision.Status == b.Decision.Status &&
		slices.Equal(a.Decision.Reasons, b.Decision.Reasons) && slices.Equal(a.Decision.Redact.Keys, b.Decision.Redact.Keys) && slices.Equal(a.Rules, b.Rules)
}
