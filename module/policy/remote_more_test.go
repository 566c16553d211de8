// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	sdktest "github.com/open-policy-agent/opa/v1/sdk/test"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/metaguard/metaguard/module/decision"
)

// signed is teamBundle, signed with a shared secret.
func signed(t testing.TB, revision, kind, key string) []byte {
	t.Helper()
	read, err := bundle.NewReader(bytes.NewReader(teamBundle(t, revision, kind))).Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := read.GenerateSignature(bundle.NewSigningConfig(key, "HS256", ""), "team", false); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := bundle.NewWriter(&b).DisableFormat(true).Write(read); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Where signatures are required, a bundle with a wrong one, or none, or one
// that was changed after it was signed, is not taken.
func TestSignedBundle(t *testing.T) {
	t.Setenv("METAGUARD_TEST_KEY", "the-key-of-the-team")
	s := newBundleServer(t)
	s.put("team.tar.gz", signed(t, "good", "userdata", "the-key-of-the-team"))
	path := t.TempDir() + "/opa.yaml"
	write(t, path, fmt.Sprintf(`services:
  s: {url: %s}
keys:
  team: {algorithm: HS256, key: "${METAGUARD_TEST_KEY}"}
bundles:
  team:
    service: s
    resource: team.tar.gz
    signing: {keyid: team}
    polling: {min_delay_seconds: 0, max_delay_seconds: 0}
`, s.URL))
	e := remoteEngine(t, Config{OPA: path})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@good" {
		t.Fatalf("%+v", r)
	}
	changed, err := bundle.NewReader(bytes.NewReader(signed(t, "bad", "userdata", "the-key-of-the-team"))).WithSkipBundleVerification(true).Read()
	if err != nil {
		t.Fatal(err)
	}
	changed.Modules[0].Raw = []byte(strings.ReplaceAll(string(changed.Modules[0].Raw), "userdata", "metadata"))
	var b bytes.Buffer
	if err := bundle.NewWriter(&b).DisableFormat(true).Write(changed); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"a wrong key":  signed(t, "bad", "metadata", "another-key"),
		"none":         teamBundle(t, "bad", "metadata"),
		"a false hash": b.Bytes(),
	} {
		asked := e.Status().Failures
		s.put("team.tar.gz", content)
		eventually(t, name+" is refused", func() bool { return e.Status().Failures > asked })
		status := e.Status()
		if status.Revision != "team@good" || strings.Contains(status.LastError, "the-key") {
			t.Errorf("%s: %+v", name, status)
		}
		if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); r.Reason != decision.PolicyAllow {
			t.Errorf("%s: %+v", name, r)
		}
		s.put("team.tar.gz", signed(t, "good", "userdata", "the-key-of-the-team"))
		eventually(t, "a good one again", func() bool { return e.Status().LastError == "" })
	}
}

// OPA's own test server serves OPA's own bundles.
func TestOPAsOwnServer(t *testing.T) {
	server := sdktest.MustNewServer(sdktest.RawBundles(true), sdktest.MockBundle("/bundles/team.tar.gz", map[string]string{
		".manifest": `{"revision": "own", "roots": ["metaguard/team"]}`,
		"team.rego": "package metaguard.team\n\nimport rego.v1\n\ndeny contains \"x\" if input.resource.kind == \"userdata\"\n",
	}))
	defer server.Stop()
	path := t.TempDir() + "/opa.yaml"
	write(t, path, "services: {s: {url: '"+server.URL()+"'}}\nbundles: {team: {service: s, resource: bundles/team.tar.gz}}\n")
	e := remoteEngine(t, Config{OPA: path})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@own" {
		t.Fatalf("%+v", r)
	}
}

// Discovery says which bundles there are, and where events go. What it says is
// bounded like a file.
func TestDiscovery(t *testing.T) {
	s := newBundleServer(t)
	discovered := func(bundles string) []byte {
		return tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": fmt.Sprintf(`{"bundles": {%s}}`, bundles)})
	}
	s.put("discovery.tar.gz", discovered(`"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}`))
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.put("more.tar.gz", tarball(t, files{
		".manifest": `{"revision": "m1", "roots": ["metaguard/grants"]}`,
		"data.json": `{"metaguard": {"grants": {"project_id": {"9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2": ["password:read"]}}}}`,
	}))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@r1" {
		t.Fatalf("%+v", r)
	}
	s.put("discovery.tar.gz", discovered(`"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}, "more": {"service": "s", "resource": "more.tar.gz"`+fast+`}`))
	eventually(t, "the second bundle decides", func() bool {
		return e.Decide(t.Context(), instance(decision.KindPassword, decision.Read)).Reason == decision.PolicyAllow
	})
	s.put("discovery.tar.gz", discovered(`"more": {"service": "s", "resource": "more.tar.gz"`+fast+`}`))
	eventually(t, "the first one is gone", func() bool {
		return e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)).Reason == decision.PolicyAllow
	})
}

// Discovery that names no bundles leaves the files as the whole policy.
func TestDiscoveryWithoutBundles(t *testing.T) {
	s := newBundleServer(t)
	s.put("discovery.tar.gz", tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": `{"labels": {"a": "b"}}`}))
	root := dir(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"local\" if input.resource.kind == \"userdata\"\n"})
	e := remoteEngine(t, Config{Paths: []string{root}, OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Decision.Reasons[0] != "local" {
		t.Fatalf("%+v", r)
	}
}

// A candidate takes the live policy's bundles, and what does not compile with it
// harms only itself.
func TestCandidateWithBundles(t *testing.T) {
	s := newBundleServer(t)
	grants := func(revision, project string) []byte {
		return tarball(t, files{
			".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/grants"]}`, revision),
			"data.json": fmt.Sprintf(`{"metaguard": {"grants": {"project_id": {%q: ["password:read"]}}}}`, project),
		})
	}
	const project = "9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2"
	s.put("grants.tar.gz", grants("g1", project))
	live := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"grants": {"service": "s", "resource": "grants.tar.gz"`+fast+`}}`)})
	root := dir(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"userdata\"\n"})
	// It looks at no file by itself, so that it must be called.
	candidate := engine(t, Config{Paths: []string{root}}, WithBundlesOf(live), WithPollInterval(time.Hour))
	if candidate.Policy() != nil {
		t.Fatal("a candidate decides without the bundles")
	}
	if err := live.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := candidate.Start(); err != nil {
		t.Fatal(err)
	}
	password, userdata := instance(decision.KindPassword, decision.Read), instance(decision.KindUserdata, decision.Read)
	if r := candidate.Decide(t.Context(), password); r.Reason != decision.PolicyAllow || !strings.HasPrefix(r.Revision, "grants@g1 files@") {
		t.Fatalf("%+v", r)
	}
	if a, b := live.Decide(t.Context(), userdata), candidate.Decide(t.Context(), userdata); a.Reason != decision.PolicyAllow || b.Reason != decision.PolicyDeny {
		t.Fatalf("%+v %+v", a, b)
	}
	s.put("grants.tar.gz", grants("g2", "another"))
	eventually(t, "both have the new grants", func() bool {
		return live.Decide(t.Context(), password).Reason == decision.PolicyDeny && candidate.Decide(t.Context(), password).Reason == decision.PolicyDeny
	})
	write(t, root+"/data.json", `{"metaguard": {"grants": {"project_id": {"mine": ["password:read"]}}}}`)
	candidate.reload(t.Context())
	s.put("grants.tar.gz", grants("g3", "mine"))
	eventually(t, "the live one goes on", func() bool { return live.Decide(t.Context(), password).Revision == "grants@g3" })
	eventually(t, "the candidate says what is wrong", func() bool { return strings.Contains(candidate.Status().LastError, "is also in") })
	if status := live.Status(); status.LastError != "" {
		t.Errorf("%+v", status)
	}
}

// A policy of 5,000 rules is loaded, and decides.
func TestFiveThousandRules(t *testing.T) {
	content := files{}
	for f := range 50 {
		var b strings.Builder
		b.WriteString("package metaguard.team\n")
		for r := range 100 {
			fmt.Fprintf(&b, "\ndeny contains \"rule_%d_%d\" if {\n\tinput.resource.kind == \"userdata\"\n\tinput.caller.id == \"instance:%d-%d\"\n}\n", f, r, f, r)
		}
		content[fmt.Sprintf("team%d.rego", f)] = b.String()
	}
	e := engine(t, Config{Paths: []string{dir(t, content)}, Samples: samplesOfOpenStack()})
	in := instance(decision.KindUserdata, decision.Read)
	in.Caller.ID = "instance:49-99"
	r := e.Decide(t.Context(), in)
	if r.Reason != decision.PolicyDeny || len(r.Decision.Reasons) != 1 || r.Decision.Reasons[0] != "rule_49_99" || !strings.HasSuffix(r.Rules[0], "team49.rego:498") {
		t.Errorf("%s %v %v %v", r.Reason, r.Decision, r.Rules, r.Err)
	}
}

// What does not fit is refused with what it is and what may be.
func TestTooMuchData(t *testing.T) {
	root := t.TempDir()
	for i := range 2 {
		write(t, fmt.Sprintf("%s/data%d.json", root, i), `{"x`+fmt.Sprint(i)+`": "`+strings.Repeat("a", int(maxPolicyBytes)*4/5)+`"}`)
	}
	_, err := New(t.Context(), Config{Paths: []string{root}})
	if err == nil || !strings.Contains(err.Error(), "128 MiB") || findingsOf(t, err)[0].Code != CodeTooLarge {
		t.Errorf("%.300v", err)
	}
}

// A bundle's data has the same bound, in all its files together.
func TestTooMuchDataInABundle(t *testing.T) {
	before := maxPolicyBytes
	maxPolicyBytes = 1 << 20 // OPA would take long over more
	t.Cleanup(func() { maxPolicyBytes = before })
	s := newBundleServer(t)
	content := files{".manifest": `{"revision": "big", "roots": ["a", "b"]}`}
	for _, root := range []string{"a", "b"} {
		content[root+"/data.json"] = `{"x": "` + strings.Repeat("a", 800_000) + `"}`
	}
	s.put("team.tar.gz", tarball(t, content))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz", "polling": {"min_delay_seconds": 60, "max_delay_seconds": 60}}}`)})
	eventually(t, "the bundle is refused", func() bool { return strings.Contains(e.Status().LastError, "1 MiB") })
}

// A bundle that does not say its revision has one of its content, which replicas of all
// releases give.
func TestBundleWithoutRevision(t *testing.T) {
	s := newBundleServer(t)
	s.put("own.tar.gz", tarball(t, files{
		".manifest": `{"roots": ["own"]}`, "data.json": `{"own": {"c": {}, "b": [1.0, {}], "a": "<&>"}}`,
	}))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"own": {"service": "s", "resource": "own.tar.gz"`+fast+`}}`)})
	eventually(t, "the bundle is live", func() bool { return e.Policy() != nil })
	if revision := e.Policy().Revision(); revision != "own@281de2dc91cf" {
		t.Error(revision)
	}
}

// Many grants in a bundle are kept as in a file, also after a part of them was replaced.
func TestManyGrantsInABundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("grants.tar.gz", tarball(t, files{
		".manifest": `{"roots": ["metaguard/grants", "own"]}`,
		"data.json": strings.TrimSuffix(largeGrants(""), "}") + `, "own": {"a": "<&>"}}`,
	}))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"grants": {"service": "s", "resource": "grants.tar.gz"`+fast+`}}`)})
	eventually(t, "the bundle is live", func() bool { return e.Policy() != nil })
	if p := e.Policy(); grantsOf(t, p).count != 2*tableFrom+1 {
		t.Errorf("%d grants", grantsOf(t, p).count)
	}
	store := e.remote.Load().store.Store // OPA's, as it is
	kept, err := storage.ReadOne(t.Context(), store, storage.Path{"metaguard", "grants", "instance_id"})
	if shared, ok := tableOf(kept); err != nil || !ok || &shared.text[0] != &grantsOf(t, e.Policy()).text[0] {
		t.Errorf("OPA's store has a %T of its own (%v)", kept, err)
	}
	in := instance(decision.KindPassword, decision.Read)
	s.put("grants.tar.gz", tarball(t, files{
		".manifest":  `{"revision": "g2", "roots": ["metaguard/grants", "own"]}`,
		"patch.json": `{"data": [{"op": "upsert", "path": "/metaguard/grants/instance_id/` + in.Caller.InstanceID + `", "value": ["password:read"]}]}`,
	}))
	eventually(t, "the delta is live", func() bool { return e.Decide(t.Context(), in).Reason == decision.PolicyAllow })
	if count := grantsOf(t, e.Policy()).count; count != 2*tableFrom+2 {
		t.Errorf("%d grants", count)
	}
}

// The status of bundles goes to a service, by OPA's own plugin.
func TestStatusReport(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.put("status", []byte("ok"))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}, "status": {"service": "s"}`)})
	if err := e.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a status report", func() bool { return s.requests("/status") > 0 })
}

// What a decision says of bundles is in its event.
func TestEventNamesBundles(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}, "decision_logs": {"service": "s"}`)})
	result := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read))
	event, err := e.Record(t.Context(), &result, About{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(event)
	if err != nil || !strings.Contains(string(line), `"bundles":{"team":{"revision":"r1"}}`) {
		t.Errorf("%v %s", err, line)
	}
	input, err := ast.InterfaceToValue(*event.Input)
	if err != nil || input.Compare(result.Input()) != 0 {
		t.Errorf("%v %v", err, input)
	}
}

// A bundle that is taken away, and that others do not compile without, leaves
// the last good policy in force.
func TestRemovedBundleThatOthersNeed(t *testing.T) {
	s := newBundleServer(t)
	discovered := func(names ...string) []byte {
		var bundles []string
		for _, name := range names {
			bundles = append(bundles, fmt.Sprintf(`%q: {"service": "s", "resource": "%s.tar.gz"%s}`, name, name, fast))
		}
		return tarball(t, files{".manifest": `{"roots": [""]}`, "data.json": `{"bundles": {` + strings.Join(bundles, ", ") + `}}`})
	}
	s.put("library.tar.gz", tarball(t, files{
		".manifest":    `{"revision": "l1", "roots": ["library"]}`,
		"library.rego": "package library\n\nclosed(kind) if kind == \"userdata\"\n",
	}))
	s.put("team.tar.gz", tarball(t, files{
		".manifest": `{"revision": "t1", "roots": ["metaguard/team"]}`,
		"team.rego": "package metaguard.team\n\ndeny contains \"closed\" if data.library.closed(input.resource.kind)\n",
	}))
	s.put("discovery.tar.gz", discovered("library", "team"))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"discovery": {"service": "s", "resource": "discovery.tar.gz"`+fast+`}`)})
	in := instance(decision.KindUserdata, decision.Read)
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyDeny {
		t.Fatalf("%+v", r)
	}
	s.put("discovery.tar.gz", discovered("team"))
	defer func() { t.Logf("%+v", e.Status()) }()
	eventually(t, "the removal is reported", func() bool { return strings.Contains(e.Status().LastError, "data.library.closed") })
	if r := e.Decide(t.Context(), in); r.Reason != decision.PolicyDeny || r.Decision.Reasons[0] != "closed" {
		t.Fatalf("%+v", r)
	}
}
