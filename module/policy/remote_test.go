// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// A bundle's rules decide beside the built-in ones, and a new one is live.
func TestBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}`)})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@r1" ||
		len(r.Rules) != 1 || r.Rules[0] != "bundle:team/team/team.rego:3" {
		t.Fatalf("%+v", r)
	}
	if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); r.Reason != decision.PolicyAllow {
		t.Fatalf("%+v", r)
	}
	s.put("team.tar.gz", teamBundle(t, "r2", "metadata"))
	eventually(t, "the second revision is live", func() bool { return e.Policy().Revision() == "team@r2" })
	if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); r.Reason != decision.PolicyDeny {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the status tells", func() bool { return e.Status().Bundles["team"].Revision == "r2" })
}

// Before its bundle is there an engine decides nothing; requests wait.
func TestBundleNotThereYet(t *testing.T) {
	s := newBundleServer(t)
	s.setDown(true)
	config := Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}`), ReadyTimeout: 50 * time.Millisecond}
	e := remoteEngine(t, config)
	if r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)); r.Reason != decision.PolicyNotReady {
		t.Fatalf("%+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.WaitReady(ctx); err == nil {
		t.Fatal("ready")
	}
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	s.setDown(false)
	eventually(t, "the bundle is live", func() bool {
		return e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)).Reason == decision.PolicyDeny
	})
}

// What must not be loaded keeps the last good policy, says why, and a good
// bundle after it is live.
func TestBundleRefused(t *testing.T) {
	manifest := `{"revision": "bad", "roots": ["metaguard/team"]}`
	good := teamBundle(t, "good", "userdata")
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"no manifest":        {tarball(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if true\n"}), "the bundle declares no roots, so that it would erase the built-in policy"},
		"no roots":           {tarball(t, files{".manifest": `{"revision": "bad"}`, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if true\n"}), "the bundle declares no roots, so that it would erase the built-in policy"},
		"the root of all":    {tarball(t, files{".manifest": `{"roots": [""]}`, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if true\n"}), "erase the built-in policy"},
		"ours":               {tarball(t, files{".manifest": `{"roots": ["metaguard/granted"]}`, "data.json": `{"metaguard": {"granted": ["password:read"]}}`}), "the root metaguard/granted belongs to the built-in policy"},
		"outside its roots":  {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard\n\ndecision := {\"allow\": true}\n"}), "roots"},
		"truncated":          {good[:len(good)/2], "EOF"},
		"no archive":         {[]byte("<html>sign in</html>"), "gzip"},
		"does not parse":     {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n"}), "rego_parse_error"},
		"does not compile":   {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if y\n"}), "y is unsafe"},
		"means nothing":      {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\ndenny contains \"x\" if true\n"}), `did you mean "deny"?`},
		"unknown field":      {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.caler.id == \"x\"\n"}), "input.caler"},
		"the network":        {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\ndeny contains \"x\" if http.send({\"method\": \"get\", \"url\": \"http://x\"}).status_code == 200\n"}), "http.send is not available"},
		"for old Rego":       {tarball(t, files{".manifest": `{"revision": "bad", "roots": ["metaguard/team"], "rego_version": 0}`, "team.rego": "package metaguard.team\n\nallow[\"x\"] { false }\n"}), "written in Rego v0, and Metaguard takes v1"},
		"a file of old Rego": {tarball(t, files{".manifest": `{"revision": "bad", "roots": ["metaguard/team"], "rego_version": 1, "file_rego_versions": {"/team.rego": 0}}`, "team.rego": "package metaguard.team\n\nallow[\"x\"] { false }\n"}), "rego_parse_error"},
		"allows too much":    {tarball(t, files{".manifest": manifest, "team.rego": "package metaguard.team\n\nallow contains \"x\" if input.resource.kind == \"password\"\n"}), "settings.accept"},
		"a misspelt grant":   {tarball(t, files{".manifest": `{"revision": "bad", "roots": ["metaguard/grants", "metaguard/team"]}`, "metaguard/grants/data.json": `{"role": {"a": ["pasword:read"]}}`}), "password:read"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBundleServer(t)
			s.put("team.tar.gz", good)
			e := remoteEngine(t, Config{
				Samples: samplesOfOpenStack(),
				OPA:     opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}}`),
			})
			if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny {
				t.Fatalf("%+v", r)
			}
			s.put("team.tar.gz", test.content)
			eventually(t, "the bundle is refused", func() bool { return e.Status().LastError != "" })
			status := e.Status()
			if !strings.Contains(status.LastError, test.want) || status.Revision != "team@good" || status.Bundles["team"].LastError == "" {
				t.Errorf("want %q in %+v", test.want, status)
			}
			if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@good" {
				t.Errorf("%+v", r)
			}
			s.put("team.tar.gz", teamBundle(t, "next", "metadata"))
			eventually(t, "the next one is live", func() bool {
				status := e.Status()
				return status.Revision == "team@next" && status.LastError == ""
			})
		})
	}
}

// A bundle that brings the decision replaces the built-in policy.
func TestBundleReplaces(t *testing.T) {
	for name, content := range map[string]files{
		"metaguard": {
			".manifest": `{"revision": "own", "roots": ["metaguard"]}`,
			"own.rego":  "package metaguard\n\ndefault decision := {\"allow\": false, \"reasons\": [\"mine\"]}\n",
		},
		"metaguard/decision": {
			".manifest": `{"revision": "own", "roots": ["metaguard/decision"]}`,
			"own.rego":  "package metaguard.decision\n\ndefault allow := false\n\nreasons := [\"mine\"]\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBundleServer(t)
			s.put("own.tar.gz", tarball(t, content))
			e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"own": {"service": "s", "resource": "own.tar.gz"`+fast+`}}`)})
			r := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
			if r.Reason != decision.PolicyDeny || len(r.Decision.Reasons) != 1 || r.Decision.Reasons[0] != "mine" {
				t.Fatalf("%+v", r)
			}
		})
	}
}

// Several bundles and local files are one policy; overlapping roots are not.
func TestSeveralBundles(t *testing.T) {
	s := newBundleServer(t)
	grants := func(names ...string) []byte {
		return tarball(t, files{
			".manifest":                  `{"revision": "` + strings.Join(names, "-") + `", "roots": ["metaguard/grants"]}`,
			"metaguard/grants/data.json": fmt.Sprintf(`{"project_id": {"9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2": [%q]}}`, strings.Join(names, `", "`)),
		})
	}
	s.put("team.tar.gz", teamBundle(t, "t1", "userdata"))
	s.put("grants.tar.gz", grants("password:read"))
	local := dir(t, files{"local.rego": "package metaguard.team\n\ndeny contains \"local\" if input.resource.kind == \"network\"\n"})
	e := remoteEngine(t, Config{Paths: []string{local}, OPA: opaFile(t, s,
		`"bundles": {"team": {"service": "s", "resource": "team.tar.gz"`+fast+`}, "grants": {"service": "s", "resource": "grants.tar.gz"`+fast+`}}`)},
		WithPollInterval(5*time.Millisecond))
	if r := e.Decide(t.Context(), instance(decision.KindPassword, decision.Read)); r.Reason != decision.PolicyAllow || !strings.HasPrefix(r.Revision, "grants@password:read team@t1 files@") {
		t.Fatalf("%+v", r)
	}
	for kind, code := range map[decision.Kind]string{decision.KindUserdata: "no_userdata", decision.KindNetwork: "local"} {
		if r := e.Decide(t.Context(), instance(kind, decision.Read)); r.Reason != decision.PolicyDeny || r.Decision.Reasons[0] != code {
			t.Fatalf("%+v", r)
		}
	}
	s.put("grants.tar.gz", grants("health:read"))
	eventually(t, "the grant is gone", func() bool {
		return e.Decide(t.Context(), instance(decision.KindPassword, decision.Read)).Reason == decision.PolicyDeny
	})
	write(t, local+"/local.rego", "package metaguard.team\n\ndeny contains \"edited\" if input.resource.kind == \"network\"\n")
	eventually(t, "the edit is live", func() bool {
		return e.Decide(t.Context(), instance(decision.KindNetwork, decision.Read)).Decision.Reasons[0] == "edited"
	})
	s.put("grants.tar.gz", teamBundle(t, "overlap", "metadata"))
	eventually(t, "the overlap is refused", func() bool { return strings.Contains(e.Status().LastError, "overlap") })
	if r := e.Decide(t.Context(), instance(decision.KindNetwork, decision.Read)); r.Decision.Reasons[0] != "edited" {
		t.Fatalf("%+v", r)
	}
}

// A delta changes data and nothing else.
func TestDeltaBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("grants.tar.gz", tarball(t, files{
		".manifest":                  `{"revision": "g1", "roots": ["metaguard/grants"]}`,
		"metaguard/grants/data.json": `{"project_id": {}}`,
	}))
	e := remoteEngine(t, Config{OPA: opaFile(t, s, `"bundles": {"grants": {"service": "s", "resource": "grants.tar.gz"`+fast+`}}`)})
	if r := e.Decide(t.Context(), instance(decision.KindPassword, decision.Read)); r.Reason != decision.PolicyDeny {
		t.Fatalf("%+v", r)
	}
	before := e.Policy()
	s.put("grants.tar.gz", tarball(t, files{
		".manifest":  `{"revision": "g2", "roots": ["metaguard/grants"]}`,
		"patch.json": `{"data": [{"op": "upsert", "path": "/metaguard/grants/project_id/9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2", "value": ["password:read"]}]}`,
	}))
	eventually(t, "the delta is live", func() bool {
		r := e.Decide(t.Context(), instance(decision.KindPassword, decision.Read))
		return r.Reason == decision.PolicyAllow && r.Revision == "grants@g2"
	})
	if r := before.Decide(t.Context(), instance(decision.KindPassword, decision.Read)); r.Reason != decision.PolicyDeny {
		t.Errorf("a delta changed the policy that was in force before: %+v", r)
	}
}

// A persisted bundle decides when its server is away at the next start.
func TestPersistedBundle(t *testing.T) {
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	config := Config{OPA: opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz", "persist": true`+fast+`}}`), Timeout: time.Minute}
	state := t.TempDir()
	for _, down := range []bool{false, true} {
		s.setDown(down)
		e, err := New(t.Context(), config, WithStateDir(state))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read))
		if r.Reason != decision.PolicyDeny || r.Revision != "team@r1" {
			t.Errorf("down %v: %+v", down, r)
		}
		if !down {
			eventually(t, "the bundle is persisted", func() bool { return !e.Status().Bundles["team"].ActivatedAt.IsZero() })
		}
		e.Stop(t.Context())
	}
}
