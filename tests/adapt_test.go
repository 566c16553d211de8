// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

var update = flag.Bool("update", false, "write what is adapted as what is wanted")

const separator = "\n----------\n"

// TestAdapt holds Caddyfiles against the JSON or the error that they adapt to.
// A file in adapt is a site's metaguard block, ten dashes, and what is wanted:
// the handler's JSON, or a part of the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("adapt/*.caddytest")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddytest"), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source, want, found := strings.Cut(string(content), separator)
			if !found {
				t.Fatal("no line of ten dashes")
			}
			got := adapt(t, source)
			if *update {
				if err := os.WriteFile(file, []byte(source+separator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want = strings.TrimSpace(want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

var digests = regexp.MustCompile(`"digest": "[0-9a-f-]+"`)

// adapt gives the handler's JSON, or the error, without what differs from run
// to run.
func adapt(t *testing.T, source string) string {
	t.Helper()
	p := harness.New(t, map[string]string{
		"Caddyfile": source, "inventory.json": inventory, "policy/data.json": "{}",
	}, "METAGUARD_LITERAL=plain-text-secret")
	output, err := p.Command("adapt", "--config", filepath.Join(p.Dir, "Caddyfile"))
	if strings.Contains(output, "plain-text-secret") {
		t.Error("the output shows the secret")
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(output), "\n")
		var last struct{ Msg string }
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatalf("%v in %s", err, output)
		}
		return "error: " + strings.ReplaceAll(last.Msg, p.Dir+"/", "")
	}
	var adapted struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct{ Handle []json.RawMessage }
				}
			}
		}
	}
	start := strings.Index(output, `{"`)
	for _, line := range strings.Split(output, "\n") { // the rest are log lines
		if strings.HasPrefix(line, `{"apps"`) || strings.HasPrefix(line, `{"admin"`) {
			start = strings.Index(output, line)
		}
	}
	if err := json.NewDecoder(strings.NewReader(output[start:])).Decode(&adapted); err != nil {
		t.Fatalf("%v in %s", err, output)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, adapted.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0], "", "\t"); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(pretty.String(), p.Dir, "DIR")
	return digests.ReplaceAllString(text, `"digest": "DIGEST"`)
}
