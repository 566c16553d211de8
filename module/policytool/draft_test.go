// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// drafted runs a draft into a directory and gives its grants.
func drafted(t testing.TB, args ...string) (dir string, grants map[string]map[string][]string, summary string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "draft")
	summary, _, err := run(t, draftCommand(nil), append(args, "--output", dir)...)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, dataFile))
	if errors.Is(err, os.ErrNotExist) {
		return dir, nil, summary
	}
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Metaguard struct {
			Grants map[string]map[string][]string
		}
	}
	if err := json.Unmarshal(content, &data); err != nil {
		t.Fatal(err)
	}
	return dir, data.Metaguard.Grants, summary
}

// passes runs the tests of a draft.
func passes(t testing.TB, paths ...string) {
	t.Helper()
	if out, warnings, err := run(t, testCommand(nil), paths...); err != nil {
		t.Errorf("the tests of the draft fail: %v %s %s", err, out, warnings)
	}
}

func TestDraftGoesToTheNarrowestHolder(t *testing.T) {
	instance := asks(decision.KindUserdata, decision.Read, "i-1", "p-1")
	instance.Target.InstanceID = "i-2"
	roles := []string{"ops", "dev"}
	alice := user(decision.KindUserdata, "alice", "p-1", roles, "i-1", "p-1")
	nobody := user(decision.KindUserdata, "nobody", "", nil, "i-1", "p-1")
	tests := map[string]struct {
		in                   decision.Input
		by, attribute, value string
		target               string
	}{
		"an instance":            {instance, "", "instance_id", "i-1", "target:project"},
		"an instance, by id":     {instance, "caller_id", "caller_id", "instance:i-1", "target:project"},
		"a project":              {instance, "project_id", "project_id", "p-1", "target:project"},
		"no role":                {instance, "role", "instance_id", "i-1", "target:project"},
		"a user":                 {alice, "", "caller_id", "user:alice", "target:project"},
		"a user, by instance":    {alice, "instance_id", "caller_id", "user:alice", "target:project"},
		"a role":                 {alice, "role", "role", "dev", "target:project"},
		"no project":             {nobody, "project_id", "caller_id", "user:nobody", "target:any"},
		"neither project or any": {nobody, "role", "caller_id", "user:nobody", "target:any"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newRecorder(t, "audit")
			l.add(t, test.in)
			args := []string{"--log", l.file(t), "--include", "target:any"}
			if test.by != "" {
				args = append(args, "--by", test.by)
			}
			dir, grants, _ := drafted(t, args...)
			want := []string{test.target, "userdata:read"}
			if len(grants) != 1 || len(grants[test.attribute]) != 1 || !slices.Equal(grants[test.attribute][test.value], want) {
				t.Errorf("got %v", grants)
			}
			passes(t, dir)
		})
	}
}

func TestDraftLeavesOutWhatIsDangerous(t *testing.T) {
	stranger := user(decision.KindMetadata, "eve", "p-2", nil, "i-1", "p-1")
	foreign := user(decision.KindPassword, "eve", "p-1", nil, "i-1", "p-1")
	foreign.Resource.Action = decision.Write
	tests := map[string]struct {
		in   decision.Input
		want []string
	}{
		"password":    {asks(decision.KindPassword, decision.Read, "i-1", "p-1"), []string{"password:read"}},
		"credentials": {asks(decision.KindCredentials, decision.Read, "i-1", "p-1"), []string{"credentials:read"}},
		"any target":  {stranger, []string{"metadata:read", "target:any"}},
		"a write":     {foreign, []string{"password:write", "target:project"}},
		"admin_pass":  {asks(decision.KindMetadata, decision.Read, "i-1", "p-1"), []string{"admin_pass:read"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newRecorder(t, "audit")
			l.add(t, test.in)
			log := l.file(t)
			_, grants, summary := drafted(t, "--log", log)
			if grants != nil || !strings.Contains(summary, "LEFT OUT") || !strings.Contains(summary, strings.Join(test.want, " ")) {
				t.Errorf("got %v, %s", grants, summary)
			}
			args := []string{"--log", log}
			for _, name := range test.want {
				if slices.Contains(sensitive, name) {
					args = append(args, "--include", name)
				}
			}
			dir, grants, summary := drafted(t, args...)
			var got []string
			for _, values := range grants {
				for _, names := range values {
					got = append(got, names...)
				}
			}
			if !slices.Equal(got, test.want) || strings.Contains(summary, "LEFT OUT") {
				t.Errorf("got %v, %s", grants, summary)
			}
			passes(t, dir)
		})
	}
}

func TestDraftTellsWhatNoGrantHelps(t *testing.T) {
	alice := user(decision.KindUserdata, "alice", "p-1", []string{"dev"}, "i-1", "p-1")
	tests := map[string]struct {
		in   decision.Input
		rego string
		want string
	}{
		"a rule denies":            {alice, `deny contains "closed" if input.resource.kind == "userdata"`, "closed "},
		"a rule denies the holder": {alice, `deny contains "void" if "userdata:read" in data.metaguard.granted`, "void "},
		"a rule fails":             {alice, `deny contains "x" if time.parse_rfc3339_ns(input.request.path) > 0`, "policy_error"},
		"there is no grant":        {asks(decision.KindUnknown, decision.Read, "i-1", "p-1"), "", "resource_unknown "},
		"nobody asks":              {user(decision.KindUserdata, "", "p-1", nil, "i-1", "p-1"), "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if name == "nobody asks" {
				test.in.Caller.ID, test.want = "user:\n\x7f", "nothing to key a grant by"
			}
			dir := policyDir(t, test.rego, "")
			l := newRecorder(t, "audit", dir)
			l.add(t, test.in)
			_, grants, summary := drafted(t, "--log", l.file(t), "--policy", dir)
			if grants != nil || !strings.Contains(summary, "NO GRANT HELPS") || !strings.Contains(summary, "\n"+test.want) && !strings.Contains(summary, test.want+" built-in") {
				t.Errorf("got %v, %s", grants, summary)
			}
		})
	}
}

func TestDraftGivesUpOnlyWhatARuleForbids(t *testing.T) {
	dir := policyDir(t, `deny contains "void" if {
	input.resource.kind == "userdata"
	"userdata:read" in data.metaguard.granted
}`, "")
	l := newRecorder(t, "audit", dir)
	l.add(t, user(decision.KindUserdata, "alice", "p-1", nil, "i-1", "p-1"))
	l.add(t, user(decision.KindMetadata, "alice", "p-1", nil, "i-1", "p-1"))
	out, grants, summary := drafted(t, "--log", l.file(t), "--policy", dir)
	if got := grants["caller_id"]["user:alice"]; !slices.Equal(got, []string{"metadata:read", "target:project"}) || !strings.Contains(summary, "\nvoid ") {
		t.Errorf("got %v, %s", grants, summary)
	}
	passes(t, dir, out)
}

func TestDraftAddsToThePolicyInForce(t *testing.T) {
	dir := policyDir(t, "", `{"metaguard": {"grants": {
		"role": {"dev": ["target:project"]},
		"instance_id": {"i-1": ["userdata:read"]},
		"caller_id": {"user:bob": ["health:read"]}}}}`)
	l := newRecorder(t, "audit")
	l.add(t, user(decision.KindUserdata, "alice", "p-1", []string{"dev"}, "i-1", "p-1"))
	instance := asks(decision.KindMetadata, decision.Read, "i-1", "p-1")
	instance.Target.InstanceID = "i-2"
	l.add(t, instance)
	l.add(t, user(decision.KindMetadata, "bob", "p-1", nil, "i-1", "p-1"))
	out, grants, summary := drafted(t, "--log", l.file(t), "--policy", dir)
	if got := grants["caller_id"]["user:alice"]; !slices.Equal(got, []string{"userdata:read"}) {
		t.Errorf("a grant is drafted that is held already: %v", grants)
	}
	// A second list for the same holder would not load beside the first.
	if got := grants["caller_id"]["instance:i-1"]; !slices.Equal(got, []string{"metadata:read", "target:project"}) {
		t.Errorf("got %v", grants)
	}
	if !strings.Contains(summary, "caller_id user:bob has grants in the policy's data: add metadata:read target:project to them by hand") {
		t.Errorf("got %s", summary)
	}
	passes(t, dir, out)
}

func TestDraftTakesEnforcedDenialsWhereAsked(t *testing.T) {
	l := newRecorder(t, "enforce")
	l.add(t, user(decision.KindUserdata, "alice", "p-1", nil, "i-1", "p-1"))
	// What another part of Metaguard refused is not the policy's.
	late := strings.Replace(strings.ReplaceAll(l.lines.String(), "alice", "bob"), "policy_deny", "rate_limited", 1)
	log := write(t, "log", l.lines.String()+late)
	if _, grants, summary := drafted(t, "--log", log); grants != nil || !strings.Contains(summary, "1 were denied in earnest") {
		t.Errorf("got %v, %s", grants, summary)
	}
	if _, grants, _ := drafted(t, "--log", log, "--denied"); len(grants["caller_id"]) != 1 {
		t.Errorf("got %v", grants)
	}
}

func TestDraftWritesTestsThatNothingBreaks(t *testing.T) {
	dir := policyDir(t, fmt.Sprintf("deny contains \"late\" if time.now_ns() > %d", noon.UnixNano()), "")
	l := newRecorder(t, "audit")
	for _, id := range []string{`a"b`, "{{}}", "`", "a b", "a_b", "ä\u2028\u00a0", "test"} {
		l.count = 0
		l.add(t, user(decision.KindUserdata, id, "p-1", nil, "i-1", "p-1"))
	}
	out, grants, _ := drafted(t, "--log", l.file(t), "--policy", dir)
	if len(grants["caller_id"]) != 7 {
		t.Errorf("got %v", grants)
	}
	passes(t, dir, out)
	if _, _, err := run(t, fmtCommand(nil), "--check", filepath.Join(out, testFile)); err != nil {
		t.Error(err)
	}
}

// Whatever was asked for: a draft allows all that it is for, and each grant of
// it is needed.
func TestDraftIsEnoughAndMinimal(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			wide := seed%2 == 0
			args := []string{"--log", someRequests(t, random), "--include", "password:read,credentials:read"}
			if wide {
				args = append(args, "--include", "target:any")
			}
			if by := seed % 5; by > 0 {
				args = append(args, "--by", attributes[by-1])
			}
			dir, grants, summary := drafted(t, args...)
			made, leftOut, _ := strings.Cut(summary, "LEFT OUT")
			if !wide && strings.Contains(made, "target:any") || wide && strings.Contains(leftOut, "target:any") {
				t.Errorf("target:any is included: %v; got %s", wide, summary)
			}
			if grants == nil {
				return
			}
			passes(t, dir)
			allowed := allowedBy(t, args[1], grants)
			if wide && allowed != 16 {
				t.Errorf("the draft allows %d of 16: %s", allowed, summary)
			}
			for attribute, values := range grants {
				for value, names := range values {
					for _, name := range names {
						values[value] = slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name })
						if allowedBy(t, args[1], grants) >= allowed {
							t.Errorf("%s of %s %s is not needed: %v", name, attribute, value, grants)
						}
					}
					values[value] = names
				}
			}
		})
	}
}

// someRequests is a log of 16 requests that grants would allow.
func someRequests(t testing.TB, random *rand.Rand) string {
	t.Helper()
	one := func(words ...string) string { return words[random.IntN(len(words))] }
	l := newRecorder(t, "audit")
	for range 16 {
		kind := decision.Kind(one("metadata", "userdata", "password", "health", "credentials"))
		in := asks(kind, decision.Read, one("i-1", "i-2"), one("", "p-1", "p-2"))
		if random.IntN(2) == 0 {
			in = user(kind, one("x", "y"), one("", "p-1", "p-2"), strings.Fields(one("", "a", "a b", "b c", "a b c")), "i-1", "p-1")
		}
		in.Target.ProjectID = one("p-1", "p-2")
		in.Target.InstanceID = one("i-3", in.Target.InstanceID)
		l.add(t, in)
	}
	return l.file(t)
}

// allowedBy counts the decisions in a log that some grants allow.
func allowedBy(t testing.TB, log string, grants map[string]map[string][]string) (allowed int) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"metaguard": map[string]any{"grants": grants}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(t.Context(), policy.Config{Paths: []string{policyDir(t, "", string(data))}})
	if err != nil {
		t.Fatal(err)
	}
	all, _ := readAll(t, log)
	for _, r := range all {
		if p.Judge(t.Context(), policy.Query{Input: r.Input, Time: r.Time, Unbounded: true}).Decision.Allow {
			allowed++
		}
	}
	return allowed
}
