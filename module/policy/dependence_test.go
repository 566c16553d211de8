// SPDX-License-Identifier: Apache-2.0

package policy

import "testing"

// What of the world a verdict can depend on is found whatever way a rule takes to it.
func TestDependence(t *testing.T) {
	nothing := dependence{}
	world := dependence{world: true}
	for name, tt := range map[string]struct {
		rules string
		want  dependence
	}{
		"nothing":                         {`allow contains "x" if input.request.method == "GET"`, nothing},
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
			tt.want.input = true // the built-in rules look at it
			if p := withTeam(t, tt.rules); p.depends != tt.want {
				t.Errorf("%+v, want %+v", p.depends, tt.want)
			}
		})
	}
}

// withTeam is the built-in policy with rules of a team, and with data of its own.
func withTeam(t *testing.T, rules string) *Policy {
	t.Helper()
	p, err := Load(t.Context(), Config{Paths: []string{dir(t, files{
		"lists.json": `{"lists": {"ids": {"a": true}, "list": [1]}}`, "team.rego": "package metaguard.team\n" + rules + "\n",
	})}})
	if err != nil {
		t.Fatal(err)
	}
	return p
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
