// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// learned says of each part what a policy learns of it, beside what another does.
func learned(p, beside *Policy) string {
	words := wordsOf(p)
	if beside != nil {
		for part, word := range wordsOf(beside) {
			if words[part] == word {
				delete(words, part)
			}
		}
	}
	var lines []string
	for _, part := range slices.Sorted(maps.Keys(words)) {
		lines = append(lines, part+words[part])
	}
	return strings.Join(lines, ", ")
}

func wordsOf(p *Policy) map[string]string {
	words := map[string]string{}
	for part, reading := range readSetOf(p.compiler) {
		if _, other := otherParts[part]; reading.all || other {
			words[part] = ""
			continue
		}
		var with []string
		for _, text := range sortedKeys(reading.texts) {
			with = append(with, strconv.Quote(text))
		}
		with = slices.Concat(with, sortedKeys(reading.parts), sortedKeys(reading.tables))
		words[part] = fmt.Sprint(with)
	}
	return words
}

// What the built-in policy needs of an input: no path, no header, nothing that differs with
// every request, and of who calls and what is called no more than whether they are the
// same, and in the grants.
func TestBuiltinReads(t *testing.T) {
	p, err := Load(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `caller.address["" target.address], ` +
		`caller.id["" data.metaguard.grants.caller_id], ` +
		`caller.instance_id["" target.instance_id data.metaguard.grants.instance_id], ` +
		`caller.project_id["" target.project_id data.metaguard.grants.project_id], ` +
		`caller.roles, caller.source["" "anonymous"], request.body, request.method, resource.action, resource.kind, session.valid, ` +
		`target.address["" caller.address], target.instance_id["" caller.instance_id], target.project_id["" caller.project_id]`
	if got := learned(p, nil); got != want {
		t.Errorf("the built-in policy learns\n%s, want\n%s", got, want)
	}
}

// What a policy learns of an input is found whatever way its rules take to it.
func TestReadSet(t *testing.T) {
	builtin, err := Load(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	const (
		request = "request.headers, request.host, request.id, request.path, request.protocol, request.query, request.segments"
		session = "session.age_seconds, session.present"
		caller  = "caller.address, caller.claims, caller.id, caller.instance_id, caller.process, caller.project_id, caller.source"
		every   = caller + ", " + request + ", resource.dialect, resource.key, resource.sensitive, resource.version, " + session +
			", target.address, target.instance_id, target.project_id, version"
	)
	for name, tt := range map[string]struct{ rules, want string }{
		"what the built-in policy reads too":    {`allow contains "x" if input.request.method == "GET"`, ""},
		"equal to a text":                       {`allow contains "x" if input.request.id == "x"`, `request.id["x"]`},
		"by brackets":                           {`allow contains "x" if input["request"]["id"] != "x"`, `request.id["x"]`},
		"equal to another":                      {`allow contains "x" if input.request.path == input.request.host`, `request.host[request.path], request.path[request.host]`},
		"unified":                               {`allow contains "x" if "x" = input.request.host`, `request.host["x"]`},
		"by variables":                          {"allow contains \"x\" if {\na := input.request.id\nb := a\nb != \"x\"\na == \"y\"\n}", `request.id["x" "y"]`},
		"by a variable of two":                  {"allow contains \"x\" if {\nsome a\na = input.request.id\na = input.request.host\na != \"x\"\n}", `request.host["x" request.id], request.id["x" request.host]`},
		"as a name in data":                     {`allow contains "x" if data.lists.ids[input.request.id]`, `request.id[data.lists.ids]`},
		"as a name in data, negated":            {`allow contains "x" if not data.lists.ids[input.request.id]`, `request.id[data.lists.ids]`},
		"as a name of what holds more":          {`allow contains "x" if data.lists[input.request.id].x`, `request.id[data.lists]`},
		"beside the names in data":              {"allow contains \"x\" if {\nsome name\ndata.lists.ids[name]\nname != input.request.id\n}", `request.id[data.lists.ids]`},
		"another, with one in its place":        {"_g if input.request.path == input.request.host\nallow contains \"x\" if _g with input.request.path as \"x\"", "request.host, request.path"},
		"one in its place where it is compared": {`allow contains "x" if input.request.path == input.request.host with input.request.path as "x"`, "request.host, request.path"},
		"ordered":                               {`allow contains "x" if input.request.id < "x"`, "request.id"},
		"in a set":                              {`allow contains "x" if input.request.id in {"x"}`, "request.id"},
		"in an array":                           {`allow contains "x" if [input.request.id] == ["x"]`, "request.id"},
		"as a key":                              {`allow contains "x" if {input.request.id: 1} == {"x": 1}`, "request.id"},
		"in another place of data":              {`allow contains "x" if data.lists.ids[_][input.request.id]`, "request.id"},
		"as a name in all of data":              {`allow contains "x" if data.lists.ids[data[input.request.id].x]`, "request.id"},
		"as a name of a rule":                   {"_of := {\"x\": 1}\nallow contains \"x\" if _of[input.request.id]", "request.id"},
		"as a name below a rule":                {"_of := {\"in\": {\"x\": 1}}\nallow contains \"x\" if _of[\"in\"][input.request.id]", "request.id"},
		"of a set that is a rule":               {"_of contains \"x\"\nallow contains \"x\" if _of[input.request.id]", "request.id"},
		"equal to what a rule gives":            {"_of := \"x\"\nallow contains \"x\" if input.request.id == _of", "request.id"},
		"equal to data":                         {`allow contains "x" if input.request.id == data.lists.ids.a`, "request.id"},
		"equal to what data has":                {"allow contains \"x\" if {\nsome v in data.lists.ids\nv == input.request.id\n}", "request.id"},
		"equal to a part of another kind":       {`allow contains "x" if input.request.id == input.caller.address`, "caller.address, request.id"},
		"equal to what is no text of the input": {`allow contains "x" if input.request.id == input.caller.claims.x`, "caller.claims, request.id"},
		"an address":                            {`allow contains "x" if input.target.address != "10.0.0.1"`, `target.address["" "10.0.0.1" caller.address]`},
		"an address in data":                    {`allow contains "x" if data.lists.ids[input.target.address]`, `target.address["" caller.address data.lists.ids]`},
		"as a condition":                        {`allow contains "x" if input.request.id`, "request.id"},
		"what data is replaced":                 {"_g if data.lists.ids.a\nallow contains \"x\" if {\n_g with data.lists.ids as {}\ninput.request.id == \"x\"\n}", "caller.address, caller.id, caller.instance_id, caller.project_id, caller.source, request.id, target.address, target.instance_id, target.project_id"},
		"what functions are replaced":           {"_eq(_, _) := true\nallow contains \"x\" if {\ncount([]) == 1 with count as 1\ninput.request.id == \"x\"\n}", "caller.address, caller.id, caller.instance_id, caller.project_id, caller.source, request.id, target.address, target.instance_id, target.project_id"},
		"all of the input is replaced":          {"_g if input.request.id == \"x\"\nallow contains \"x\" if _g with input as {}", every},
		"a known name that is held":             {"allow contains \"x\" if {\nname := \"method\"\ninput.request[name] == \"GET\"\n}", request},
		"a member of the session":               {`allow contains "x" if input.session.valid`, ""},
		"the age":                               {`allow contains "x" if input.session.age_seconds > 3`, "session.age_seconds"},
		"a part of the request":                 {`allow contains "x" if input.request.headers.accept == "x"`, "request.headers"},
		"the whole request":                     {`allow contains "x" if count(input.request) > 3`, request},
		"the whole session":                     {`allow contains "x" if count(input.session) > 3`, session},
		"the whole input":                       {`allow contains "x" if contains(json.marshal(input), "x")`, every},
		"walk":                                  {"allow contains \"x\" if {\nwalk(input, [_, value])\nvalue == \"x\"\n}", every},
		"every member":                          {"allow contains \"x\" if {\nsome value in input.request\nvalue == \"x\"\n}", request},
		"a name found in evaluation":            {"allow contains \"x\" if {\nsome part, name\ninput[part][name] == \"x\"\n}", every},
		"a name of one known part":              {"allow contains \"x\" if {\nsome name\ninput.session[name] == 7\n}", session},
		"a variable that holds a part":          {"allow contains \"x\" if {\npart := input.request\npart.id == \"x\"\n}", request},
		"a helper's argument":                   {"_is(r) if r.id == \"x\"\nallow contains \"x\" if _is(input.request)", request},
		"a helper's argument that is a text":    {"_is(id) if id == \"x\"\nallow contains \"x\" if _is(input.request.id)", "request.id"},
		"an import":                             {"import input.request as asked\nallow contains \"x\" if asked.id == \"x\"", `request.id["x"]`},
		"an import of another part":             {"import input.request as asked\nallow contains \"x\" if asked.method == \"GET\"", ""},
		"object.get with a path":                {`allow contains "x" if object.get(input, ["request", "id"], "") == "x"`, every},
		"in a comprehension":                    {`allow contains "x" if count({c | c := input.request.id}) > 0`, "request.id"},
		"compared in a comprehension":           {`allow contains "x" if count({1 | input.request.id == "x"}) > 0`, `request.id["x"]`},
		"in a head":                             {`allow contains input.request.id`, "request.id"},
		"in a head by a variable":               {"allow contains id if {\nid := input.request.id\nid != \"x\"\n}", "request.id"},
		"in the name of a rule":                 {"_of[input.request.id] := 1\nallow contains \"x\" if _of.x", "request.id"},
		"in the name of a rule, by a variable":  {"_of[id].y := 1 if {\nid := input.request.id\nid != \"\"\n}\nallow contains \"x\" if _of.x.y", "request.id"},
		"in a value":                            {"_of := input.request.id\nallow contains \"x\" if _of == \"x\"", "request.id"},
		"in the value of with":                  {"_g if input.request.path == \"x\"\nallow contains \"x\" if _g with input.request.path as input.request.id", "request.id, request.path"},
		"in the input that with gives":          {"_g if input.request.path == \"x\"\nallow contains \"x\" if _g with input as {\"request\": {\"method\": input.request.id}}", every},
		"in an else":                            {"_g := 1 if input.request.path == \"x\" else := 2 if startswith(input.request.id, \"x\")\nallow contains \"x\" if _g == 2", `request.id, request.path["x"]`},
		"in a default's function":               {"default _f(_) := 1\n_f(x) := 2 if x == input.request.id\nallow contains \"x\" if _f(\"x\") == 2", "request.id"},
		"in every":                              {"allow contains \"x\" if {\nevery m in [\"x\"] { m == input.request.id }\n}", "request.id"},
		"negated":                               {`allow contains "x" if not input.request.id == "x"`, `request.id["x"]`},
		"not reached by the entrypoint":         {"_never if input.request.id == \"x\"\nallow contains \"x\" if input.request.method == \"GET\"", `request.id["x"]`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := learned(withTeam(t, tt.rules), builtin); got != tt.want {
				t.Errorf("learns\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// The parts are all that there is of an input, each once.
func TestPartsAreTheInput(t *testing.T) {
	value, err := InputValue(full())
	if err != nil {
		t.Fatal(err)
	}
	left := maps.Clone(partPaths)
	value.(ast.Object).Foreach(func(outer, below *ast.Term) {
		name := string(outer.Value.(ast.String))
		object, ok := below.Value.(ast.Object)
		if !ok {
			if left[name] == nil {
				t.Errorf("%s is no part", name)
			}
			delete(left, name)
			return
		}
		object.Foreach(func(inner, value *ast.Term) {
			part := name + "." + string(inner.Value.(ast.String))
			if left[part] == nil {
				t.Errorf("%s is no part", part)
			}
			delete(left, part)
			_, isText := textParts[part]
			_, isAddress := addressParts[part]
			if _, ok := value.Value.(ast.String); ok != (isText || isAddress) {
				t.Errorf("%s is a text: %t", part, ok)
			}
		})
	})
	if len(left) > 0 {
		t.Errorf("parts that no input has: %v", left)
	}
	if len(partPaths) != len(textParts)+len(addressParts)+len(otherParts) || len(textParts) > maxCompared || len(addressParts) > maxCompared {
		t.Errorf("%d parts", len(partPaths))
	}
}
