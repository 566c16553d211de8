// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
)

// full is an input in which nothing is empty.
func full() *decision.Input {
	in := instance(decision.KindPassword, decision.Write)
	in.Request.Query = map[string][]string{"a": {"1", "2"}}
	in.Caller.Roles = []string{"reader", "windows"}
	in.Caller.Claims = map[string]any{"level": 3.5, "groups": []any{"a", nil, true}}
	in.Caller.Process = &decision.Process{
		PID: 7, UserID: 1000, User: "u", GroupIDs: []int{4, 5}, Groups: []string{"g"}, Executable: "/bin/x",
		CommandLineSHA256: "00", Cgroup: "/a", Unit: "a.service", ContainerID: "c",
	}
	in.Session = decision.Session{Present: true, Valid: true, AgeSeconds: 12}
	return in
}

// allOf is a keyer of a policy that reads all but these parts of an input.
func allOf(but ...string) keyer {
	reads := readSet{}
	for part := range partPaths {
		if !slices.Contains(but, part) {
			reads.of(part).all = true
		}
	}
	return newKeyer(reads, nil)
}

func keyOf(t interface{ Fatalf(string, ...any) }, k keyer, in *decision.Input) inputKey {
	key, ok := k.of(in)
	if !ok {
		t.Fatalf("%+v has no key", in)
	}
	return key
}

// Every field of the input is in its key, also those that are added one day.
func TestKeyHasEveryField(t *testing.T) {
	all, least := allOf(), allOf("request.id", "session.age_seconds")
	want := keyOf(t, all, full())
	changes := 0
	var walk func(name string, at func(*decision.Input) reflect.Value)
	walk = func(name string, at func(*decision.Input) reflect.Value) {
		in := full()
		switch value := at(in); value.Kind() {
		case reflect.Struct:
			if value.Type() == reflect.TypeFor[netip.Addr]() {
				value.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.99")))
				break
			}
			for i := range value.NumField() {
				walk(name+"."+value.Type().Field(i).Name, func(in *decision.Input) reflect.Value { return at(in).Field(i) })
			}
			return
		case reflect.Pointer:
			walk(name, func(in *decision.Input) reflect.Value { return at(in).Elem() })
			value.SetZero()
		case reflect.String:
			value.SetString(value.String() + "x")
		case reflect.Int:
			value.SetInt(value.Int() + 1)
		case reflect.Bool:
			value.SetBool(!value.Bool())
		case reflect.Slice:
			walk(name+"[0]", func(in *decision.Input) reflect.Value { return at(in).Index(0) })
			value.Set(value.Slice(0, value.Len()-1))
		case reflect.Map:
			for _, key := range value.MapKeys() {
				value.SetMapIndex(key, reflect.Value{})
				break
			}
		default:
			t.Fatalf("%s is of a kind that this test does not know", name)
		}
		changes++
		if keyOf(t, all, in) == want {
			t.Errorf("%s is not in the key", name)
		}
		free := name == "input.Request.ID" || name == "input.Session.AgeSeconds"
		if same := keyOf(t, least, in) == keyOf(t, least, full()); same != free {
			t.Errorf("%s: a key without what differs with every request is the same: %t", name, same)
		}
	}
	walk("input", func(in *decision.Input) reflect.Value { return reflect.ValueOf(in).Elem() })
	if changes < 45 {
		t.Errorf("only %d fields were tried", changes)
	}
}

// Two inputs have one key exactly if a policy sees one document.
func TestKeyIsTheDocument(t *testing.T) {
	all := allOf()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawInput(t, "a"), drawInput(t, "b")
		first, err1 := InputValue(a)
		second, err2 := InputValue(b)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		alike := first.Compare(second) == 0
		if same := keyOf(t, all, a) == keyOf(t, all, b); same != alike {
			t.Fatalf("documents alike: %t, keys alike: %t\n%v\n%v", alike, same, first, second)
		}
	})
}

// drawInput draws from so few values that two inputs are often alike.
func drawInput(t *rapid.T, label string) *decision.Input {
	text := func(name string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label+name) }
	in := instance(decision.KindMetadata, decision.Read)
	in.Request.ID = text("id", "r1", "r2")
	in.Request.Method = text("method", "GET", "POST")
	in.Request.Segments = rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b"}, {"ab"}, {"a", ""}}).Draw(t, label+"segments")
	in.Request.Query = rapid.SampledFrom([]map[string][]string{nil, {}, {"a": {"1"}}, {"a": {"1", "2"}}, {"a": {"1"}, "b": nil}}).Draw(t, label+"query")
	in.Request.Headers = rapid.SampledFrom([]map[string]string{nil, {"accept": "a"}, {"accept": "a", "user-agent": "curl"}}).Draw(t, label+"headers")
	in.Request.Body = rapid.SampledFrom([]*decision.Body{nil, {}, {Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048}}).Draw(t, label+"body")
	in.Caller.InstanceID = text("instance", "", "a", "b")
	in.Caller.Roles = rapid.SampledFrom([][]string{nil, {"reader"}, {"reader", "windows"}}).Draw(t, label+"roles")
	in.Caller.Claims = rapid.SampledFrom([]map[string]any{nil, {}, {"level": 3.0}, {"level": "3"}, {"level": []any{3.5}}, {"level": []string{"3"}}}).Draw(t, label+"claims")
	in.Caller.Process = rapid.SampledFrom([]*decision.Process{nil, {}, {UserID: 1000, GroupIDs: []int{0}}}).Draw(t, label+"process")
	in.Caller.Address = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:10.0.0.5")}).Draw(t, label+"address")
	in.Target.InstanceID = text("target", "", "a", "b")
	in.Resource.Kind = decision.Kind(text("kind", "metadata", "password", "credentials"))
	in.Resource.Action = decision.Action(text("action", "read", "write"))
	in.Session = decision.Session{
		Present:    rapid.Bool().Draw(t, label+"present"),
		Valid:      rapid.Bool().Draw(t, label+"valid"),
		AgeSeconds: rapid.SampledFrom([]int{0, 5, 50}).Draw(t, label+"age"),
	}
	return in
}

// What JSON cannot say has no key, and what is nested too deep.
func TestClaimsWithoutKey(t *testing.T) {
	all, unread := allOf(), allOf(claimsPart)
	deep := any("x")
	for range maxClaimDepth + 1 {
		deep = []any{deep}
	}
	for _, claim := range []any{struct{}{}, deep, []any{map[string]any{"x": make(chan int)}}, uint8(1)} {
		in := full()
		in.Caller.Claims = map[string]any{"x": claim}
		for _, k := range []keyer{all, unread} {
			if _, ok := k.of(in); ok {
				t.Errorf("%T has a key", claim)
			}
		}
	}
	different := map[inputKey]string{}
	for _, claim := range []any{nil, true, false, "", "1", json.Number("1"), 1.0, 1, int64(1), []string{"1"}, []any{"1"}, []any{}, map[string]any{}, map[string]any{"1": nil}} {
		in := full()
		in.Caller.Claims = map[string]any{"x": claim}
		key := keyOf(t, all, in)
		if other, found := different[key]; found {
			t.Errorf("%T %v has the key of %s", claim, claim, other)
		}
		different[key] = fmt.Sprintf("%T %v", claim, claim)
	}
}

// keyers are what makes keys for some policies.
func keyers(tb testing.TB) map[string]keyer {
	tb.Helper()
	of := func(cfg Config) keyer {
		p, err := Load(tb.Context(), cfg)
		if err != nil {
			tb.Fatal(err)
		}
		return p.verdicts.Load().cache.key
	}
	grants := `{"metaguard": {"grants": {"instance_id": {"i": ["password:read"]}, "project_id": {"p": ["password:read"]}}}}`
	return map[string]keyer{
		"all":      allOf(),
		"built-in": of(Config{}),
		"grants":   of(Config{Paths: []string{dir(tb, files{"data.json": grants})}}),
	}
}

// A key costs no memory.
func TestKeyAllocations(t *testing.T) {
	in := instance(decision.KindMetadata, decision.Read)
	for name, k := range keyers(t) {
		if allocated := testing.AllocsPerRun(100, func() { k.of(in) }); allocated > 0 && !raced {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	in := instance(decision.KindMetadata, decision.Read)
	for name, k := range keyers(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				k.of(in)
			}
		})
	}
}
