// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
)

// comparingPolicy writes rules that compare, look up and use parts of an input in random
// ways, for a team.
type comparingPolicy struct {
	*rapid.T

	parts     []string // the few that it uses, so that rules often have to do with each other
	only      bool     // comparisons and look-ups, and nothing that reads all of a part
	body      []string // of the rule that is being written
	variables int
	helpers   int
}

// freeTexts are parts that can be any text.
var freeTexts = []string{
	"request.id", "request.path", "request.host", "caller.id", "caller.instance_id", "caller.project_id",
	"target.instance_id", "target.project_id", "resource.version", "resource.key",
}

// operand is a part of the input, or a variable that holds one.
func (p *comparingPolicy) operand() string {
	part := "input." + p.sample(p.parts...)
	switch rapid.IntRange(0, 4).Draw(p.T, "operand") {
	case 0:
		return p.hold(":=", part)
	case 1:
		return p.hold(":=", p.hold(":=", part))
	case 2:
		name := p.variable()
		p.body = append(p.body, "some "+name, name+" = "+part)
		return name
	}
	return part
}

func (p *comparingPolicy) variable() string {
	p.variables++
	return fmt.Sprint("v", p.variables)
}

func (p *comparingPolicy) hold(by, what string) string {
	name := p.variable()
	p.body = append(p.body, name+" "+by+" "+what)
	return name
}

func (p *comparingPolicy) sample(values ...string) string {
	return rapid.SampledFrom(values).Draw(p.T, "sample")
}

func (p *comparingPolicy) text() string { return p.sample(`""`, `"a"`, `"b"`, `"0"`, `"10.0.0.5"`) }

func (p *comparingPolicy) other() string {
	if rapid.Bool().Draw(p.T, "other part") {
		return p.operand()
	}
	return p.text()
}

// object is a place in the data.
func (p *comparingPolicy) object() string {
	return p.sample("data.lists", "data.lists.ids", "data.lists.list", `data.lists.list["0"]`, "data.lists.none", "data.large", "data.metaguard.grants.instance_id")
}

// condition adds one to the rule that is being written.
func (p *comparingPolicy) condition() {
	kind := rapid.IntRange(0, 19).Draw(p.T, "condition")
	if p.only && kind >= 10 && kind <= 15 {
		kind -= 10
	}
	if kind > 15 && p.helpers > 0 {
		p.body = append(p.body, p.sample("", "not ")+fmt.Sprint("_helper", rapid.IntRange(0, p.helpers-1).Draw(p.T, "helper"))+p.with())
		return
	}
	a := p.operand()
	var condition string
	switch kind {
	case 0, 1, 2, 3:
		condition = a + p.sample(" == ", " != ", " = ") + p.other() + p.with()
	case 4:
		condition = "not " + a + " == " + p.other()
	case 5, 6:
		condition = p.sample("", "not ") + p.object() + "[" + a + "]"
	case 7:
		condition = p.object() + "[" + a + "] == " + p.other()
	case 8:
		name := p.variable()
		p.body = append(p.body, "some "+name, p.object()+"["+name+"]")
		condition = name + p.sample(" != ", " == ") + a
	case 9:
		key, value := p.variable(), p.variable()
		p.body = append(p.body, "some "+key+", "+value+" in "+p.object())
		condition = key + " != " + a + "\n" + value + " != " + p.other()
	case 10:
		condition = fmt.Sprintf("_is(%s)", a)
	case 11:
		condition = fmt.Sprintf("_equal(%s, %s)", a, p.other())
	case 12:
		condition = fmt.Sprintf(p.sample(`startswith(%s, "1")`, `%s in {"a", "0"}`, `%s < "b"`, `[%s, 1] == ["a", 1]`, `{"a": 1}[%s]`, `data.lists[_][%s]`, `data.lists.ids[data.lists.same[%s]]`, `count(%s) == 1`, `concat("", [%s, "x"]) == "ax"`), a)
	case 13:
		name := p.variable()
		condition = fmt.Sprintf("count({%s | %s := %s; %s != %s}) == 1", name, name, a, name, p.other())
	case 14:
		condition = fmt.Sprintf("every m in [\"a\", %s] { m != %s }", p.other(), a)
	case 15:
		condition = p.sample("_names", "_names.b", "_has") + "[" + a + "]"
	default:
		condition = a + " != " + p.text()
	}
	p.body = append(p.body, condition)
}

// with may have a helper evaluated with another input or other data.
func (p *comparingPolicy) with() string {
	part := "input." + p.sample(p.parts...)
	switch rapid.IntRange(0, 7).Draw(p.T, "with") {
	case 0, 1:
		return " with " + part + " as " + p.text()
	case 2:
		return " with " + part + " as " + p.operand()
	case 3:
		return " with input.caller as input.target"
	case 4:
		return p.sample(` with data.lists.ids as {"b": true}`, ` with input as {"caller": {"id": "a", "instance_id": "b"}}`, ` with input.caller as {"id": "a", "instance_id": "b"}`)
	}
	return ""
}

// rule writes one with this head.
func (p *comparingPolicy) rule(head string) string {
	p.body = nil
	for range rapid.IntRange(1, 3).Draw(p.T, "conditions") {
		p.condition()
	}
	return head + " if {\n" + strings.Join(p.body, "\n") + "\n}\n"
}

// policy writes all of them.
func (p *comparingPolicy) policy() string {
	all := append(slices.Clone(freeTexts), sortedKeys(addressParts)...)
	p.parts = rapid.SliceOfNDistinct(rapid.SampledFrom(all), 3, 3, rapid.ID[string]).Draw(p.T, "parts")
	p.only = rapid.Bool().Draw(p.T, "only")
	var rules strings.Builder
	rules.WriteString("package metaguard.team\n_is(x) if x == \"a\"\n_equal(x, y) if x == y\n_names := {\"a\": 1, \"b\": {\"a\": true}}\n_has[name] := \"a\" if some name, _ in _names\n")
	for range rapid.IntRange(0, 3).Draw(p.T, "helpers") {
		rules.WriteString(p.rule(fmt.Sprint("_helper", p.helpers)))
		p.helpers++
	}
	for i := range rapid.IntRange(1, 3).Draw(p.T, "rules") {
		set := p.sample("allow", "deny", "redact_keys")
		text := p.rule(fmt.Sprintf("%s contains \"code_%d\"", set, i))
		if !p.only && rapid.IntRange(0, 5).Draw(p.T, "leaks") == 0 { // a code that is of the input
			p.body = nil
			code := p.operand()
			text = fmt.Sprintf("redact_keys contains code if {\n%s\ncode := concat(\"\", [\"k\", %s])\n}\n", strings.Join(p.body, "\n"), code)
		}
		rules.WriteString(text)
	}
	return rules.String()
}

// randomNames fills the texts and addresses of an input with so few values that they are
// often the same.
func randomNames(random *rand.Rand) *decision.Input {
	texts := []string{"", "a", "b", "c", "0", "10.0.0.5", "large-7"}
	addresses := []netip.Addr{{}, netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6"), netip.MustParseAddr("::ffff:10.0.0.5")}
	in := instance(decision.KindMetadata, decision.Read)
	for _, text := range []*string{
		&in.Request.ID, &in.Request.Path, &in.Request.Host, &in.Caller.ID, &in.Caller.InstanceID, &in.Caller.ProjectID,
		&in.Target.InstanceID, &in.Target.ProjectID, &in.Resource.Version, &in.Resource.Key,
	} {
		*text = texts[random.IntN(len(texts))]
	}
	for _, address := range []*netip.Addr{&in.Caller.Address, &in.Target.Address} {
		*address = addresses[random.IntN(len(addresses))]
	}
	return in
}

// No verdict is given or remembered for an input which evaluation would judge otherwise, however a
// policy compares and uses the parts of it.
func readSetAgrees(t *rapid.T) {
	rules := (&comparingPolicy{T: t}).policy()
	team := file{name: "team.rego", rel: "team.rego", bytes: []byte(rules)}
	lists := file{name: "lists.json", rel: "lists.json", bytes: []byte(`{"lists": {"ids": {"a": true, "0": "b"}, "list": [{"a": "b"}, "b"], "same": {"a": "a", "b": "0"}, "b": {}}, "large": {"large-7": 1` + others(1100) + `}}`)}
	s, err := Config{Timeout: 1 << 40}.check()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.compile(context.Background(), &source{files: []file{team, lists}}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rules)
	}
	e := &Engine{settings: s}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	for range 80 {
		in := randomNames(random)
		got, want := e.decideCached(context.Background(), p, in), judgeWhole(t, p, in)
		if !sameVerdict(&got, &want) {
			t.Fatalf("cached (%t): %+v\nevaluated: %+v\n%s\n%s", got.Cached, got, want, got.Input(), rules)
		}
	}
}

func TestReadSetAgrees(t *testing.T) { rapid.Check(t, readSetAgrees) }

func FuzzReadSetAgrees(f *testing.F) { f.Fuzz(rapid.MakeFuzz(readSetAgrees)) }
