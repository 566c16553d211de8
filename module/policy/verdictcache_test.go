// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
)

func cacheOf(e *Engine) CacheStatus { return e.Status().Cache }

// The second of two requests that a policy cannot tell apart is not evaluated,
// and is as good as the first in all else.
func TestVerdictIsRemembered(t *testing.T) {
	e := engine(t, Config{})
	first, second := instance(decision.KindMetadata, decision.Read), instance(decision.KindMetadata, decision.Read)
	second.Request.ID, second.Session.AgeSeconds = "another", 7
	a, b := e.Decide(t.Context(), first), e.Decide(t.Context(), second)
	if a.Cached || !b.Cached {
		t.Fatalf("cached: %t, then %t", a.Cached, b.Cached)
	}
	if b.Reason != decision.PolicyAllow || !b.Decision.Allow || !slices.Equal(a.Decision.Reasons, b.Decision.Reasons) ||
		!slices.Equal(a.Decision.Redact.Keys, b.Decision.Redact.Keys) || !slices.Equal(a.Rules, b.Rules) || a.Revision != b.Revision {
		t.Errorf("%+v, was %+v", b, a)
	}
	if b.Time.IsZero() || !b.Time.After(a.Time) || b.Duration <= 0 {
		t.Errorf("decided at %v, after %v, in %v", b.Time, a.Time, b.Duration)
	}
	event, err := e.Record(t.Context(), &b, About{ID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(*event.Input); !strings.Contains(text, "id:another") || !strings.Contains(text, "age_seconds:7") {
		t.Errorf("the event is of another request: %s", text)
	}
	if got := cacheOf(e); got.Hits != 1 || got.Misses != 1 || got.Entries != 1 || got.Size != DefaultCache {
		t.Errorf("%+v", got)
	}
}

// Another policy has none of the verdicts.
func TestVerdictsEndWithTheirPolicy(t *testing.T) {
	root := dir(t, files{"team.rego": "package metaguard.team\ndeny contains \"no\" if input.request.path == \"/never\"\n"})
	e := engine(t, Config{Paths: []string{root}}, WithPollInterval(1))
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	in := instance(decision.KindMetadata, decision.Read)
	for range 3 {
		if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyAllow {
			t.Fatal(r.Reason, r.Err)
		}
	}
	write(t, root+"/team.rego", "package metaguard.team\ndeny contains \"no\" if input.request.path != \"/never\"\n")
	eventually(t, "the edit is in force", func() bool { return e.Status().Loads > 1 })
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyDeny || r.Cached {
		t.Errorf("%s, cached %t", r.Reason, r.Cached)
	}
}

// What is no verdict is asked for anew, and so is everything where a policy can
// ask the world, where it prints, or where the cache is off.
func TestWhatIsNotRemembered(t *testing.T) {
	printed := 0
	printing := WithPrint(nil, func(string, int, string) { printed++ })
	for name, tt := range map[string]struct {
		rules string
		cache int
		opts  []Option
		want  decision.Reason
	}{
		"an error":          {rules: `deny contains "x" if to_number(input.request.path) == 1`, want: decision.PolicyError},
		"a malformed one":   {rules: "", want: decision.PolicyMalformed},
		"the clock":         {rules: `deny contains "x" if time.now_ns() > 0`, want: decision.PolicyDeny},
		"printing":          {rules: "deny contains \"x\" if {\nprint(\"x\")\ninput.version == 1\n}", opts: []Option{printing}, want: decision.PolicyDeny},
		"the cache is off":  {rules: `deny contains "x" if input.version == 1`, cache: -1, want: decision.PolicyDeny},
		"the id is printed": {rules: "deny contains \"x\" if {\nprint(input.request.id)\ninput.version == 1\n}", opts: []Option{printing}, want: decision.PolicyDeny},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a malformed one" { // it would not be loaded
				tt.rules = "allow contains \"x\" if input.request.id == \"now\"\nredact_json contains input.request.id if input.request.id == \"now\""
			}
			e := engine(t, Config{Cache: tt.cache, Paths: []string{dir(t, files{"team.rego": "package metaguard.team\n" + tt.rules + "\n"})}}, tt.opts...)
			printed = 0
			for range 3 {
				in := instance(decision.KindMetadata, decision.Read)
				in.Request.ID = "now"
				if r := e.Decide(t.Context(), in); r.Reason != tt.want || r.Cached {
					t.Fatalf("%s (%v), cached %t", r.Reason, r.Err, r.Cached)
				}
			}
			if len(tt.opts) > 0 && printed != 3 {
				t.Errorf("printed %d times", printed)
			}
			if got := cacheOf(e); got.Hits != 0 || got.Entries != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A verdict whose rules could not be found in time is not remembered: it would name
// too many of them for as long as the policy is in force.
func TestWhatIsNotExplainedIsNotRemembered(t *testing.T) {
	for _, explained := range []bool{false, true} {
		var result Result
		result.take(&verdict{decision: decision.Decision{Allow: true}, reason: decision.PolicyAllow, output: ast.String("x"), explained: explained})
		if remembered := result.verdict != nil; remembered != explained || !result.Decision.Allow {
			t.Errorf("explained %t: remembered %t", explained, remembered)
		}
	}
}

// A request that was given up is refused, also where the answer is known.
func TestCancelledThoughRemembered(t *testing.T) {
	e := engine(t, Config{})
	in := instance(decision.KindMetadata, decision.Read)
	e.Decide(t.Context(), in)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := e.Decide(ctx, in); r.Reason != decision.PolicyCancelled || r.Decision.Allow || r.Err == nil {
		t.Errorf("%+v", r)
	}
}

// The cache holds what it may, and callers that come in crowds do not make it
// grow.
func TestCacheIsBounded(t *testing.T) {
	root := dir(t, files{"team.rego": "package metaguard.team\ndeny contains \"no\" if startswith(input.caller.instance_id, \"x\")\n"})
	e := engine(t, Config{Cache: 100, Paths: []string{root}})
	crowd(t, e, 1000)
	live := e.Policy()
	if got := cacheOf(e); got.Entries > 100 || got.Misses != 1000 {
		t.Errorf("%+v", got)
	}
	if count := len(*live.verdicts.Load().all.Load()); count > 3 { // there is one, and those of the tries when it was loaded
		t.Errorf("%d verdicts are kept", count)
	}
}

// crowd has so many instances ask for their metadata.
func crowd(t *testing.T, e *Engine, size int) {
	t.Helper()
	for i := range size {
		in := instance(decision.KindMetadata, decision.Read)
		in.Request.Path = fmt.Sprint("/openstack/", i)
		in.Caller.InstanceID = fmt.Sprint("instance-", i)
		in.Target.InstanceID = in.Caller.InstanceID
		if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyAllow || r.CallerID() != in.Caller.ID {
			t.Fatal(r.Reason, r.CallerID())
		}
	}
}

// Callers that a policy cannot tell apart have one verdict, and one that it can has its own.
func TestAlikeCallersShareVerdicts(t *testing.T) {
	for name, document := range map[string]string{
		"a few grants":  `{"metaguard": {"grants": {"instance_id": {"instance-7": ["admin_pass:read"]}}}}`,
		"a large table": `{"metaguard": {"grants": {"instance_id": {"instance-7": ["admin_pass:read"]` + others(2000) + `}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, Config{Paths: []string{dir(t, files{"data.json": document})}})
			crowd(t, e, 100)
			if got := cacheOf(e); got.Entries != 2 || got.Misses != 2 || got.Hits != 98 {
				t.Errorf("%+v", got)
			}
			in := instance(decision.KindMetadata, decision.Read)
			in.Caller.InstanceID, in.Target.InstanceID = "instance-7", "instance-7"
			if r := e.Decide(t.Context(), in); !r.Cached || len(r.Decision.Redact.Keys) != 0 {
				t.Errorf("%+v", r)
			}
			in.Target.InstanceID = "instance-8"
			if r := e.Decide(t.Context(), in); r.Cached || r.Decision.Allow {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A claim that cannot be shown to a policy is an error also where no rule reads claims, and
// where the same caller without it has a verdict already; all others share that one.
func TestClaimsThatNobodyReads(t *testing.T) {
	e := engine(t, Config{})
	ask := func(claim any) Result {
		in := instance(decision.KindMetadata, decision.Read)
		in.Caller.Claims = map[string]any{"x": claim}
		return e.Decide(t.Context(), in)
	}
	for _, claim := range []any{"a", "b"} {
		if r := ask(claim); r.Reason != decision.PolicyAllow || r.Cached != (claim == "b") {
			t.Errorf("%v: %s, cached %t", claim, r.Reason, r.Cached)
		}
	}
	for range 2 {
		if r := ask(func() {}); r.Reason != decision.PolicyError || r.Decision.Allow || r.Input() != nil {
			t.Errorf("%+v", r)
		}
	}
}

// What may be said depends on what is asked for, also where no rule looks at it: only who
// reads a password is told that there is none.
func TestKindIsInEveryKey(t *testing.T) {
	e := engine(t, Config{Paths: []string{dir(t, whole("default decision := {\"allow\": false}\ndecision := {\"allow\": false, \"status\": 200} if input.caller.id == \"told\""))}})
	for range 2 {
		for _, tt := range []struct {
			kind   decision.Kind
			action decision.Action
			want   decision.Reason
		}{
			{decision.KindPassword, decision.Read, decision.PolicyDeny},
			{decision.KindPassword, decision.Write, decision.PolicyMalformed},
			{decision.KindMetadata, decision.Read, decision.PolicyMalformed},
		} {
			in := instance(tt.kind, tt.action)
			in.Caller.ID = "told"
			if r := e.Decide(t.Context(), in); r.Reason != tt.want {
				t.Errorf("%s of %s: %s, want %s", tt.action, tt.kind, r.Reason, tt.want)
			}
		}
	}
}

// others are so many members of an object.
func others(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, ", \"other-%d\": []", i)
	}
	return text.String()
}

// Many requests at one time, and policies that change meanwhile, get the answer
// of one policy or the other.
func TestCacheUnderEdits(t *testing.T) {
	root := dir(t, files{"team.rego": ""})
	policyOf := func(n int) string {
		return fmt.Sprintf("package metaguard.team\ndeny contains \"code_%d\" if input.version == 1\n", n)
	}
	write(t, root+"/team.rego", policyOf(0))
	e := engine(t, Config{Paths: []string{root}})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
				if r.Reason != decision.PolicyDeny || len(r.Decision.Reasons) != 1 || len(r.Rules) != 1 {
					t.Errorf("%+v", r)
					return
				}
			}
		})
	}
	for n := range 20 {
		write(t, root+"/team.rego", policyOf(n+1))
		e.Reload(t.Context())
		want := fmt.Sprint("code_", n+1)
		if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); !slices.Equal(r.Decision.Reasons, []string{want}) {
			t.Errorf("%v, want %s: the verdict of an older policy", r.Decision.Reasons, want)
		}
	}
	cancel()
	group.Wait()
}

// conditions are bodies of rules that look at the input in every way there is.
var conditions = []string{
	`input.request.id == "r1"`,
	`startswith(input.request.id, "r2")`,
	`input["request"]["id"] == "r2"`,
	`input.session.age_seconds > 10`,
	"some value in input.request\nvalue == \"r1\"",
	"some value in input.session\nvalue == 50",
	"walk(input, [_, value])\nvalue == \"r2\"",
	"some part, name\ninput[part][name] == \"r1\"",
	`object.get(input, ["request", "id"], "") == "r1"`,
	`contains(json.marshal(input.session), "50")`,
	"part := input.request\npart.id == \"r2\"",
	"name := sprintf(\"%s_%s\", [\"age\", \"seconds\"])\ninput.session[name] == 5",
	`_first(input.request)`,
	`_second with input.request.path as input.request.id`,
	`not _third`,
	`count({v | v := input.request.id; v == "r1"}) > 0`,
	"every m in [\"r1\"] { m == input.request.id }",
	`data.lists.ids[input.request.id]`,
	`data.lists.ids[input.caller.instance_id]`,
	`input.request.method == "POST"`,
	`input.request.segments[1] == "b"`,
	`count(input.request.segments) == 1`,
	`input.request.query.a[_] == "2"`,
	`input.request.headers["user-agent"] == "curl"`,
	`input.request.body.size > 100`,
	`"windows" in input.caller.roles`,
	`input.caller.claims.level == 3`,
	`input.caller.claims.level == "3"`,
	`input.caller.process.user_id == 1000`,
	`input.caller.address == "10.0.0.5"`,
	`net.cidr_contains("10.0.0.0/8", input.caller.address)`,
	`input.target.instance_id != input.caller.instance_id`,
	`input.resource.kind == "password"`,
	`input.session.valid`,
}

const helpersOfConditions = `
_first(request) if request.id == "r1"
_second if input.request.path == "r2"
_third if input.session.age_seconds == 5
`

// No cached verdict differs from what evaluation says, whatever a policy reads.
func cacheAgrees(t *rapid.T) {
	var rules strings.Builder
	rules.WriteString("package metaguard.team\n" + helpersOfConditions)
	for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
		set := rapid.SampledFrom([]string{"allow", "deny", "redact_keys"}).Draw(t, "set")
		fmt.Fprintf(&rules, "%s contains \"code_%d\" if {\n", set, i)
		for range rapid.IntRange(1, 2).Draw(t, "conditions") {
			condition := rapid.SampledFrom(conditions).Draw(t, "condition")
			fmt.Fprintf(&rules, "count({1 | %s}) == 1\n", condition) // of its own, since names come again
		}
		rules.WriteString("input.version == 1\n}\n")
	}
	team := file{name: "team.rego", rel: "team.rego", bytes: []byte(rules.String())}
	lists := file{name: "lists.json", rel: "lists.json", bytes: []byte(`{"lists": {"ids": {"r1": true, "a": true}}}`)}
	s, err := Config{Timeout: 1 << 40}.check()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.compile(context.Background(), &source{files: []file{team, lists}}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rules.String())
	}
	if p.verdicts.Load().cache == nil {
		t.Fatalf("no cache for\n%s", rules.String())
	}
	e := &Engine{settings: s}
	for range rapid.IntRange(2, 12).Draw(t, "requests") {
		in := drawInput(t, "")
		want := judgeWhole(t, p, in)
		for range 2 {
			got := e.decideCached(context.Background(), p, in)
			if !sameVerdict(&got, &want) || got.Input().Compare(want.Input()) != 0 {
				t.Fatalf("cached (%t): %+v\nevaluated: %+v\n%s", got.Cached, got, want, rules.String())
			}
		}
	}
}

func TestCacheAgrees(t *testing.T) { rapid.Check(t, cacheAgrees) }

func FuzzCacheAgrees(f *testing.F) { f.Fuzz(rapid.MakeFuzz(cacheAgrees)) }

// BenchmarkCacheMemory measures what a remembered verdict takes, in bytes of heap.
func BenchmarkCacheMemory(b *testing.B) {
	for b.Loop() {
		v := &verdict{output: ast.String("x"), explained: true}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t := newVerdicts(newVerdictCache(DefaultCache, false, keyer{}))
		t.add(v)
		for i := range DefaultCache {
			v.remember(inputKey{byte(i), byte(i >> 8), byte(i >> 16)})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/DefaultCache, "B/verdict")
		runtime.KeepAlive(t)
	}
}
