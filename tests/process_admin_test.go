// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// withAdmin is what the Caddyfile is adapted to, with another admin API. The
// adapter's own check does not see it.
func (m *managed) withAdmin(t *testing.T, listen string) string {
	t.Helper()
	text, err := m.Command("adapt", "--config", filepath.Join(m.Dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err, text)
	}
	_, text, _ = strings.Cut(text, "{\"") // after the log
	var config map[string]any
	if err := json.NewDecoder(strings.NewReader("{\"" + text)).Decode(&config); err != nil {
		t.Fatal(err, text)
	}
	config["admin"].(map[string]any)["listen"] = listen
	changed, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// startJSON runs a configuration that must not start, and gives what it says.
func (m *managed) startJSON(t *testing.T, config string) string {
	t.Helper()
	m.Write("config.json", config)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, harness.Binary(t), "run", "--config", filepath.Join(m.Dir, "config.json"))
	command.Env = append(os.Environ(), "HOME="+m.Data, "XDG_DATA_HOME="+m.Data, "XDG_CONFIG_HOME="+m.Data)
	output, err := command.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("it ran: %v\n%s", err, output)
	}
	return string(output)
}

// A JSON configuration that puts the admin API where every local process
// reaches it does not start beside `identify process`, and is not loaded.
func TestProcessAdmin(t *testing.T) {
	t.Parallel()
	const refused = "identify process cannot stand beside an admin API that every local process can reach"
	m := prepareManaged(t, "identify process\n"+policyDirectory, nil)
	open := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	for name, listen := range map[string]string{
		"on TCP":                open,
		"on every address":      strings.TrimPrefix(open, "127.0.0.1"),
		"on an abstract socket": "unix/@" + filepath.Base(m.Dir) + open,
		"on a socket for all":   strings.TrimSuffix(m.admin.Listen, "|0600") + ".all|0666",
	} {
		if text := m.startJSON(t, m.withAdmin(t, listen)); !strings.Contains(text, refused) {
			t.Errorf("%s: %s", name, text)
		}
	}
	m.Run(m.address)
	if err := m.admin.Load(m.withAdmin(t, m.admin.Listen)); err != nil {
		t.Error("on a socket of its own:", err)
	}
	if err := m.admin.Load(m.withAdmin(t, open)); err == nil || !strings.Contains(err.Error(), refused) {
		t.Error("loaded on TCP:", err)
	}
	if answer := m.get(t, metadataPath); reason(answer) != "policy_deny" {
		t.Errorf("the configuration before: %d %q", answer.Status, answer.Body)
	}
}

// Sources that fetch, ask and look leave nothing behind when the configuration
// is loaded anew, and no credential in a log, whatever the level.
func TestIdentityReloads(t *testing.T) {
	t.Parallel()
	tokens := newIssuer(t)
	m := newManaged(t, "identify jwt {\n\tissuer https://issuer.example\n\taudience metaguard\n\tjwks keys.json\n\ttarget request inventory.json\n}\nidentify keystone {\n\turl "+
		tokens.keystone+"/v3\n\ttarget request inventory.json\n}\nidentify process {\n\ttarget request inventory.json\n}\n"+policyDirectory,
		map[string]string{"keys.json": tokens.keys})
	config := m.withAdmin(t, m.admin.Listen)
	count := func() (descriptors, goroutines int) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.Pid()))
		if err != nil {
			t.Skip(err)
		}
		return len(entries), int(m.admin.Metrics(t, "go_goroutines")[""])
	}
	ask := func() {
		for headers, want := range map[string]string{
			"": "policy_deny", "Authorization: Bearer " + tokens.token + "\r\n": "policy_deny", "X-Auth-Token: " + keystoneToken + "\r\n": "policy_deny",
			"Authorization: Bearer " + tokens.foreign + "\r\n": "identity_invalid", "X-Auth-Token: pl4nted-of-n0body\r\n": "identity_invalid",
		} {
			answer := m.asks(t, "/openstack/latest/user_data", "X-Metaguard-Target: "+instance2+"\r\n"+headers)
			for again := 0; answer.Status == 0 && again < 10; again++ { // it was in the old listener's queue
				answer = m.asks(t, "/openstack/latest/user_data", "X-Metaguard-Target: "+instance2+"\r\n"+headers)
			}
			if reason(answer) != want {
				t.Errorf("%.30q: %d %q, want %s", headers, answer.Status, answer.Body, want)
			}
		}
	}
	load := func(n int) {
		for range n {
			ask()
			if err := m.admin.Load(config); err != nil {
				t.Fatal(err)
			}
		}
	}
	load(3)
	descriptors, goroutines := count()
	load(20)
	// What ends with a reload ends a little later.
	m.Eventually("descriptors and goroutines come down again", func() bool {
		d, g := count()
		if d > descriptors+5 || g > goroutines+10 {
			t.Logf("%d descriptors after %d, %d goroutines after %d", d, descriptors, g, goroutines)
			return false
		}
		return true
	})
	ask()
	for _, planted := range []string{tokens.token, tokens.foreign, tokens.token[len(tokens.token)-40:], keystoneToken, "pl4nted-of-n0body"} {
		if strings.Contains(m.Log(), planted) {
			t.Errorf("the log holds %s", planted)
		}
	}
}
