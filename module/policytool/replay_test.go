// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// replayed runs a replay that has JSON as its result.
func replayed(t testing.TB, args ...string) (report, error) {
	t.Helper()
	out, _, err := run(t, replayCommand(nil), append(args, "--format", "json")...)
	var rep report
	if decodeErr := json.Unmarshal([]byte(strings.ReplaceAll(out, `"unreadable_lines"`, `"-"`)), &rep); decodeErr != nil {
		t.Fatalf("%v: %s %v", decodeErr, out, err)
	}
	return rep, err
}

// UnmarshalText is for reading reports in tests.
func (c *change) UnmarshalText(text []byte) error {
	for *c = unchanged; c.String() != string(text); *c++ {
	}
	return nil
}

func TestReplayFindsEveryChange(t *testing.T) {
	const none = ""
	metadata := asks(decision.KindMetadata, decision.Read, "i-1", "p-1")
	password := asks(decision.KindPassword, decision.Read, "i-1", "p-1")
	write := asks(decision.KindPassword, decision.Write, "i-1", "p-1")
	unknown := asks(decision.KindUnknown, decision.Read, "i-1", "p-1")
	health := asks(decision.KindHealth, decision.Read, "i-1", "p-1")
	alice := user(decision.KindMetadata, "alice", "p-1", []string{"ops", "help desk"}, "i-1", "p-1")
	anonymous := asks(decision.KindMetadata, decision.Read, "i-1", "p-1")
	anonymous.Caller = decision.Caller{Source: "anonymous", ID: "anonymous"}
	tests := map[string]struct {
		in            decision.Input
		before, after string
		want          string
	}{
		"nothing":    {metadata, none, none, ""},
		"denied":     {metadata, none, `deny contains "no/no" if true`, "metadata:read/allow->deny/neutron:project:p-1/no%2Fno"},
		"allowed":    {unknown, none, `allow contains "now" if true`, "unknown:read/deny:404->allow/neutron:project:p-1/now"},
		"by status":  {unknown, none, "status := 403", "unknown:read/deny:404->deny:403/neutron:project:p-1/resource_unknown"},
		"emptied":    {password, `deny contains "no" if input.resource.action == "read"`, none, "password:read/deny->deny:200/neutron:project:p-1/password_read_not_granted"},
		"hidden":     {metadata, none, `redact_json contains "/meta/x" if true`, "metadata:read/redact/neutron:project:p-1/+json:%2Fmeta%2Fx"},
		"shown":      {metadata, `redact_keys contains "x" if true`, `redact_keys contains "y" if true`, "metadata:read/redact/neutron:project:p-1/+key:y,-key:x"},
		"other code": {health, none, `allow contains "mine" if true`, "health:read/codes/neutron:project:p-1/health->health+mine"},
		"roles":      {alice, none, `allow contains "mine" if true`, "metadata:read/deny->allow/keystone:role:help%20desk+ops/mine"},
		"anonymous":  {anonymous, none, `allow contains "mine" if true`, "metadata:read/deny->allow/anonymous/mine"},
		"error":      {write, none, `deny contains "no" if time.parse_rfc3339_ns(input.request.path) > 0`, "password:write/allow->policy_error/neutron:project:p-1/-"},
		"error gone": {write, `deny contains "no" if time.parse_rfc3339_ns(input.request.path) > 0`, none, "password:write/policy_error->allow/neutron:project:p-1/own_password_write"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newRecorder(t, "enforce", policyDir(t, test.before, ""))
			l.add(t, test.in)
			log := l.file(t)
			rep, err := replayed(t, "--log", log, "--policy", policyDir(t, test.after, ""), "--codes")
			if test.want == "" {
				if err != nil || len(rep.Groups) != 0 || rep.Unchanged != 1 {
					t.Fatalf("got %+v, %v", rep, err)
				}
				return
			}
			if len(rep.Groups) != 1 || rep.Groups[0].Name != test.want {
				t.Fatalf("got %+v, want %s", rep.Groups, test.want)
			}
			if err == nil || rep.Open != 1 {
				t.Errorf("a change is no error: %+v", rep)
			}
			if g := rep.Groups[0]; strings.Contains(g.New, "error") != (g.Samples[0].Error != "") {
				t.Errorf("got sample %+v", g.Samples[0])
			}
			// The name that is printed is the name that is accepted.
			if rep, err = replayed(t, "--log", log, "--policy", policyDir(t, test.after, ""), "--codes", "--accept", test.want); err != nil || rep.Accepted != 1 {
				t.Errorf("accepted: got %+v, %v", rep, err)
			}
		})
	}
}

func TestReplayTakesCodesForAChangeOnlyWhereAsked(t *testing.T) {
	l := newRecorder(t, "enforce")
	l.add(t, asks(decision.KindHealth, decision.Read, "i-1", "p-1"))
	rep, err := replayed(t, "--log", l.file(t), "--policy", policyDir(t, `allow contains "mine" if true`, ""))
	if err != nil || rep.CodesOnly != 1 || rep.Changed != 0 || rep.Unchanged != 0 || len(rep.Groups) != 1 {
		t.Errorf("got %+v, %v", rep, err)
	}
}

func TestReplayAsksAtTheRecordedTimeWithTheRecordedAnswers(t *testing.T) {
	atNoon := fmt.Sprintf(`allow contains "noon" if time.now_ns() == %d`, noon.UnixNano())
	random := `allow contains code if code := sprintf("%d", [rand.intn("x", 1000000000)])`
	tests := map[string]struct{ before, after string }{
		"time":                    {atNoon, atNoon},
		"time of another policy":  {`allow contains "noon" if true`, atNoon},
		"answers":                 {random, random},
		"answers of another time": {random, random + "\n" + `deny contains "late" if time.now_ns() > ` + fmt.Sprint(noon.UnixNano())},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newRecorder(t, "enforce", policyDir(t, test.before, ""))
			l.add(t, asks(decision.KindUnknown, decision.Read, "i-1", "p-1"))
			rep, err := replayed(t, "--log", l.file(t), "--policy", policyDir(t, test.after, ""), "--codes")
			if err != nil || rep.Unchanged != 1 {
				t.Errorf("got %+v, %v", rep.Groups, err)
			}
		})
	}
}

func TestReplayComparesWhatThePolicySaid(t *testing.T) {
	l := newRecorder(t, "enforce")
	l.add(t, asks(decision.KindMetadata, decision.Read, "i-1", "p-1"))
	text := l.lines.String()
	refused := func(reason string) string {
		return strings.Replace(strings.Replace(text, `"reason":"policy_allow"`, `"reason":"`+reason+`"`, 1), `"verdict":"allow"`, `"verdict":"deny"`, 1)
	}
	result := `"result":{"allow":true,"reasons":["own_instance"],"redact":{"keys":["admin_pass"]}},`
	if !strings.Contains(text, result) {
		t.Fatal(text)
	}
	tests := map[string]struct {
		text string
		want string
	}{
		"a latch refused":          {refused("password_already_set"), "unchanged"},
		"the client went away":     {refused("policy_cancelled"), "skipped"},
		"there was no policy":      {refused("policy_not_ready"), "skipped"},
		"the policy was not asked": {strings.Replace(refused("session_missing"), result, "", 1), "skipped"},
		"it was too slow":          {strings.Replace(refused("policy_timeout"), result, "", 1), "policy_timeout->allow"},
		"it was malformed":         {refused("policy_malformed"), "policy_malformed->allow"},
		"it was undefined":         {strings.Replace(refused("policy_undefined"), result, "", 1), "policy_undefined->allow"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			// A second decision, since a log without any is an error.
			rep, _ := replayed(t, "--log", write(t, "log", test.text+text))
			got := "unchanged"
			if rep.Skipped == 1 {
				got = "skipped"
			} else if len(rep.Groups) == 1 {
				got = rep.Groups[0].Old + "->" + rep.Groups[0].New
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// The result must not depend on which goroutine has judged what.
func TestReplayIsDeterministic(t *testing.T) {
	l := newRecorder(t, "enforce")
	kinds := []decision.Kind{decision.KindListing, decision.KindMetadata, decision.KindUserdata}
	for i := range 400 {
		l.add(t, asks(kinds[i%3], decision.Read, fmt.Sprintf("i-%d", i%50), fmt.Sprintf("p-%d", i%5)))
	}
	lines := strings.SplitAfter(strings.TrimSpace(l.lines.String()), "\n")
	lines[len(lines)-1] += "\n"
	dir := policyDir(t, "deny contains sprintf(\"by_%s\", [input.caller.project_id]) if input.resource.kind != \"metadata\"", "")
	log := write(t, "log", strings.Join(lines, ""))
	want, _, _ := run(t, replayCommand(nil), "--log", log, "--policy", dir)
	if !strings.Contains(want, "400 decisions (150 distinct): 133 unchanged, 267 changed") {
		t.Fatal(want)
	}
	for range 5 {
		rand.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		if err := os.WriteFile(log, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := run(t, replayCommand(nil), "--log", log, "--policy", dir); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestReplayNamesTheFirstUnreadableLines(t *testing.T) {
	l := newRecorder(t, "enforce")
	for i := range 300 {
		l.add(t, asks(decision.KindMetadata, decision.Read, fmt.Sprintf("i-%d", i), "p-1"))
		if i%20 == 0 {
			l.lines.WriteString("oops\n")
		}
	}
	_, warnings, err := run(t, replayCommand(nil), "--log", l.file(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"decisions.ndjson:2: no", "decisions.ndjson:23: no", "decisions.ndjson:44: no", "decisions.ndjson:65: no", "decisions.ndjson:86: no", "10 more unreadable lines"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("%q is not in %s", want, warnings)
		}
	}
}

func TestReplayStopsWithItsContext(t *testing.T) {
	l := newRecorder(t, "enforce")
	l.add(t, asks(decision.KindMetadata, decision.Read, "i-1", "p-1"))
	log := l.file(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replayLogs(ctx, l.policy, []string{log}, &progress{}); err == nil {
		t.Error("a cancelled replay has a result")
	}
}

func TestGroupsKeepLittle(t *testing.T) {
	input := ast.NewObject()
	all := groups{}
	for i := range 100 {
		r := &record{ID: fmt.Sprint(i), Time: noon.Add(-time.Duration(i) * time.Second), Input: input}
		o := outcome{reason: decision.PolicyDeny, rules: []string{fmt.Sprintf("team.rego:%d", i)}}
		if err := all.add(newGroup(r, verdictChanged, outcome{}, o, &policy.Result{})); err != nil {
			t.Fatal(err)
		}
	}
	list := all.list()
	if len(list) != 1 || list[0].Count != 100 || len(list[0].Samples) != maxSamples || len(list[0].NewRules) != maxListed {
		t.Fatalf("got %+v", list[0])
	}
	if g := list[0]; g.Samples[0].ID != "99" || !g.First.Equal(g.Samples[0].Time) || !g.Last.Equal(noon) {
		t.Errorf("got %+v", g)
	}
}

func TestNamesOfGroupsAreOneWord(t *testing.T) {
	for _, word := range []string{"", "a b", "a/b", "a\nb", "#", "ä", "a+b", "a->b", "%", "\xff"} {
		in := user(decision.Kind(word), word, "", []string{word, word + "2"}, word, word)
		in.Caller.Source = word + "s"
		r := &record{Input: inputOf(t, in)}
		for c := verdictChanged; c <= codesChanged; c++ {
			g := newGroup(r, c, outcome{codes: []string{word}, hides: []string{word}}, outcome{reason: decision.Reason("x"), codes: []string{word + "x"}}, &policy.Result{})
			names, err := acceptedIn("file", g.Name+"\n")
			if err != nil || !slices.Equal(names, []string{g.Name}) {
				t.Errorf("%q: got %q, %v", g.Name, names, err)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	p := &progress{}
	p.decisions.Store(3000)
	p.bytes.Store(50)
	if got := p.text(2*time.Second, 200); got != " 25%  3000 decisions, 1500 a second" {
		t.Errorf("got %q", got)
	}
	if got := p.text(2*time.Second, 0); got != "3000 decisions, 1500 a second" {
		t.Errorf("got %q", got)
	}
}

// BenchmarkReplay asks about 100,000 different decisions, so that none is
// judged for another.
func BenchmarkReplay(b *testing.B) {
	const decisions = 100_000
	l := newRecorder(b, "enforce")
	kinds := []decision.Kind{decision.KindListing, decision.KindMetadata, decision.KindPassword, decision.KindUserdata, decision.KindNetwork}
	for i := range decisions {
		l.add(b, asks(kinds[i%len(kinds)], decision.Read, fmt.Sprintf("i-%d", i), fmt.Sprintf("p-%d", i%100)))
	}
	log := l.file(b)
	dir := policyDir(b, `deny contains "userdata_is_closed" if {
	input.resource.kind == "userdata"
	not "batch" in input.caller.roles
}`, "")
	b.SetBytes(int64(l.lines.Len()))
	for b.Loop() {
		if _, _, err := run(b, replayCommand(nil), "--log", log, "--policy", dir); err == nil {
			b.Fatal("nothing changed")
		}
	}
	b.ReportMetric(float64(b.N)*decisions/b.Elapsed().Seconds(), "decisions/s")
}
