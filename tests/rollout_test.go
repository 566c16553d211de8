// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// A candidate is asked beside the live policy, has no say, and what it says
// otherwise is logged and counted.
func TestCandidate(t *testing.T) {
	t.Parallel()
	s := newManaged(t, "identify remote_ip inventory.json\npolicy policy {\n\tcandidate next\n\ttimeout 2s\n}", map[string]string{
		"next/team.rego": "package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"userdata\"\n",
	})
	for range 5 {
		if answer := s.get(t, userdataPath); answer.Status != 200 {
			t.Fatalf("%d %s", answer.Status, answer.Body)
		}
		s.settles(t, metadataPath, 200)
	}
	const differences = `caddy_metaguard_candidate_differences_total{candidate="deny",live="allow",resource="userdata"}`
	s.Eventually("five differences are counted", func() bool {
		return strings.Contains(s.admin.Get(t, "/metrics"), differences+" 5\n")
	})
	if page := s.admin.Get(t, "/metrics"); !strings.Contains(page, `caddy_metaguard_candidate_decisions_total{result="same"} 5`) || strings.Contains(page, `resource="metadata"} 5`+"\n"+differences) {
		t.Errorf("%s", page)
	}
	var found bool
	for line := range strings.Lines(s.Log()) {
		found = found || strings.Contains(line, `"candidate decides otherwise"`) && strings.Contains(line, `"codes":["closed"]`) &&
			strings.Contains(line, `next/team.rego:3"`) && strings.Contains(line, `"difference":"verdict"`)
	}
	if !found {
		t.Error("no line tells what differs")
	}
	// An edit of the candidate is live too, and a broken one harms nobody.
	s.Write("next/team.rego", brokenPolicy)
	s.Eventually("the broken edit is reported", func() bool { return strings.Contains(s.Log(), "policy not loaded") })
	s.Write("next/team.rego", denyMetadata)
	s.Eventually("the edit is compared", func() bool {
		s.settles(t, metadataPath, 200)
		return strings.Contains(s.admin.Get(t, "/metrics"), `live="allow",resource="metadata"}`)
	})
}

// An edit that allows too much is refused with an explanation, and the last
// good policy stays; accepted in so many words, it is live.
func TestEditThatAllowsTooMuch(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	s.settles(t, metadataPath, 403)
	s.Write("policy/team.rego", "package metaguard.team\n\nallow contains \"reads\" if {\n\tinput.resource.kind == \"password\"\n\tdata.metaguard.own\n}\n")
	s.Eventually("the edit is refused", func() bool {
		return strings.Contains(s.Log(), `add to data.metaguard.settings.accept: \"password:read by own\"`)
	})
	if answer := s.get(t, metadataPath); answer.Status != 403 {
		t.Errorf("%d", answer.Status)
	}
	s.Write("policy/data.json", `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`)
	s.settles(t, metadataPath, 200)
	// What is accepted for nothing is told by the running server too.
	s.Write("policy/team.rego", denyMetadata)
	s.settles(t, metadataPath, 403)
	s.Eventually("the warning is logged", func() bool { return strings.Contains(s.Log(), `"code":"accept_unused"`) })
}

// Over the owner's socket, and there only, the policies in force can be seen and
// taken away to be tried.
func TestAdminPolicies(t *testing.T) {
	t.Parallel()
	s := newManaged(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	s.settles(t, metadataPath, 403)
	s.Eventually("the configuration is in force", func() bool { return strings.Contains(s.Log(), "serving initial configuration") })
	var states []map[string]any
	if err := json.Unmarshal([]byte(s.admin.Get(t, "/metaguard/policies")), &states); err != nil || len(states) != 1 {
		t.Fatalf("%v %v", err, states)
	}
	name, _ := states[0]["name"].(string)
	if name == "" || states[0]["revision"] == "" || states[0]["loads"] != 1.0 {
		t.Errorf("%v", states[0])
	}
	for _, path := range []string{"/metaguard/policies/", "/metaguard/policies/" + name} {
		if bundle := s.admin.Get(t, path); !strings.HasPrefix(bundle, "\x1f\x8b") {
			t.Errorf("%s: %q", path, bundle)
		}
	}
	s.commandsAskTheServer(t)
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	s.edit(t, "Caddyfile", "admin "+s.admin.Listen, "admin "+address)
	if output, err := s.reload(t); err != nil {
		t.Fatalf("%v %s", err, output)
	}
	client := http.Client{Timeout: 10 * time.Second}
	for _, path := range []string{"/metaguard/policies", "/metaguard/policies/"} {
		response, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s over TCP: %d", path, response.StatusCode)
		}
	}
}

// commandsAskTheServer runs every command on the policy that the server has in
// force, which denies metadata.
func (m *managed) commandsAskTheServer(t *testing.T) {
	t.Helper()
	m.Write("log.ndjson", m.Log())
	request := []string{"--as", "instance:" + instance1, "--path", metadataPath}
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"check":   {nil, "ok: "},
		"test":    {nil, "PASS"},
		"fmt":     {[]string{"--check"}, ""},
		"eval":    {request, "no_metadata"},
		"explain": {request, "no_metadata"},
		"replay":  {[]string{"--log", "log.ndjson"}, " unchanged, 0 changed"},
		"draft":   {[]string{"--log", "log.ndjson", "--denied"}, "1 denied"},
		"bench":   {[]string{"--benchtime", "10x"}, "decisions/s"},
	} {
		output, err := m.Command(append([]string{"policy", name, "--server", m.admin.Address}, test.arguments...)...)
		if err != nil || !strings.Contains(output, test.want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, test.want, output)
		}
	}
	if output, err := m.Command("policy", "eval", "--server", m.admin.Address, "--name", "other", "--as", "anonymous", "--path", "/"); err == nil || !strings.Contains(output, "which policy?") {
		t.Errorf("%v\n%s", err, output)
	}
}
