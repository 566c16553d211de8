// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// rulesOfConstants are rules that look at nothing of a request, and some that do.
const rulesOfConstants = `package consts

list := {"r1", "a"}

ids := data.lists.ids

none if data.lists.none

members contains name if some name, _ in data.lists.ids

members contains "more"

default many := false

many if count(members) > 5

branches := 1 if data.lists.ids.r1 else := 2

object[name] := 1 if some name in list

same(x) := x

other(_) := "other"

called := same("r1")

found := data.lists[name] if name := "ids"

deep.a := 1

deep.b := 2

both := "fixed" if data.lists.none

both := "r1" if input.request.id == "r1"

general.r1 contains "one"

general[name] contains "z" if name := input.request.id

values.r1 := 1

values[name] := 2 if name := input.request.id

asked := input.request.id

twice if asked == "r1"

indirect := 1 if data.lists.none else := 2 if twice else := 3

mocked if twice with input as {"request": {"id": "r1"}}
`

// rulesWithErrors are apart: who asks for all of a package gets the errors of each rule.
const rulesWithErrors = `package broken

conflict := name if some name in {"r1", "a"}

failing := to_number(data.lists.text)
`

// Which rules are constants: those that nothing of a request can reach, in any way, and
// that can be evaluated.
func TestConstants(t *testing.T) {
	p, err := Load(t.Context(), Config{Timeout: time.Minute, Paths: []string{dir(t, files{
		"lists.json": `{"lists": {"ids": {"r1": true, "a": true}, "text": "x"}}`,
		"team.rego":  "package metaguard.team\n\nimport data.broken\nimport data.consts\n\nallow contains \"x\" if {\n\tinput.request.path == \"/x\"\n\tconsts[_]\n\tbroken[_]\n}\n",
		"more.rego":  rulesOfConstants,
		"error.rego": rulesWithErrors,
	})}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, all := range p.constants {
		for _, one := range all {
			value := "undefined"
			if one.value != nil {
				value = one.value.String()
			}
			got = append(got, strings.TrimPrefix(one.ref.String(), "data.")+" = "+value)
		}
	}
	slices.Sort(got)
	want := []string{
		"consts.branches = 1", `consts.called = "r1"`, "consts.deep.a = 1", "consts.deep.b = 2",
		`consts.found = {"a": true, "r1": true}`, `consts.ids = {"a": true, "r1": true}`, `consts.list = {"a", "r1"}`,
		"consts.many = false", `consts.members = {"a", "more", "r1"}`, "consts.none = undefined",
		"metaguard._denied = undefined", "metaguard._grants = " + p.constants["_grants"][0].value.String(),
		"metaguard._hidden_entries = set()", "metaguard._hidden_json = set()", "metaguard._team_hides = undefined",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What asks the world or prints is evaluated for every request.
func TestNoConstants(t *testing.T) {
	for name, rule := range map[string]string{
		"the clock": "_now := time.now_ns()",
		"by others": "_now := _then + 1\n\n_then := time.now_ns()",
		"printing":  "_now := 1 if print(\"x\")",
		"the net":   "_now := http.send({\"method\": \"GET\", \"url\": \"http://127.0.0.1:1\", \"raise_error\": false}).status_code",
		"the env":   "_now := count(opa.runtime().env)",
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Load(t.Context(), Config{Timeout: time.Minute, AllowBuiltins: []string{"http.send", "opa.runtime"}, Paths: []string{dir(t, files{
				"team.rego": "package metaguard.team\n\nallow contains \"x\" if _now < input.version\n\n" + rule + "\n",
			})}}, WithPrint(nil, func(string, int, string) {}))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.constants["_now"]) != 0 {
				t.Errorf("%v", p.constants["_now"])
			}
		})
	}
}

// A constant is evaluated once, and by every decision only where its steps are to be seen.
func TestConstantIsEvaluatedOnce(t *testing.T) {
	p, err := Load(t.Context(), Config{Timeout: time.Minute, Paths: []string{dir(t, files{
		"team.rego": "package metaguard.team\n\nallow contains \"x\" if input.request.path in _squares\n\n_squares := {square | some n in numbers.range(1, 1000); square := sprintf(\"%d\", [n * n])}\n",
	})}})
	if err != nil {
		t.Fatal(err)
	}
	in := instance(decision.KindPassword, decision.Read)
	in.Request.Path = "81"
	document, err := InputValue(in)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q Query) Result {
		q.Input = document
		result := p.Judge(t.Context(), q)
		if result.Reason != decision.PolicyAllow || !slices.Equal(result.Decision.Reasons, []string{"x"}) {
			t.Fatalf("%+v", result)
		}
		return result
	}
	if got := testing.AllocsPerRun(10, func() { ask(Query{}) }); got > 1000 {
		t.Errorf("%v allocations", got)
	}
	tracer := topdown.NewBufferTracer()
	ask(Query{Tracer: tracer, Unbounded: true})
	if !slices.ContainsFunc(*tracer, func(e *topdown.Event) bool { return strings.Contains(fmt.Sprint(e.Node), "numbers.range") }) {
		t.Error("a trace does not show it")
	}
}

// Constants are values that many decisions use at one time.
func TestConstantsAreShared(t *testing.T) {
	root := dir(t, files{"team.rego": `package metaguard.team

_big := {sprintf("%d", [n * 7919]) | some n in numbers.range(1, 1000)}

_deep := [{"in": _big}]

allow contains "union" if {
	input.request.path == "0"
	count(_big | {"q"}) == 1001
}

allow contains "minus" if {
	input.request.path == "1"
	count(_deep[0]["in"] - {"7919"}) == 999
}

allow contains "sorted" if {
	input.request.path == "2"
	some x in _big
	x == "7919"
}

allow contains "deep" if {
	input.request.path == "3"
	some x in _deep[0]["in"]
	x == "7919"
}
`})
	for range 10 {
		p, err := Load(t.Context(), Config{Timeout: time.Minute, Paths: []string{root}})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.constants["_big"]) != 1 || len(p.constants["_deep"]) != 1 {
			t.Fatal("they are no constants")
		}
		var group sync.WaitGroup
		begin := make(chan struct{})
		for n := range 12 {
			in := instance(decision.KindPassword, decision.Read)
			in.Request.Path = strconv.Itoa(n % 4)
			group.Go(func() {
				<-begin
				for range 3 {
					if result := p.Decide(t.Context(), in); result.Reason != decision.PolicyAllow {
						t.Errorf("%s: %s %v", in.Request.Path, result.Reason, result.Err)
					}
				}
			})
		}
		close(begin)
		group.Wait()
	}
}

// Names that many packages have are sought by OPA, and not in a long list.
func TestManyNamesakes(t *testing.T) {
	rules := "package metaguard.team\n\nallow contains \"x\" if {\n\tsome name\n\tdata.quota[name].most == input.request.path\n\tdata.quota.other == 1\n}\n"
	quota := "package quota\n\nother := 1\n"
	for i := range maxNamesakes + 1 {
		quota += fmt.Sprintf("\nt%d.most := \"%d\"\n", i, i)
	}
	p, err := Load(t.Context(), Config{Timeout: time.Minute, Paths: []string{dir(t, files{"team.rego": rules, "quota.rego": quota})}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.constants["most"]) != 0 || len(p.constants["other"]) != 1 {
		t.Errorf("%v", p.constants)
	}
}

// What takes longer than a decision may is left to decisions, and does not keep a policy
// from being loaded.
func TestConstantsTakeNoLongerThanADecision(t *testing.T) {
	p, err := Load(t.Context(), Config{Timeout: 200 * time.Millisecond, Paths: []string{dir(t, files{
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n\tinput.request.path == \"/x\"\n\t_endless\n}\n\n_endless if {\n\tsome a in numbers.range(1, 10000)\n\tsome b in numbers.range(1, 10000)\n\ta + b < 0\n}\n",
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.constants["_endless"]) != 0 {
		t.Error("it is said to have a value")
	}
	if result := p.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); result.Reason != decision.PolicyAllow {
		t.Errorf("%s, %v", result.Reason, result.Err)
	}
}

// What is loaded gently rests meanwhile, which does not count.
func TestConstantsAtPace(t *testing.T) {
	p, err := Load(t.Context(), Config{Timeout: time.Minute, Paths: []string{dir(t, files{
		"team.rego": "package metaguard.team\n\nallow contains \"x\" if input.request.path in _long\n\n_long := {sprintf(\"%d\", [n]) | some n in numbers.range(1, 20000)}\n",
	})}})
	if err != nil {
		t.Fatal(err)
	}
	at := pace.Gentle(nil)
	bound := &pacedLimit{limit{until: time.Now().Add(time.Minute)}, at}
	until := bound.until
	if _, err := p.constant(t.Context(), p.constants["_long"][0].ref, bound); err != nil {
		t.Fatal(err)
	}
	if at.Rested() == 0 || bound.until.Sub(until) != at.Rested() {
		t.Errorf("rested for %v, the limit is later by %v", at.Rested(), bound.until.Sub(until))
	}
}

// uses are conditions that ask for constants in every way there is.
var uses = []string{
	`input.request.id in consts.list`,
	`consts.list[input.request.id]`,
	`consts.ids[input.request.id]`,
	`consts.found[input.request.id]`,
	`not consts.none`,
	`consts.members[input.request.id]`,
	`"more" in consts.members`,
	`count(consts.members) == 3`,
	`some name in consts.members; name == input.request.id`,
	`consts.many == false`,
	`not consts.many`,
	`consts.branches == 1`,
	`consts.object[input.request.id] == 1`,
	`broken.conflict == "a"`,
	`not broken.conflict == "r1"`,
	`broken.failing == 1`,
	`not broken.failing`,
	`broken[_] == 1`,
	`consts.called == input.request.id`,
	`consts.same(input.request.id) == consts.called`,
	`consts.deep.a == 1`,
	`count(consts.deep) == 2`,
	`consts.deep[_] == 2`,
	`"z" in consts.general.r1`,
	`"z" in consts.general.r2`,
	`count(consts.general.r1) == 1`,
	`consts.general[input.request.id]["z"]`,
	`consts.values.r1 == 1`,
	`consts.both == input.request.id`,
	`consts.twice`,
	`consts.indirect == 2`,
	`consts.mocked`,
	`consts[_] == 1`,
	`some name; consts[name] == input.request.id`,
	`all := consts; all.branches == 1`,
	`"z" in consts.members with data.lists.ids as {"z": true}`,
	`count(consts.members) == 1 with data.lists.ids as {}`,
	`consts.branches == 2 with data.lists as {}`,
	`consts.none with data.lists.none as true`,
	`consts.list == {"x"} with data.consts.list as {"x"}`,
	`consts.called == "other" with consts.same as consts.other`,
	`consts.called == "r1" with input.request.id as "x"`,
	`broken.failing == 1 with data.lists.text as "1"`,
	`consts.many with consts.members as numbers.range(1, 10)`,
}

// No decision differs for constants, whatever a policy makes of them.
func constantsAgree(t *rapid.T) {
	var rules strings.Builder
	rules.WriteString("package metaguard.team\n\nimport data.broken\nimport data.consts\n\nallow contains \"never\" if {\n\tinput.version == 0\n\tbroken.conflict in consts.list\n}\n")
	for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
		fmt.Fprintf(&rules, "\n%s contains \"code_%d\" if {\n", rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "set"), i)
		for range rapid.IntRange(1, 2).Draw(t, "conditions") {
			fmt.Fprintf(&rules, "\tcount({1 | %s}) == 1\n", rapid.SampledFrom(uses).Draw(t, "condition"))
		}
		rules.WriteString("}\n")
	}
	s, err := Config{Timeout: 1 << 40}.check()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.compile(context.Background(), &source{files: []file{
		{name: "team.rego", rel: "team.rego", bytes: []byte(rules.String())},
		{name: "consts.rego", rel: "consts.rego", bytes: []byte(rulesOfConstants)},
		{name: "broken.rego", rel: "broken.rego", bytes: []byte(rulesWithErrors)},
		{name: "lists.json", rel: "lists.json", bytes: []byte(`{"lists": {"ids": {"r1": true, "a": true}, "text": "x"}}`)},
	}}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rules.String())
	}
	if len(p.constants) == 0 {
		t.Fatal("there are none")
	}
	constants := p.constants
	for range rapid.IntRange(1, 6).Draw(t, "requests") {
		in := drawInput(t, "")
		p.constants = nil
		want := p.Decide(context.Background(), in)
		p.constants = constants
		got := p.Decide(context.Background(), in)
		if got.Reason != want.Reason || got.Decision.Allow != want.Decision.Allow || got.Decision.Status != want.Decision.Status ||
			!slices.Equal(got.Decision.Reasons, want.Decision.Reasons) || !slices.Equal(got.Rules, want.Rules) || (got.Err == nil) != (want.Err == nil) {
			t.Fatalf("%+v\nwithout constants: %+v\n%s", got, want, rules.String())
		}
	}
}

func TestConstantsAgree(t *testing.T) { rapid.Check(t, constantsAgree) }

func FuzzConstantsAgree(f *testing.F) { f.Fuzz(rapid.MakeFuzz(constantsAgree)) }
