// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// A bundle's name that OPA reads as a URL would put its rules where nobody looks
// for them, so that its denials were gone without a word.
func TestBundleNames(t *testing.T) {
	for _, name := range []string{"team:v1", "team#1", "team?x=1", "team%20x", "./team", "/team", "team/", "a/../team", "a//b", "a/b", "http://h/p", "built-in:metaguard", "metaguard-local", "", ".hidden"} {
		path := t.TempDir() + "/opa.json"
		write(t, path, fmt.Sprintf(`{"services": {"s": {"url": "http://localhost"}}, "bundles": {%q: {"service": "s", "resource": "x"}}}`, name))
		if _, err := New(t.Context(), Config{OPA: path}); err == nil || !strings.Contains(err.Error(), "the name of bundle") {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The same by discovery: what it says is not taken, and nothing is decided.
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.put("discovery.tar.gz", tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": `{"bundles": {"team:v1": {"service": "s", "resource": "team.tar.gz"` + fast + `}}}`}))
	e := remoteEngine(t, Config{ReadyTimeout: 200 * time.Millisecond, OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	eventually(t, "discovery is asked", func() bool { return s.requests("/discovery.tar.gz") > 1 })
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyNotReady {
		t.Errorf("%+v", r)
	}
}

// A bundle cannot change what OPA notes about another one.
func TestBundleOfSystem(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.put("other.tar.gz", tarball(t, files{
		".manifest":                     `{"revision": "o1", "roots": ["system/bundles"]}`,
		"system/bundles/team/data.json": `{"manifest": {"roots": ["elsewhere"], "revision": "r1"}}`,
	}))
	e := remoteEngine(t, Config{ReadyTimeout: 200 * time.Millisecond, OPA: opaFile(t, s,
		`"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}, "other": {"service": "s", "resource": "other.tar.gz"`+fast+`}}`)})
	eventually(t, "the bundle is refused", func() bool { return strings.Contains(e.Status().LastError, "belongs to OPA itself") })
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyNotReady {
		t.Errorf("%+v", r)
	}
}

// Discovery that changes a bundle's settings is a commit that must not fail: OPA
// panics. What a policy allows may depend on the time by then.
func TestDiscoveryThatCannotBeRefused(t *testing.T) {
	s := newBundleServer(t)
	discovered := func(resource string) []byte {
		return tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": fmt.Sprintf(`{"bundles": {"team": {"service": "s", "resource": %q%s}}}`, resource, fast)})
	}
	open := time.Now().Add(6 * time.Second).UnixNano()
	content := tarball(t, files{
		".manifest": `{"revision": "r1", "roots": ["metaguard/team"]}`,
		"team.rego": fmt.Sprintf("package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"userdata\"\n\nallow contains \"late\" if {\n\tinput.resource.kind == \"password\"\n\ttime.now_ns() > %d\n}\n", open),
	})
	s.put("one.tar.gz", content)
	s.put("two.tar.gz", content)
	s.put("discovery.tar.gz", discovered("one.tar.gz"))
	e := remoteEngine(t, Config{Samples: samplesOfOpenStack(), OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	in := instance(decision.KindUserdata, decision.Read)
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyDeny {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the time has come", func() bool { return time.Now().UnixNano() > open })
	s.put("discovery.tar.gz", discovered("two.tar.gz"))
	eventually(t, "the other resource is asked", func() bool { return s.requests("/two.tar.gz") > 0 })
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyDeny {
		t.Errorf("%+v", r)
	}
}

// Of files that were refused nothing is in force, also not their masks.
func TestMaskOfARefusedEdit(t *testing.T) {
	sink := newLogSink(t)
	root := dir(t, files{
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"token\"\n",
		"log.rego":  "package system.log\n\nmask contains \"/input/request/host\"\n",
	})
	e := remoteEngine(t, Config{Paths: []string{root}, OPA: logConfig(t, sink.URL, "")})
	for _, edit := range []files{
		{"team.rego": "package metaguard.team\n\ndenny contains \"x\" if true\n", "log.rego": "package system.log\n\nmask contains \"/input/request/path\"\n"},
		{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"token\"\n", "log.rego": "package system.log\n\nmask contains {\n"},
	} {
		for name, text := range edit {
			write(t, root+"/"+name, text)
		}
		e.reload(t.Context())
		if e.Status().LastError == "" {
			t.Fatal("the edit was taken")
		}
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		event, err := e.Record(t.Context(), &result, About{ID: "x"})
		if err != nil || event == nil || len(event.Erased) != 1 || event.Erased[0] != "/input/request/host" {
			t.Errorf("%v %+v", err, event)
		}
	}
}

// What builtins are called with can be a secret, and is in no event.
func TestNoSecretsOfBuiltinsInEvents(t *testing.T) {
	t.Setenv("METAGUARD_TEST_PLANTED", "planted-environment")
	root := dir(t, files{"team.rego": `package metaguard.team

allow contains "x" if {
	input.resource.kind == "unknown"
	count(io.jwt.encode_sign({"typ": "JWT", "alg": "HS256"}, {"a": 1}, {"kty": "oct", "k": "cGxhbnRlZC1rZXk"})) > 0
	opa.runtime().env.METAGUARD_TEST_PLANTED != ""
	time.now_ns() > 0
}
`})
	e := engine(t, Config{Paths: []string{root}, AllowBuiltins: []string{"opa.runtime"}})
	result := e.Decide(t.Context(), instance(decision.KindUnknown, decision.Read))
	if result.Reason != decision.PolicyAllow {
		t.Fatalf("%+v", result)
	}
	event, err := e.Record(t.Context(), &result, About{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(event)
	if err != nil || strings.Contains(string(line), "planted-environment") || strings.Contains(string(line), "cGxhbnRlZC1rZXk") || !strings.Contains(string(line), "time.now_ns") {
		t.Errorf("%v %s", err, line)
	}
}

// A token in a URL is in no status and no log line.
func TestNoTokensOfURLs(t *testing.T) {
	const text = `request failed: Get "https://host:1/b?sig=planted&x=1": EOF`
	if got := withoutQueries(text); strings.Contains(got, "planted") || !strings.Contains(got, `"https://host:1/b?[redacted]": EOF`) {
		t.Error(got)
	}
	// Through the whole of it: a server that is not there.
	path := t.TempDir() + "/opa.json"
	write(t, path, `{"services": {"s": {"url": "http://127.0.0.1:1"}}, "bundles": {"team": {"service": "s", "resource": "b?sig=planted"`+fast+`}}}`)
	e := remoteEngine(t, Config{OPA: path})
	eventually(t, "the failure is noted", func() bool { return e.Status().LastError != "" })
	if status, err := json.Marshal(e.Status()); err != nil || strings.Contains(string(status), "planted") {
		t.Errorf("%v %s", err, status)
	}
	var logged string
	logger := opaLogger{log: func(_, message string, fields map[string]any) { logged = fmt.Sprint(message, fields) }}
	logger.WithFields(map[string]any{"url": "http://h/b?sig=planted"}).Error("%v", errors.New(text))
	if strings.Contains(logged, "planted") {
		t.Error(logged)
	}
}

// To refuse what cannot be kept takes something that keeps, wherever its
// configuration comes from.
func TestLogFullNeedsALog(t *testing.T) {
	const services = "services: {s: {url: 'http://localhost'}, t: {url: 'http://localhost'}}\n"
	for name, text := range map[string]string{
		"no log":       services,
		"no service":   services + "decision_logs: {console: true}\n",
		"which one":    services + "decision_logs: {}\n",
		"a rate limit": services + "decision_logs: {service: s, reporting: {buffer_type: event, max_decisions_per_second: 10}}\n",
		"by size":      services + "decision_logs: {service: s, reporting: {buffer_type: size, buffer_size_limit_bytes: 100000}}\n",
		"too small":    services + "decision_logs: {service: s, reporting: {buffer_size_limit_events: 10}}\n",
	} {
		path := t.TempDir() + "/opa.yaml"
		write(t, path, text)
		if _, err := New(t.Context(), Config{OPA: path, RefuseUnlogged: true}); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := New(t.Context(), Config{RefuseUnlogged: true}); err == nil {
		t.Error("loaded without a configuration of OPA")
	}
	s := newBundleServer(t)
	s.put("discovery.tar.gz", tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": `{"decision_logs": {"service": "s", "reporting": {"buffer_size_limit_events": 20}}}`}))
	e := remoteEngine(t, Config{RefuseUnlogged: true, OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	eventually(t, "the buffer that discovery gave is full", func() bool {
		_, err := e.Record(t.Context(), &result, About{ID: "x"})
		return errors.Is(err, ErrLogFull)
	})
}

// A rule that fails makes OPA let the event go; that is noticed, also where another rule
// may say to drop an event.
func TestFailingMask(t *testing.T) {
	sink := newLogSink(t)
	const (
		mask = "package system.log\n\nmask contains \"/requested_by\"\n"
		drop = "\ndrop if input.input.resource.kind == \"health\"\n"
	)
	for name, rules := range map[string]string{
		"mask": mask, "mask beside drop": mask + drop,
		"drop": "package system.log\n\ndrop := x if some x in [true, false]\n",
	} {
		root := dir(t, files{"log.rego": rules})
		for _, refuse := range []bool{false, true} {
			e := remoteEngine(t, Config{Paths: []string{root}, RefuseUnlogged: refuse, OPA: logConfig(t, sink.URL, "")})
			result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
			event, err := e.Record(t.Context(), &result, About{ID: "x"})
			if event != nil || errors.Is(err, ErrLogFull) != refuse || e.DroppedEvents()["lost"] != 1 {
				t.Errorf("%s, refuse %v: %v %v %v", name, refuse, event, err, e.DroppedEvents())
			}
			if !strings.HasSuffix(rules, drop) {
				continue
			}
			result = e.Decide(t.Context(), instance(decision.KindHealth, decision.Read))
			if event, err := e.Record(t.Context(), &result, About{ID: "y"}); event != nil || err != nil || e.DroppedEvents()["lost"] != 1 {
				t.Errorf("%s, refuse %v, what a rule drops: %v %v %v", name, refuse, event, err, e.DroppedEvents())
			}
		}
	}
}

// Bundles that are still to come bring what local files need.
func TestLocalFilesNeedABundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("more.tar.gz", tarball(t, files{
		".manifest": `{"revision": "m1", "roots": ["metaguard/settings", "metaguard/team"]}`,
		"data.json": `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`,
		"team.rego": "package metaguard.team\n\ndeny contains \"closed\" if data.library.closed\n",
	}))
	root := dir(t, files{
		"library.rego": "package library\n\nclosed if input.resource.kind == \"userdata\"\n",
		"own.rego":     "package metaguard.team\n\nallow contains \"own\" if {\n\tinput.resource.kind == \"password\"\n\tinput.resource.action == \"read\"\n\tdata.metaguard.own\n}\n",
	})
	e := remoteEngine(t, Config{Paths: []string{root}, Samples: samplesOfOpenStack(), OPA: opaFile(t, s, `"bundles": {"more": {"service": "s", "resource": "more.tar.gz"`+fast+`}}`)})
	if r := e.Decide(t.Context(), instance(decision.KindPassword, decision.Read)); r.Reason != decision.PolicyAllow {
		t.Errorf("%+v %+v", r, e.Status())
	}
}

// An edit that did not go with the bundles goes with the next ones.
func TestPendingEdit(t *testing.T) {
	s := newBundleServer(t)
	bundle := func(revision, data string) []byte {
		return tarball(t, files{".manifest": `{"revision": "` + revision + `", "roots": ["shared"]}`, "data.json": data})
	}
	s.put("b.tar.gz", bundle("r1", `{"shared": {"x": 1}}`))
	root := dir(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.caller.id == data.shared.x\n"})
	e := remoteEngine(t, Config{Paths: []string{root}, OPA: opaFile(t, s, `"bundles": {"b": {"service": "s", "resource": "b.tar.gz"`+fast+`}}`)}, WithPollInterval(5*time.Millisecond))
	in := instance(decision.KindUserdata, decision.Read)
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyAllow {
		t.Fatalf("%+v", r)
	}
	write(t, root+"/data.json", `{"shared": {"x": 2}}`)
	write(t, root+"/team.rego", "package metaguard.team\n\ndeny contains \"urgent\" if input.resource.kind == \"userdata\"\n\ndeny contains \"x\" if input.caller.id == data.shared.x\n")
	eventually(t, "the edit is refused", func() bool { return strings.Contains(e.Status().LastError, "is also in") })
	s.put("b.tar.gz", bundle("r2", `{"shared": {"y": 1}}`))
	eventually(t, "the edit is live", func() bool {
		return e.Decide(t.Context(), in).Reason == decision.PolicyDeny && e.Status().LastError == ""
	})
}

// A discovered configuration of the old form would go around the bounds.
func TestDiscoveredOldBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.put("discovery.tar.gz", tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": `{"bundle": {"name": "team", "service": "s", "resource": "team.tar.gz"}}`}))
	e := remoteEngine(t, Config{ReadyTimeout: 200 * time.Millisecond, OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	eventually(t, "discovery is asked", func() bool { return s.requests("/discovery.tar.gz") > 1 })
	if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); r.Reason != decision.PolicyNotReady || s.requests("/bundles/team") > 0 {
		t.Errorf("%+v, %d requests", r, s.requests("/bundles/team"))
	}
}

// A request that outlives its configuration has nobody to send its event: it is
// counted, and refused where every decision must be on record.
func TestEventAfterStop(t *testing.T) {
	sink := newLogSink(t)
	for _, refuse := range []bool{false, true} {
		e := remoteEngine(t, Config{RefuseUnlogged: refuse, OPA: logConfig(t, sink.URL, "")})
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		e.Stop(t.Context())
		event, err := e.Record(t.Context(), &result, About{ID: "x"})
		if errors.Is(err, ErrLogFull) != refuse || (event == nil) != refuse || e.DroppedEvents()["lost"] != 1 {
			t.Errorf("refuse %v: %v %v %v", refuse, event, err, e.DroppedEvents())
		}
	}
}
