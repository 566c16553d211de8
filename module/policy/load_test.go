// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// want is a finding as file, line, code and words of its text.
type want struct {
	file string
	line int
	code string
	text []string
}

// TestRefusedAtLoad holds everything that must not be loaded, each with the
// file and line that its author has to change.
func TestRefusedAtLoad(t *testing.T) {
	team := func(rules string) files { return files{"team.rego": "package metaguard.team\n\n" + rules + "\n"} }
	for name, tc := range map[string]struct {
		files files
		want  []want
	}{
		"syntax": {whole("decision := {"), []want{{"policy.rego", 4, "rego_parse_error", nil}}},
		"syntax of an older Rego": {
			team("deny[code] { code := \"x\" }"),
			[]want{{"team.rego", 3, "rego_parse_error", []string{"`if` keyword"}}},
		},
		"no package":     {files{"a.rego": "# nothing\n"}, []want{{"a.rego", 0, "rego_parse_error", []string{"empty module"}}}},
		"strict: unused": {whole("decision := {\"allow\": false} if {\n\tx := 1\n}"), []want{{"policy.rego", 4, "rego_compile_error", []string{"x unused"}}}},
		"strict: import": {files{"policy.rego": "package metaguard\nimport data.x\ndecision := {\"allow\": false}"}, []want{{"policy.rego", 2, "", []string{"unused"}}}},
		"unknown function": {
			whole("decision := {\"allow\": true} if contain(\"a\", \"b\")"),
			[]want{{"policy.rego", 3, "rego_type_error", []string{"contain", `"contains"`}}},
		},
		"unsafe variable": {whole("decision := {\"allow\": x}"), []want{{"policy.rego", 3, "rego_unsafe_var_error", nil}}},
		"recursion":       {whole("decision := {\"allow\": p}\np := q\nq := p"), []want{{"policy.rego", 4, "rego_recursion_error", nil}, {"policy.rego", 5, "rego_recursion_error", nil}}},
		"type":            {whole("decision := {\"allow\": 1 + \"a\"}"), []want{{"policy.rego", 3, "rego_type_error", nil}}},
		"two values":      {whole("decision := {\"allow\": false}\ndefault decision := {\"allow\": false}\ndefault decision := {\"allow\": true}"), []want{{"policy.rego", 0, "rego_type_error", []string{"multiple default"}}}},

		"network":     {whole("decision := {\"allow\": true} if http.send({\"method\": \"GET\", \"url\": \"http://x\"}).ok"), []want{{"policy.rego", 3, CodeBuiltinForbidden, []string{"http.send", "network", "allow_builtins http.send"}}}},
		"name lookup": {whole("decision := {\"allow\": true} if net.lookup_ip_addr(\"x\")"), []want{{"policy.rego", 3, CodeBuiltinForbidden, []string{"network"}}}},
		"environment": {whole("decision := {\"allow\": true} if opa.runtime().env.X"), []want{{"policy.rego", 3, CodeBuiltinForbidden, []string{"environment"}}}},
		"forbidden for a team": {
			team("allow contains \"x\" if opa.runtime().env.X"),
			[]want{{"team.rego", 3, CodeBuiltinForbidden, nil}},
		},
		"schema from a URL": {
			files{"policy.rego": "package metaguard\n\n# METADATA\n# schemas:\n#   - input: {\"$ref\": \"https://example.com/x.json\"}\ndecision := {\"allow\": true}"},
			[]want{{"policy.rego", 3, "rego_compile_error", []string{"$ref"}}},
		},

		"input field":        {team("deny contains \"x\" if input.caler.id == \"a\""), []want{{"team.rego", 3, CodeInputUnknownField, []string{"caler", `"caller"`}}}},
		"input field inside": {team("deny contains \"x\" if input.caller.projectid == \"a\""), []want{{"team.rego", 3, CodeInputUnknownField, []string{"projectid", `"project_id"`}}}},
		"input field of a replacing policy": {
			whole("default decision := {\"allow\": false}\ndecision := {\"allow\": true} if input.ressource.kind == \"password\""),
			[]want{{"policy.rego", 4, CodeInputUnknownField, []string{`"resource"`}}},
		},

		"team: name":              {team("denny contains \"x\" if true"), []want{{"team.rego", 3, CodeTeamUnknownName, []string{"denny", `"deny"`}}}},
		"team: name in any case":  {team("Deny contains \"x\" if true"), []want{{"team.rego", 3, CodeTeamUnknownName, []string{`"deny"`}}}},
		"team: far-off name":      {team("helper := 1"), []want{{"team.rego", 3, CodeTeamUnknownName, []string{"allow deny", "begin with _"}}}},
		"team: function":          {team("is_mine(x) := x"), []want{{"team.rego", 3, CodeTeamUnknownName, nil}}},
		"team: path as a name":    {team("windows.deny contains \"x\" if true"), []want{{"team.rego", 3, CodeTeamUnknownName, []string{"windows"}}}},
		"team: boolean":           {team("deny if input.caller.id == \"x\""), []want{{"team.rego", 3, CodeTeamWrongShape, []string{`deny contains "code" if`}}}},
		"team: boolean twice":     {files{"a.rego": "package metaguard.team\ndeny contains \"x\" if true\n", "b.rego": "package metaguard.team\n\ndeny if true\n"}, []want{{"b.rego", 3, CodeTeamWrongShape, nil}}},
		"team: one value":         {team("allow := true"), []want{{"team.rego", 3, CodeTeamWrongShape, nil}}},
		"team: default":           {team("default deny := false"), []want{{"team.rego", 3, CodeTeamWrongShape, nil}}},
		"team: map":               {team("deny[\"x\"] if true"), []want{{"team.rego", 3, CodeTeamWrongShape, nil}}},
		"team: function as rule":  {team("deny(x) := x"), []want{{"team.rego", 3, CodeTeamWrongShape, nil}}},
		"team: status as set":     {team("status contains 404 if true"), []want{{"team.rego", 3, CodeTeamWrongShape, []string{"status := 404"}}}},
		"team: status as boolean": {team("status if true"), []want{{"team.rego", 3, CodeTeamWrongShape, nil}}},
		"team: code a number":     {team("deny contains 42"), []want{{"team.rego", 3, CodeTeamWrongValue, []string{"42"}}}},
		"team: code an object":    {team("deny contains {\"msg\": \"x\"}"), []want{{"team.rego", 3, CodeTeamWrongValue, nil}}},
		"team: code empty":        {team("deny contains \"\""), []want{{"team.rego", 3, CodeTeamWrongValue, nil}}},
		"team: no pointer":        {team("redact_json contains \"meta\""), []want{{"team.rego", 3, CodeTeamWrongValue, []string{"JSON pointer"}}}},
		"team: status 500":        {team("status := 500"), []want{{"team.rego", 3, CodeTeamWrongValue, []string{"401, 403, 404, 429"}}}},
		"team: status a string":   {team("status := \"404\""), []want{{"team.rego", 3, CodeTeamWrongValue, nil}}},
		"team: each line": {
			team("denny contains \"x\"\n\ndeny if true\nalow contains \"y\""),
			[]want{{"team.rego", 3, CodeTeamUnknownName, nil}, {"team.rego", 5, CodeTeamWrongShape, nil}, {"team.rego", 6, CodeTeamUnknownName, nil}},
		},

		"package nearly right":  {files{"a.rego": "\npackage metaguard.teams\n\ndeny contains \"x\" if true\n"}, []want{{"a.rego", 2, CodePackageUnreached, []string{"metaguard.teams", `"metaguard.team"`}}}},
		"package of another":    {files{"a.rego": "package authz\n\ndeny contains \"x\" if true\n"}, []want{{"a.rego", 1, CodePackageUnreached, []string{"authz"}}}},
		"package below ours":    {files{"a.rego": "package metaguard.team.windows\n\ndeny contains \"x\" if true\n"}, []want{{"a.rego", 1, CodePackageUnreached, nil}}},
		"package of grants":     {files{"a.rego": "package metaguard.grants.role\n\nadmin := [\"password:read\"]\n"}, []want{{"a.rego", 1, CodePackageReserved, nil}}},
		"library of no one":     {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if data.lib.a\n", "a.rego": "package lib\n\na := 1\n", "b.rego": "package lib2\n\na := 1\n"}, []want{{"b.rego", 1, CodePackageUnreached, []string{"lib2"}}}},
		"replaced by mistake":   {files{"a.rego": "package metaguard\n\ndeny contains \"x\" if true\n"}, []want{{"a.rego", 1, CodeEntrypointInvalid, []string{"metaguard.team"}}}},
		"entrypoint a function": {whole("decision(_) := {\"allow\": true}"), []want{{"policy.rego", 3, CodeEntrypointInvalid, nil}}},
		"entrypoint a set":      {whole("decision contains \"allow\""), []want{{"policy.rego", 3, CodeEntrypointInvalid, nil}}},
		"always malformed":      {whole("decision := {\"Allow\": true}"), []want{{"", 0, CodeDecisionMalformed, []string{`"Allow"`, `"allow"`}}}},

		"data: array":               {files{"a.json": "[1]"}, []want{{"a.json", 1, CodeDataInvalid, []string{"object", "array"}}}},
		"data: cut":                 {files{"a.json": "{\n\"a\": "}, []want{{"a.json", 2, CodeDataInvalid, []string{"ends too early"}}}},
		"data: not JSON":            {files{"a.json": "{\n\"a\": x}"}, []want{{"a.json", 2, CodeDataInvalid, nil}}},
		"data: name twice":          {files{"a.json": "{\"a\": 1,\n\"a\": 2}"}, []want{{"a.json", 2, CodeDataInvalid, []string{"duplicate"}}}},
		"data: not UTF-8":           {files{"a.json": "{\"a\": \"\xff\"}"}, []want{{"a.json", 1, CodeDataInvalid, nil}}},
		"data: more at the end":     {files{"a.json": "{}\n{}"}, []want{{"a.json", 2, CodeDataInvalid, nil}}},
		"data: empty":               {files{"a.json": ""}, []want{{"a.json", 1, CodeDataInvalid, nil}}},
		"data: empty YAML":          {files{"a.yaml": ""}, []want{{"a.yaml", 1, CodeDataInvalid, nil}}},
		"data: not YAML":            {files{"a.yml": "a: 1\nb: [\n"}, []want{{"a.yml", 2, CodeDataInvalid, nil}}},
		"data: name twice in YAML":  {files{"a.yaml": "a: 1\nb: 2\na: 3\n"}, []want{{"a.yaml", 3, CodeDataInvalid, []string{"already defined"}}}},
		"data: second YAML":         {files{"a.yaml": "a: 1\n---\nb: 2\n"}, []want{{"a.yaml", 2, CodeDataInvalid, []string{"second document"}}}},
		"data: scalar YAML":         {files{"a.yaml": "hello\n"}, []want{{"a.yaml", 1, CodeDataInvalid, []string{"a string"}}}},
		"data: conflict":            {files{"a.json": "{\n\"x\": {\"y\": 1}}", "b.yaml": "x:\n  y: 2\n"}, []want{{"b.yaml", 2, CodeDataConflict, []string{"data.x.y", "a.json:2"}}}},
		"data: object over a value": {files{"a.json": "{\"x\": 1}", "b.json": "{\"x\": {\"y\": 1}}"}, []want{{"b.json", 1, CodeDataConflict, []string{"data.x", "a.json"}}}},
		"data: over a rule": {
			files{"x.json": "{\"lib\": {\n  \"a\": 1}}", "lib.rego": "package lib\n\na := 2\n", "team.rego": "package metaguard.team\n\ndeny contains \"x\" if data.lib.a == 3\n"},
			[]want{{"x.json", 2, CodeDataShadowsPolicy, []string{"data.lib.a", "lib.rego:3"}}},
		},
		"data: over the built-in":  {files{"x.json": "{\"metaguard\": {\n\"decision\": {\"allow\": true}}}"}, []want{{"x.json", 2, CodeDataUnknownName, []string{"data.metaguard.decision"}}}},
		"data: for a team":         {files{"x.json": "{\"metaguard\": {\"team\": {\"deny\": [\"x\"]}}}"}, []want{{"x.json", 1, CodeDataUnknownName, nil}}},
		"data: nearly grants":      {files{"x.yaml": "metaguard:\n  grant: {}\n"}, []want{{"x.yaml", 2, CodeDataUnknownName, []string{`"grants"`}}}},
		"data: nearly ours":        {files{"x.yaml": "a: 1\nmetagaurd:\n  grants: {}\n"}, []want{{"x.yaml", 2, CodeDataUnknownName, []string{`"metaguard"`}}}},
		"data: a directory down":   {files{"data/x.json": "{\"metaguard\": {\"grants\": {}}}"}, []want{{"data/x.json", 1, CodeDataUnknownName, []string{"data.data.metaguard", "names of directories"}}}},
		"data: ours no object":     {files{"x.json": "{\"metaguard\": []}"}, []want{{"x.json", 1, CodeDataUnknownName, nil}}},
		"grants: no object":        {files{"x.json": "{\"metaguard\": {\"grants\": [1]}}"}, []want{{"x.json", 1, CodeGrantInvalid, nil}}},
		"grants: attribute":        {files{"x.json": "{\"metaguard\": {\"grants\": {\n\"roles\": {\"a\": [\"password:read\"]}}}}"}, []want{{"x.json", 2, CodeGrantInvalid, []string{`"roles"`, `"role"`}}}},
		"grants: list for a value": {files{"x.json": "{\"metaguard\": {\"grants\": {\"role\": [\"admin\"]}}}"}, []want{{"x.json", 1, CodeGrantInvalid, nil}}},
		"grants: string":           {files{"x.yaml": "metaguard:\n  grants:\n    role:\n      admin: password:read\n"}, []want{{"x.yaml", 4, CodeGrantInvalid, []string{"data.metaguard.grants.role.admin", "a string"}}}},
		"grants: number":           {files{"x.json": "{\"metaguard\": {\"grants\": {\"role\": {\n\n\"a\": [1]}}}}"}, []want{{"x.json", 3, CodeGrantInvalid, nil}}},
		"grants: misspelt":         {files{"x.json": "{\"metaguard\": {\"grants\": {\"role\": {\"a\": [\"pasword:read\"]}}}}"}, []want{{"x.json", 1, CodeGrantInvalid, []string{`"password:read"`}}}},
		"grants: of nobody":        {files{"x.json": "{\"metaguard\": {\"grants\": {\"role\": {\"\": [\"password:read\"]}}}}"}, []want{{"x.json", 1, CodeGrantInvalid, nil}}},
		"value: no such kind":      {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"passwords\"\n"}, []want{{"team.rego", 3, CodeInputUnknownValue, []string{`"passwords"`, `"password"`}}}},
		"value: in a set":          {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n\tinput.resource.kind in {\"password\", \"user_data\"}\n}\n"}, []want{{"team.rego", 4, CodeInputUnknownValue, []string{`"user_data"`, `"userdata"`}}}},
		"value: not equal":         {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.action != \"post\"\n"}, []want{{"team.rego", 3, CodeInputUnknownValue, []string{"read write"}}}},
		"value: turned round":      {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if \"rsa\" == input.request.body.format\n"}, []want{{"team.rego", 3, CodeInputUnknownValue, nil}}},
		"value: HEAD":              {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.request.method == \"HEAD\"\n"}, []want{{"team.rego", 3, CodeInputUnknownValue, []string{"HEAD arrives as GET"}}}},
		"value: a header":          {files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.request.headers[\"User-Agent\"] == \"x\"\n"}, []want{{"team.rego", 3, CodeInputUnknownValue, []string{`"user-agent"`}}}},
		"value: in a whole one":    {whole("default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if input.resource.kind == \"x\""), []want{{"policy.rego", 5, CodeInputUnknownValue, nil}}},
		"team: helpers only":       {files{"team.rego": "package metaguard.team\n\n_x := 1\n"}, []want{{"team.rego", 1, CodePackageUnreached, []string{"none of the rules that are read", "_test.rego"}}}},
		"data: grants at the top":  {files{"x.json": "{\"grants\": {}}"}, []want{{"x.json", 1, CodeDataUnknownName, []string{"put it under metaguard"}}}},
		"settings: no object":      {files{"x.json": "{\"metaguard\": {\"settings\": []}}"}, []want{{"x.json", 1, CodeSettingsInvalid, nil}}},
		"settings: misspelt":       {files{"x.json": "{\"metaguard\": {\"settings\": {\"acept\": []}}}"}, []want{{"x.json", 1, CodeSettingsInvalid, []string{`"accept"`}}}},
		"settings: accept a word":  {files{"x.json": "{\"metaguard\": {\"settings\": {\n\"accept\": \"all\"}}}"}, []want{{"x.json", 2, CodeSettingsInvalid, nil}}},
		"settings: accept all":     {files{"x.json": "{\"metaguard\": {\"settings\": {\n\"accept\": [\"password:*\"]}}}"}, []want{{"x.json", 2, CodeSettingsInvalid, []string{"password:*"}}}},
		"grants: no such action":   {files{"x.json": "{\"metaguard\": {\"grants\": {\"role\": {\"a\": [\"metadata:erase\"]}}}}"}, []want{{"x.json", 1, CodeGrantInvalid, []string{"metadata:erase"}}}},
		"grants in a directory":    {files{"metaguard/grants/role/data.json": "{\n\"admin\": 1}"}, []want{{"metaguard/grants/role/data.json", 2, CodeGrantInvalid, nil}}},

		"empty directory": {files{}, []want{{"", 0, CodePathEmpty, nil}}},
		"only tests":      {files{"a_test.rego": "package x", ".hidden.rego": "package y", "README.md": "z"}, []want{{"", 0, CodePathEmpty, nil}}},
	} {
		t.Run(name, func(t *testing.T) {
			root := dir(t, tc.files)
			_, err := New(t.Context(), Config{Paths: []string{root}})
			if err == nil {
				t.Fatal("loaded")
			}
			got := findingsOf(t, err)
			for _, w := range tc.want {
				if !slices.ContainsFunc(got, func(f Finding) bool { return w.matches(root, f) }) {
					t.Errorf("no finding %+v in:\n%v", w, err)
				}
			}
			if len(got) > len(tc.want) && !strings.HasPrefix(got[0].Code, "rego_") {
				t.Errorf("more than wanted:\n%v", err)
			}
		})
	}
}

func (w want) matches(root string, f Finding) bool {
	file := root
	if w.file != "" {
		file = filepath.Join(root, filepath.FromSlash(w.file))
	}
	if f.Code == CodeDecisionMalformed {
		file = ""
	}
	if f.File != file || w.line > 0 && f.Line != w.line || w.code != "" && f.Code != w.code {
		return false
	}
	for _, text := range w.text {
		if !strings.Contains(f.String(), text) {
			return false
		}
	}
	return true
}

// TestLoaded holds what must load, and what one of its decisions is.
func TestLoaded(t *testing.T) {
	for name, tc := range map[string]struct {
		files  files
		reason decision.Reason
		code   string
	}{
		"team denies":        {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\" if input.caller.source == \"neutron\"\n"}, decision.PolicyDeny, "x"},
		"team in two files":  {files{"a.rego": "package metaguard.team\n\nallow contains \"y\"\n", "sub/b.rego": "package metaguard.team\n\ndeny contains \"x\"\n"}, decision.PolicyDeny, "x"},
		"helpers":            {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\" if _mine\n\n_mine if input.caller.id != \"\"\n"}, decision.PolicyDeny, "x"},
		"a library":          {files{"a.rego": "package metaguard.team\n\ndeny contains code if some code in data.lib.codes\n", "b.rego": "package lib\n\ncodes := [\"x\"]\n"}, decision.PolicyDeny, "x"},
		"a package below":    {files{"a.rego": "package metaguard.team\n\ndeny contains code if some code in data.metaguard.team.windows.deny\n", "b.rego": "package metaguard.team.windows\n\ndeny contains \"x\"\n"}, decision.PolicyDeny, "x"},
		"a library by name":  {files{"a.rego": "package metaguard.team\n\ndeny contains code if {\n\tsome team\n\tsome code in data.teams[team].deny\n}\n", "b.rego": "package teams.red\n\ndeny contains \"x\"\n"}, decision.PolicyDeny, "x"},
		"own data":           {files{"a.rego": "package metaguard.team\n\ndeny contains data.own.code\n", "own.yaml": "own:\n  code: x\n"}, decision.PolicyDeny, "x"},
		"data by directory":  {files{"a.rego": "package metaguard.team\n\ndeny contains data.own.deep.code\n", "own/deep/x.json": "{\"code\": \"x\"}"}, decision.PolicyDeny, "x"},
		"merged data":        {files{"a.rego": "package metaguard.team\n\ndeny contains data.own.a if data.own.b == 2\n", "1.json": "{\"own\": {\"a\": \"x\"}}", "2.json": "{\"own\": {\"b\": 2}}"}, decision.PolicyDeny, "x"},
		"tests beside":       {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\"\n", "a_test.rego": "package nonsense {"}, decision.PolicyDeny, "x"},
		"tests within":       {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\"\n\ntest_it if deny\n", "b.rego": "package metaguard.team_test\n\ntest_it if data.metaguard.team.deny\n"}, decision.PolicyDeny, "x"},
		"other files":        {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\"\n", "README.md": "#", "b.rego~": "x", ".b.rego.swp": "x", ".git/x.rego": "x"}, decision.PolicyDeny, "x"},
		"replacing":          {whole("decision := {\"allow\": false, \"reasons\": {\"x\"}}"), decision.PolicyDeny, "x"},
		"replaced in parts":  {whole("decision.allow := false\n\ndecision.reasons contains \"x\""), decision.PolicyDeny, "x"},
		"own names then":     {files{"policy.rego": "package metaguard\n\ndecision := {\"allow\": false, \"reasons\": data.metaguard.team.helper}\n", "b.rego": "package metaguard.team\n\nhelper := [\"x\"]\n"}, decision.PolicyDeny, "x"},
		"grants":             {files{"a.json": "{\"metaguard\": {\"grants\": {\"role\": {\"admin\": [\"password:read\", \"target:any\"]}}}}"}, decision.PolicyAllow, ""},
		"a clock":            {files{"a.rego": "package metaguard.team\n\ndeny contains \"x\" if time.now_ns() > 0\n"}, decision.PolicyDeny, "x"},
		"schema annotations": {files{"a.rego": "package metaguard.team\n\n# METADATA\n# schemas:\n#   - data.own: {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}}\ndeny contains data.own.a\n", "own/x.json": "{\"a\": \"x\"}"}, decision.PolicyDeny, "x"},
		"computed values":    {files{"a.rego": "package metaguard.team\n\ndeny contains sprintf(\"%s\", [\"x\"])\n\nstatus := 400 + 4\n"}, decision.PolicyDeny, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, Config{Paths: []string{dir(t, tc.files)}})
			got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
			if got.Reason != tc.reason || tc.code != "" && !slices.Equal(got.Decision.Reasons, []string{tc.code}) {
				t.Errorf("got %s %v (%v), want %s %s", got.Reason, got.Decision.Reasons, got.Err, tc.reason, tc.code)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	team := "package metaguard.team\n\ndeny contains \"x\"\n"
	root := dir(t, files{
		"a/team.rego": team, "a_test.rego": team, "notes.txt": "x", "loop/team.rego": team,
		"b/one.rego": team, "b/sub/one.rego": "package metaguard.team\n\nallow contains \"y\"\n",
	})
	at := func(name string) string { return filepath.Join(root, name) }
	link := func(to, from string) {
		if err := os.Symlink(to, at(from)); err != nil {
			t.Fatal(err)
		}
	}
	link(".", "loop/up")
	link("nowhere", "b/sub/unrelated")
	link("team.rego", "a/again.rego")
	if err := os.MkdirAll(at("dangling"), 0o755); err != nil {
		t.Fatal(err)
	}
	link("nowhere", "dangling/team.rego")

	for name, tc := range map[string]struct {
		paths []string
		code  string
	}{
		"directory":          {[]string{at("a")}, ""},
		"file":               {[]string{at("a/team.rego")}, ""},
		"both":               {[]string{at("a"), at("a/team.rego")}, ""},
		"file first":         {[]string{at("a/team.rego"), at("a/team.rego"), at("a")}, ""},
		"dangling elsewhere": {[]string{at("b")}, ""},
		"missing":            {[]string{at("none")}, CodePathUnreadable},
		"dangling":           {[]string{at("dangling")}, CodePathUnreadable},
		"loop":               {[]string{at("loop")}, CodePathUnreadable},
		"a test":             {[]string{at("a_test.rego")}, CodePathUnsupported},
		"a note":             {[]string{at("notes.txt")}, CodePathUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Paths: tc.paths}
			_, err := New(t.Context(), cfg)
			if tc.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := findingsOf(t, err); len(got) != 1 || got[0].Code != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
			if _, err := Digest(cfg); err == nil {
				t.Error("Digest did not fail")
			}
		})
	}
}

func TestRelativePathsInMessages(t *testing.T) {
	root := dir(t, files{"policies/team.rego": "package metaguard.team\n\ndenny contains \"x\"\n"})
	t.Chdir(root)
	_, err := New(t.Context(), Config{Paths: []string{filepath.Join(root, "policies")}})
	if err == nil || !strings.HasPrefix(err.Error(), "policies/team.rego:3:1: denny means nothing") {
		t.Errorf("got %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"entrypoint without package":   {Entrypoint: "decision"},
		"entrypoint with dots":         {Entrypoint: "data.metaguard.decision"},
		"entrypoint with a gap":        {Entrypoint: "metaguard//decision"},
		"entrypoint that is not there": {Entrypoint: "metaguard/decison"},
		"negative timeout":             {Timeout: -1},
		"negative ready timeout":       {ReadyTimeout: -1},
		"empty path":                   {Paths: []string{""}},
		"unknown function":             {AllowBuiltins: []string{"http.sent"}},
		"allowed anyway":               {AllowBuiltins: []string{"time.now_ns"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(t.Context(), cfg); err == nil {
				t.Error("accepted")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	policy := "package metaguard.team\n\ndeny contains \"x\"\n"
	root := dir(t, files{"a.rego": policy, "README.md": "1"})
	base := Config{Paths: []string{root}}
	digest := func(cfg Config) string {
		t.Helper()
		d, err := Digest(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := digest(base)
	e, err := New(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	if e.Key() != first || e.Status().Key != first {
		t.Error("the engine's key is not the digest")
	}
	if digest(Config{Paths: []string{root}, Entrypoint: DefaultEntrypoint, Timeout: DefaultTimeout}) != first {
		t.Error("a default that is written out changes the digest")
	}
	for name, cfg := range map[string]Config{
		"entrypoint": {Paths: base.Paths, Entrypoint: "metaguard/team"},
		"timeout":    {Paths: base.Paths, Timeout: 1},
		"builtins":   {Paths: base.Paths, AllowBuiltins: []string{"http.send"}},
		"paths":      {},
	} {
		if digest(cfg) == first {
			t.Errorf("%s: same digest", name)
		}
	}
	write(t, filepath.Join(root, "README.md"), "2")
	if digest(base) != first {
		t.Error("a file that is not loaded changes the digest")
	}
	write(t, filepath.Join(root, "a.rego"), policy+"#\n")
	if digest(base) == first {
		t.Error("an edit does not change the digest")
	}
	write(t, filepath.Join(root, "a.rego"), policy)
	write(t, filepath.Join(root, "b.rego"), policy)
	if digest(base) == first {
		t.Error("a new file does not change the digest")
	}

	// A broken policy has a digest: it is what `adapt` shows.
	write(t, filepath.Join(root, "b.rego"), "package {")
	_ = digest(base)

	// Replicas with the same files elsewhere have the same revision.
	other := engine(t, Config{Paths: []string{dir(t, files{"a.rego": policy})}})
	if e.Status().Revision != other.Status().Revision || e.Key() == other.Key() {
		t.Error("the revision depends on the place, or the key does not")
	}
}

// TestVocabularyIsTheSchemas: the names that loading accepts are those of the
// data schema, which editors complete.
func TestVocabularyIsTheSchemas(t *testing.T) {
	schema := schemas().Get(ast.Ref{ast.SchemaRootDocument, ast.StringTerm("data")}).(map[string]any)
	at := func(path ...string) any {
		var value any = schema
		for _, name := range path {
			value = value.(map[string]any)[name]
		}
		return value
	}
	var enum []string
	for _, name := range at("definitions", "grant", "enum").([]any) {
		enum = append(enum, name.(string))
	}
	slices.Sort(enum)
	if !slices.Equal(enum, grantNames) {
		t.Errorf("grants: schema %v, code %v", enum, grantNames)
	}
	own := at("properties", "metaguard", "properties").(map[string]any)
	if got := sortedKeys(own); !slices.Equal(got, ownData) {
		t.Errorf("data.metaguard: schema %v, code %v", got, ownData)
	}
	attributes := slices.Sorted(slices.Values(grantAttributes))
	if got := sortedKeys(at("properties", "metaguard", "properties", "grants", "properties").(map[string]any)); !slices.Equal(got, attributes) {
		t.Errorf("grants: schema %v, code %v", got, attributes)
	}
}

// TestExamplesLoad loads what a team would start from.
func TestExamplesLoad(t *testing.T) {
	examples, err := filepath.Glob("../../policies/examples/*")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, example := range examples {
		engine(t, Config{Paths: []string{example}, Samples: samplesOfOpenStack()})
	}
}

// TestBuiltinCopied: the built-in policy works as it is from a directory.
func TestBuiltinCopied(t *testing.T) {
	e := engine(t, Config{Paths: []string{"../../policies/metaguard"}})
	if got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); got.Reason != decision.PolicyAllow {
		t.Errorf("got %+v", got)
	}
}
