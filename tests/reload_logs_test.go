// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A reload that fails leaves the log where it was, too.
func TestRefusedReloadKeepsTheLog(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress, map[string]string{"policy/team.rego": denyNothing})
	first, second := filepath.Join(m.Dir, "first.log"), filepath.Join(m.Dir, "second.log")
	m.edit(t, "Caddyfile", "level DEBUG", "level DEBUG\n\t\toutput file "+first)
	m.Run(m.address)
	good := m.read(t, "Caddyfile")
	m.Write("Caddyfile", strings.NewReplacer(first, second, "inventory.json", "nowhere.json").Replace(good))
	if output, err := m.reload(t); err == nil {
		t.Fatalf("the reload was taken: %s", output)
	}
	m.Write("Caddyfile", good)
	if answer := m.ask(t, metadataPath); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	m.Write("policy/team.rego", denyMetadata)
	m.settles(t, metadataPath, 403)
	m.Write("policy/team.rego", brokenPolicy)
	m.Eventually("decisions and what became of policies are in the log", func() bool {
		log, err := os.ReadFile(first)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), `"msg":"decision"`) >= 2 && strings.Contains(string(log), "team.rego:4")
	})
}
