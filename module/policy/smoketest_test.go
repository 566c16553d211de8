// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/pace"
)

func samplesOfOpenStack() []decision.Input { return dialect.Samples(dialect.OpenStack{}) }

// A policy that allows what the built-in one would not is refused, whatever it
// looks like, and accepted where its data names exactly that.
func TestSmokeTest(t *testing.T) {
	team := func(rules string) files { return files{"team.rego": "package metaguard.team\n\n" + rules + "\n"} }
	for name, test := range map[string]struct {
		content files
		want    []string // what the hints name
	}{
		"any password": {
			team(`allow contains "any_password" if input.resource.kind == "password"`),
			[]string{
				"password:read by own", "password:read by other_instance", "password:read by other_project", "password:read by in_session", "password:read by project_user", "password:read by no_project", "password:read by anonymous",
				"password:write by other_instance", "password:write by other_project", "password:write by in_session", "password:write by project_user", "password:write by no_project", "password:write by anonymous",
			},
		},
		"own password": {
			team(`allow contains "own_password" if { input.resource.kind == "password"; data.metaguard.own }`),
			[]string{"password:read by own"},
		},
		"the project's user data": {
			team(`allow contains "project" if { input.resource.kind == "userdata"; input.caller.project_id == input.target.project_id; input.caller.project_id != "" }`),
			[]string{"userdata:read by other_instance", "userdata:read by project_user"},
		},
		"projects compared without looking whether there is one": {
			team(`allow contains "project" if { input.resource.kind == "userdata"; input.caller.project_id == input.target.project_id }`),
			[]string{"userdata:read by other_instance", "userdata:read by project_user", "userdata:read by anonymous"},
		},
		"a path that nobody knows": {
			team(`allow contains "home_grown" if { input.resource.kind == "unknown"; input.caller.instance_id != "" }`),
			[]string{"unknown:read by own", "unknown:read by other_instance", "unknown:read by other_project", "unknown:read by in_session"},
		},
		"a grant that opens more than it says": {
			team(`allow contains "trusted" if { "metadata:read" in data.metaguard.granted; input.resource.kind == "password"; input.resource.action == "read" }`),
			[]string{"password:read by own without password:read", "password:read by other_instance without password:read", "password:read by other_project without target:any"},
		},
		"a session opens all": {
			team(`allow contains "session" if { input.session.valid; input.resource.kind == "metadata" }`),
			[]string{"metadata:read by in_session"},
		},
		"somebody":       {team(`allow contains "officer" if { input.resource.kind == "password"; input.caller.id == "user:officer" }`), []string{}},
		"another header": {team(`allow contains "agent" if { input.resource.kind == "userdata"; data.metaguard.own; input.request.headers["user-agent"] == "x" }`), []string{}},
		"a denial":       {team(`deny contains "all" if true`), []string{}},
		"grants":         {files{"data.json": `{"metaguard": {"grants": {"caller_id": {"anonymous": ["password:read", "target:any"]}}}}`}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			root := dir(t, test.content)
			config := Config{Paths: []string{root}, Samples: samplesOfOpenStack()}
			_, err := Load(t.Context(), config)
			if len(test.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("loaded")
			}
			found := findingsOf(t, err)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), fmt.Sprintf("%q", want)) {
					t.Errorf("%q is not found in\n%v", want, err)
				}
			}
			if len(found) != 1 {
				t.Errorf("one rule gives %d findings", len(found))
			}
			for _, finding := range found {
				if finding.Code != CodeSmokeTest || !strings.HasSuffix(finding.File, ".rego") || finding.Line == 0 || !strings.Contains(finding.Message, "allows") {
					t.Errorf("%+v", finding)
				}
			}
			// Accepted by name, it loads; with one name missing it does not.
			var names []string
			for _, finding := range found {
				names = append(names, regexp.MustCompile(`"[^"]*"`).FindAllString(finding.Hint, -1)...)
			}
			if len(names) != len(test.want) && name != "a grant that opens more than it says" {
				t.Errorf("%v, want %v", names, test.want)
			}
			accept := func(names []string) error {
				write(t, root+"/data.json", `{"metaguard": {"settings": {"accept": [`+strings.Join(names, ",")+`]}}}`)
				_, err := Load(t.Context(), config)
				return err
			}
			if err := accept(names); err != nil {
				t.Errorf("accepted, and refused all the same: %v", err)
			}
			if err := accept(names[1:]); err == nil || len(findingsOf(t, err)) != 1 {
				t.Errorf("one finding is not accepted: %v", err)
			}
		})
	}
}

// A policy that replaces the built-in one must hide what that one hides.
func TestSmokeTestShows(t *testing.T) {
	root := dir(t, whole(`default decision := {"allow": false}

decision := {"allow": true, "reasons": ["mine"]} if {
	input.resource.kind in {"metadata", "listing"}
	input.caller.instance_id == input.target.instance_id
	input.caller.instance_id != ""
}`))
	_, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack()})
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"metadata:read by own shows admin_pass", "listing:read by own shows admin_pass"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not found in\n%v", want, err)
		}
	}
}

// A whole policy that shows admin_pass to holders of another grant is found too.
func TestSmokeTestTakesAdminPassAway(t *testing.T) {
	root := dir(t, whole(`default decision := {"allow": false}

decision := {"allow": true, "reasons": ["mine"]} if {
	input.resource.kind == "metadata"
	input.caller.instance_id == input.target.instance_id
	"metadata:read" in data.metaguard.grants.caller_id[input.caller.id]
}`))
	_, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack()})
	if err == nil || !strings.Contains(err.Error(), `"metadata:read by own shows admin_pass"`) {
		t.Errorf("%v", err)
	}
}

// What takes too long is not taken for a refusal.
func TestSmokeTestIsNotTimedOut(t *testing.T) {
	root := dir(t, files{"team.rego": `package metaguard.team

allow contains "any" if {
	input.resource.kind == "password"
	count([x | some x in numbers.range(1, 4000); x % 7 == 3]) > 0
}
`})
	_, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack(), Timeout: time.Microsecond})
	if err == nil || !strings.Contains(err.Error(), `"password:read by own"`) {
		t.Errorf("%v", err)
	}
}

// A whole policy that allows everything is one finding, at its decision.
func TestSmokeTestOfAWholePolicy(t *testing.T) {
	root := dir(t, whole("default decision := {\"allow\": true}"))
	_, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack()})
	if err == nil {
		t.Fatal("loaded")
	}
	found := findingsOf(t, err)
	if len(found) != 1 || found[0].File != root+"/policy.rego" || found[0].Line != 3 ||
		!strings.Contains(found[0].Hint, "replaces the built-in one") || !strings.HasSuffix(found[0].Message, " more") {
		t.Errorf("%+v", found)
	}
}

// A sample that cannot be decided, and data that nobody reads, are no reason to
// refuse a policy, but told.
func TestWarnings(t *testing.T) {
	root := dir(t, files{
		"team.rego": "package metaguard.team\n\nstatus := 403 if input.resource.kind == \"password\"\n\nstatus := 404 if input.request.method == \"POST\"\n\ndeny contains \"x\" if input.caller.id == data.read\n",
		"data.json": "{\"read\": 1,\n\"unread\": 2}",
	})
	loaded, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack()})
	if err != nil {
		t.Fatal(err)
	}
	warnings := loaded.Warnings()
	if len(warnings) != 2 || warnings[0].Code != CodeDataUnread || warnings[0].Line != 2 || !strings.Contains(warnings[1].Message, "policy_error") {
		t.Errorf("%+v", warnings)
	}
}

// An edit's warnings are told when it is live, and those of a policy that is not
// tried among them.
func TestWarningsOfAnEdit(t *testing.T) {
	root := dir(t, files{"data.json": "{}"})
	var told []Finding
	e := engine(t, Config{Paths: []string{root}, AllowBuiltins: []string{"http.send"}}, WithLoadHook(func(event LoadEvent) { told = append(told, event.Warnings...) }))
	write(t, root+"/data.json", `{"unread": 1}`)
	e.reload(t.Context())
	if len(told) != 2 || told[0].Code != CodeDataUnread || !strings.Contains(told[1].Message, "left out") {
		t.Errorf("%+v", told)
	}
}

// A candidate beside a configuration of OPA may hold rules for OPA, which come
// into force with it.
func TestSystemRulesOfACandidate(t *testing.T) {
	root := dir(t, files{"log.rego": "package system.log\n\nmask contains \"/input/request/host\"\n"})
	if _, err := Load(t.Context(), Config{Paths: []string{root}}); err == nil || !strings.Contains(err.Error(), "nothing reads package system.log") {
		t.Errorf("%v", err)
	}
	if _, err := Load(t.Context(), Config{Paths: []string{root}, SystemRules: true}); err != nil {
		t.Error(err)
	}
}

// What is accepted and not found is told, since it would accept a later mistake.
func TestAcceptedButNotFound(t *testing.T) {
	root := dir(t, files{"data.json": `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`})
	loaded, err := Load(t.Context(), Config{Paths: []string{root}, Samples: samplesOfOpenStack()})
	if err != nil {
		t.Fatal(err)
	}
	if warnings := loaded.Warnings(); len(warnings) != 1 || warnings[0].Code != CodeAcceptUnused {
		t.Errorf("%+v", warnings)
	}
}

// BenchmarkSmokeTest measures what the smoke test adds to a load.
func BenchmarkSmokeTest(b *testing.B) {
	root := dir(b, files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"token\"\n"})
	for name, samples := range map[string][]decision.Input{"without": nil, "with": samplesOfOpenStack()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Load(b.Context(), Config{Paths: []string{root}, Samples: samples}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// At a gentle pace a smoke test rests, and has as much time for its work as at once.
func TestSmokeTestRests(t *testing.T) {
	p := pace.Gentle(nil)
	a := newAsking(p)
	for until := time.Now().Add(time.Minute); ; {
		ctx, cancel := a.next(t.Context())
		deadline, _ := ctx.Deadline()
		cancel()
		if got := deadline.Sub(a.until); got != p.Rested() {
			t.Fatalf("%v more after rests of %v", got, p.Rested())
		}
		if p.Rested() > 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatal("it never rests")
		}
	}
}
