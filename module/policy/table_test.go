// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// largeGrants are so many grants of instances that they are a table, a line each, and then
// further members.
func largeGrants(more string) string {
	var text strings.Builder
	text.WriteString("{\"metaguard\": {\"grants\": {\"instance_id\": {\n")
	for i := range 2 * tableFrom {
		fmt.Fprintf(&text, "\"i-%d\": [\"password:read\"],\n", i)
	}
	text.WriteString("\"last\": []" + more + "}}}}")
	return text.String()
}

// grantsOf is the table in a policy that was loaded.
func grantsOf(t *testing.T, p *Policy) *tableValues {
	t.Helper()
	grants, ok := p.data.members["metaguard"].(*branch).members["grants"].(*branch).members["instance_id"].(*tableValues)
	if !ok {
		t.Fatal("it is no table")
	}
	return grants
}

// A large object decides as a small one does, and the built-in policy never asks for all
// of it.
func TestLargeGrants(t *testing.T) {
	for name, more := range map[string]string{
		"plain":            "",
		"escaped":          `, "i-\u0061\"": ["password:read"]`,
		"a long value":     `, "long": [` + strings.Repeat(`"metadata:read", `, 1000) + `"metadata:read"]`,
		"different ones":   `, "a": [ "password:read" ], "b":["password:read","metadata:read"] , "c" : [ ]`,
		"more than shared": moreLists(),
	} {
		t.Run(name, func(t *testing.T) {
			p := engine(t, Config{Paths: []string{dir(t, files{"data.json": largeGrants(more)})}}).Policy()
			for id, allow := range map[string]bool{
				"i-0": true, fmt.Sprintf("i-%d", 2*tableFrom-1): true, "last": false, "nobody": false, "": false, `i-0": ["password:read`: false,
				`i-a"`: name == "escaped", "long": false, "a": name == "different ones", "b": name == "different ones", "c": false,
				"list-999": name == "more than shared",
			} {
				in := instance(decision.KindPassword, decision.Read)
				in.Caller.InstanceID, in.Caller.ID, in.Target.InstanceID = id, "instance:"+id, id
				if r := p.Decide(t.Context(), in); r.Decision.Allow != allow {
					t.Errorf("%q: %+v", id, r)
				}
			}
			if grants := grantsOf(t, p); grants.all.value != nil {
				t.Error("all grants were made values of OPA")
			}
		})
	}
}

// moreLists are more lists, each another text, than are kept by their text.
func moreLists() string {
	var text strings.Builder
	for i := range 2 * maxSharedValues {
		fmt.Fprintf(&text, ",\n\"list-%d\": [\"password:read\"%s]", i, strings.Repeat(" ", i%300))
		fmt.Fprintf(&text, ",\n\"nested-%d\": [\"password:read\",%s \"metadata:read\"]", i, strings.Repeat("\n", i%300))
	}
	return text.String()
}

// What is wrong in a large object is found, with its place.
func TestLargeGrantsThatAreWrong(t *testing.T) {
	line := 2*tableFrom + 3
	for name, test := range map[string]struct {
		more, other string
		want        Finding
	}{
		"name twice":        {",\n\"i-7\": []", "", Finding{Line: line, Code: CodeDataInvalid}},
		"name twice inside": {",\n\"x\": {\"a\": 1, \"b\": 1,\n\"a\": 2}", "", Finding{Line: line + 1, Code: CodeDataInvalid}},
		"no such grant":     {",\n\"x\": [\"passwords:read\"]", "", Finding{Line: line, Code: CodeGrantInvalid}},
		"not a list":        {",\n\"x\": true", "", Finding{Line: line, Code: CodeGrantInvalid}},
		"no value":          {",\n\"x\": ,\n\"y\": 1", "", Finding{Line: line, Code: CodeDataInvalid}},
		"no colon":          {",\n\"x\" 1", "", Finding{Line: line, Code: CodeDataInvalid}},
		"no name":           {",\n1: 1", "", Finding{Line: line, Code: CodeDataInvalid}},
		"not UTF-8":         {",\n\"x\xff\": 1", "", Finding{Line: line, Code: CodeDataInvalid}},
		"in two files":      {"", `{"metaguard": {"grants": {"instance_id": {"last": []}}}}`, Finding{Line: 1, Code: CodeDataConflict}},
		"a value there":     {"", `{"metaguard": {"grants": {"instance_id": {"i-7": {"x": 1}}}}}`, Finding{Line: 1, Code: CodeDataConflict}},
	} {
		t.Run(name, func(t *testing.T) {
			content := files{"a.json": largeGrants(test.more)}
			if test.other != "" {
				content["b.json"] = test.other
			}
			_, err := New(t.Context(), Config{Paths: []string{dir(t, content)}})
			found := findingsOf(t, err)
			for _, f := range found {
				if f.Line == test.want.Line && f.Code == test.want.Code {
					return
				}
			}
			t.Errorf("%+v, want %+v", found, test.want)
		})
	}
}

// Two files can each have a part of a large object.
func TestLargeGrantsOfTwoFiles(t *testing.T) {
	root := dir(t, files{"a.json": largeGrants(""), "b.json": `{"metaguard": {"grants": {"instance_id": {"x": ["password:read"]}}}}`})
	p := engine(t, Config{Paths: []string{root}}).Policy()
	for _, id := range []string{"i-1", "x"} {
		in := instance(decision.KindPassword, decision.Read)
		in.Caller.InstanceID, in.Target.InstanceID = id, id
		if r := p.Decide(t.Context(), in); !r.Decision.Allow {
			t.Errorf("%s: %+v", id, r)
		}
	}
}

// What another file adds to one member is that member's alone.
func TestLargeDataOfTwoFiles(t *testing.T) {
	var hosts strings.Builder
	for i := range 2 * tableFrom {
		fmt.Fprintf(&hosts, "\"h%d\": {\"owner\": \"x\"},\n", i)
	}
	root := dir(t, files{
		"a.json":    "{\"hosts\": {" + hosts.String() + "\"last\": {}}}",
		"b.json":    `{"hosts": {"h7": {"admin": true}}}`,
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if data.hosts[input.caller.id].admin\n",
	})
	p := engine(t, Config{Paths: []string{root}}).Policy()
	data, err := p.Data()
	if err != nil {
		t.Fatal(err)
	}
	admins := 0
	for _, host := range data["hosts"].(map[string]any) {
		if host.(map[string]any)["admin"] != nil {
			admins++
		}
	}
	if admins != 1 {
		t.Errorf("%d of the hosts are administrators", admins)
	}
}

// A large object can be what a whole file holds, by the names of its directories.
func TestLargeFile(t *testing.T) {
	text := largeGrants("")
	text = strings.TrimSuffix(strings.TrimPrefix(text, `{"metaguard": {"grants": {"instance_id": `), "}}}")
	root := dir(t, files{"metaguard/grants/instance_id/data.json": text})
	grantsOf(t, engine(t, Config{Paths: []string{root}}).Policy())
}

// What a rule asks for as a whole is made so when the policy is loaded, and nothing else.
func TestMakeWhole(t *testing.T) {
	for rule, whole := range map[string]bool{
		`count(data.metaguard.grants.instance_id) > 9999`:                                true,
		`some id; data.metaguard.grants.instance_id[id][_] == "x"`:                       true,
		`some id, list in data.metaguard.grants.instance_id; list == [id]`:               true,
		`every id, list in data.metaguard.grants.instance_id { list == [id] }`:           true,
		`count({id | data.metaguard.grants.instance_id[id]}) > 9999`:                     true,
		`"x" in [data.metaguard.grants.instance_id[id] | some id in input.caller.roles]`: false,
		`object.get(data.metaguard.grants, ["instance_id", "x"], []) == ["x"]`:           true,
		`_all(data.metaguard.grants.instance_id)`:                                        true,
		`data.metaguard.grants.instance_id[input.caller.id][0] == "x"`:                   false,
		`id := input.caller.id; not data.metaguard.grants.instance_id[id]`:               false,
		`_one(input.caller.id)`: false,
		`some id in input.caller.roles; data.metaguard.grants.instance_id[id]`:               false,
		`some kind in ["instance_id", "role"]; data.metaguard.grants[kind][input.caller.id]`: false,
		`some kind; data.metaguard.grants[kind][input.caller.id]`:                            true,
		`some kind in ["instance_id", "role"]; count(data.metaguard.grants[kind]) > 9999`:    true,
		`data.metaguard.grants.instance_id["x"][0] == "x"`:                                   false,
		`input.caller.id == "x" with data.metaguard.grants.instance_id as {}`:                false,
		`walk(data.metaguard.grants, [path, "x"]); path == []`:                               true,
	} {
		t.Run(rule, func(t *testing.T) {
			root := dir(t, files{"a.json": largeGrants(""), "team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n\tinput.request.path == \"/nowhere\"\n\t" + rule +
				"\n}\n\n_all(grants) if count(grants) == 9999\n\n_one(id) if data.metaguard.grants.instance_id[id][0] == \"x\"\n"})
			p := engine(t, Config{Paths: []string{root}}).Policy()
			if made := grantsOf(t, p).all.value != nil; made != whole {
				t.Errorf("all of it was made a value: %t, want %t", made, whole)
			}
		})
	}
}

// A rule can go through all of a large object, and the data is what the files say.
func TestAllOfALargeObject(t *testing.T) {
	root := dir(t, files{
		"a.json":    largeGrants(""),
		"team.rego": "package metaguard.team\n\ndeny contains \"many\" if count(data.metaguard.grants.instance_id) > 2000\n\nredact_keys contains name if some name in object.keys(data.metaguard.grants)\n",
	})
	p := engine(t, Config{Paths: []string{root}}).Policy()
	r := p.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	if r.Decision.Allow || len(r.Decision.Reasons) != 1 || r.Decision.Reasons[0] != "many" {
		t.Errorf("%+v", r)
	}
	data, err := p.Data()
	if err != nil {
		t.Fatal(err)
	}
	want := ast.NewObject()
	for i := range 2 * tableFrom {
		want.Insert(ast.StringTerm(fmt.Sprintf("i-%d", i)), ast.ArrayTerm(ast.StringTerm("password:read")))
	}
	want.Insert(ast.StringTerm("last"), ast.ArrayTerm())
	got := ast.MustInterfaceToValue(data["metaguard"].(map[string]any)["grants"].(map[string]any)["instance_id"])
	if got.Compare(want) != 0 || valueOf(grantsOf(t, p)).Compare(want) != 0 {
		t.Error("the data is another one")
	}
}

// What cannot be made, which is a defect of ours, is never taken for undefined.
func TestUnmadeIsNotUndefined(t *testing.T) {
	var all entire
	fails := func(func(string, any)) { panic("broken") }
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("an object that could not be made has a value")
				}
			}()
			all.of(1, new(pace.Pace), fails)
		}()
	}
	broken := newTable([]byte(`{"a": [}`))
	if at, ok := broken.index(places{{1}}, new(pace.Pace)); !ok {
		t.Fatal(at)
	}
	defer func() {
		if recover() == nil {
			t.Error("a value that cannot be read is one")
		}
	}()
	(&tableValues{table: broken}).at("a")
}
