// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// What a verdict can depend on is found whatever way a rule takes to it.
func TestDependence(t *testing.T) {
	nothing := dependence{}
	id := dependence{requestID: true}
	age := dependence{sessionAge: true}
	both := dependence{requestID: true, sessionAge: true}
	world := dependence{world: true}
	for name, tt := range map[string]struct {
		rules string
		want  dependence
	}{
		"nothing":                         {`allow contains "x" if input.request.method == "GET"`, nothing},
		"another member called id":        {`allow contains "x" if input.caller.id == "x"`, nothing},
		"another member of the session":   {`allow contains "x" if input.session.valid`, nothing},
		"a known name that is held":       {"allow contains \"x\" if {\nname := \"method\"\ninput.request[name] == \"GET\"\n}", id},
		"the id":                          {`allow contains "x" if input.request.id == "x"`, id},
		"the id by brackets":              {`allow contains "x" if input["request"]["id"] == "x"`, id},
		"the age":                         {`allow contains "x" if input.session.age_seconds > 3`, age},
		"a part of the request":           {`allow contains "x" if input.request.headers.accept == "x"`, nothing},
		"the whole request":               {`allow contains "x" if count(input.request) > 3`, id},
		"the whole session":               {`allow contains "x" if count(input.session) > 3`, age},
		"the whole input":                 {`allow contains "x" if contains(json.marshal(input), "x")`, both},
		"walk":                            {"allow contains \"x\" if {\nwalk(input, [_, value])\nvalue == \"x\"\n}", both},
		"every member":                    {"allow contains \"x\" if {\nsome value in input.request\nvalue == \"x\"\n}", id},
		"a name found in evaluation":      {"allow contains \"x\" if {\nsome part, name\ninput[part][name] == \"x\"\n}", both},
		"a name of one known part":        {"allow contains \"x\" if {\nsome name\ninput.session[name] == 7\n}", age},
		"a variable that holds a part":    {"allow contains \"x\" if {\npart := input.request\npart.id == \"x\"\n}", id},
		"a helper's argument":             {"_is(r) if r.id == \"x\"\nallow contains \"x\" if _is(input.request)", id},
		"a helper's argument, unused":     {"_is(r) if r.method == \"x\"\nallow contains \"x\" if _is(input.request)", id},
		"an import":                       {"import input.request as asked\nallow contains \"x\" if asked.id == \"x\"", id},
		"an import of another part":       {"import input.request as asked\nallow contains \"x\" if asked.method == \"GET\"", nothing},
		"object.get with a path":          {`allow contains "x" if object.get(input, ["request", "id"], "") == "x"`, both},
		"in a comprehension":              {`allow contains "x" if count({c | c := input.request.id}) > 0`, id},
		"in a head":                       {`allow contains input.request.id`, id},
		"in the value of with":            {"_g if input.request.path == \"x\"\nallow contains \"x\" if _g with input.request.path as input.request.id", id},
		"in the input that with gives":    {"_g if input.request.path == \"x\"\nallow contains \"x\" if _g with input as {\"request\": {\"method\": input.request.id}}", both},
		"as a key of data":                {`allow contains "x" if data.lists[input.request.id]`, id},
		"in an else":                      {"_g := 1 if input.request.path == \"x\" else := 2 if input.request.id == \"x\"\nallow contains \"x\" if _g == 2", id},
		"in a default's function":         {"default _f(_) := 1\n_f(x) := 2 if x == input.request.id\nallow contains \"x\" if _f(\"x\") == 2", id},
		"in every":                        {"allow contains \"x\" if {\nevery m in [\"x\"] { m == input.request.id }\n}", id},
		"negated":                         {`allow contains "x" if not input.request.id == "x"`, id},
		"not reached by the entrypoint":   {"_never if input.request.id == \"x\"\nallow contains \"x\" if input.request.method == \"GET\"", id},
		"the clock":                       {`allow contains "x" if time.now_ns() > 0`, world},
		"a random number":                 {`allow contains "x" if rand.intn(input.request.method, 3) > 1`, world},
		"a token's time":                  {`allow contains "x" if io.jwt.decode_verify(input.request.host, {"secret": "x"})[0]`, world},
		"a certificate's time":            {`allow contains "x" if crypto.x509.parse_and_verify_certificates(input.request.host)[0]`, world},
		"a certificate's time, options":   {`allow contains "x" if crypto.x509.parse_and_verify_certificates_with_options(input.request.host, {"DNSName": ""})[0]`, world},
		"an address in memory":            {`allow contains "x" if sprintf("%5p", [input.version]) == "x"`, world},
		"a format that is not known":      {`allow contains "x" if sprintf(input.request.host, [1]) == "x"`, world},
		"a format that is known":          {`allow contains sprintf("%d%%p", [input.version])`, nothing},
		"a template":                      {`allow contains "x" if strings.render_template(input.request.host, {}) == "x"`, world},
		"the clock in another's place":    {"allow contains \"x\" if count(\"x\") > 1 with count as _far\n_far(_) := time.now_ns()", world},
		"time, but not the clock":         {`allow contains "x" if time.parse_rfc3339_ns("2026-01-01T00:00:00Z") > 0`, nothing},
		"what the clock is replaced with": {"_now := t if t := time.now_ns()\nallow contains \"x\" if _now > 0 with time.now_ns as 3", world},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(t.Context(), Config{Paths: []string{dir(t, files{
				"lists.json": `{"lists": {}}`, "team.rego": "package metaguard.team\n" + tt.rules + "\n",
			})}})
			if err != nil {
				t.Fatal(err)
			}
			tt.want.input = true // the built-in rules look at it
			if p.depends != tt.want {
				t.Errorf("%+v, want %+v", p.depends, tt.want)
			}
		})
	}
}

// The built-in policy needs neither of what differs with every request.
func TestBuiltinDependence(t *testing.T) {
	p, err := Load(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if p.depends != (dependence{input: true}) {
		t.Errorf("%+v", p.depends)
	}
}

// A rule that prints is known, so that it can print for every request.
func TestDependencePrints(t *testing.T) {
	p, err := Load(t.Context(), Config{Paths: []string{dir(t, files{
		"team.rego": "package metaguard.team\nallow contains \"x\" if {\nprint(\"hello\")\ninput.caller.id == \"x\"\n}\n",
	})}}, WithPrint(nil, func(string, int, string) {}))
	if err != nil {
		t.Fatal(err)
	}
	if p.depends != (dependence{input: true, prints: true}) {
		t.Errorf("%+v", p.depends)
	}
}
