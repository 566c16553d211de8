// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// guard is Metaguard in front of something, with taps on what it sends.
type guard struct {
	*harness.Process
	address  string
	upstream *tap
	secrets  []string
}

// setup is what differs between guards. The zero value has the built-in policy
// and every default.
type setup struct {
	grants   map[rune][]string
	identify string // instead of identify neutron
	password string // lines in the password block
	latch    string // instead of a directory of its own
	admin    string // instead of no admin API
	global   string // lines in the global block
	log      string // instead of JSON to stderr
	site     string // lines in the site
	at       string // instead of a free port of the loopback address; the site is there, too
	files    map[string]string
}

// guardBefore runs Metaguard in front of an address until the test ends. Then
// nothing secret may be in what it wrote.
func guardBefore(tb testing.TB, upstream string, with setup) *guard {
	tb.Helper()
	need(tb)
	g := &guard{upstream: tapBefore(tb, upstream)}
	tb.Cleanup(func() { g.searchForSecrets(tb) }) // after it has ended
	g.Process = harness.New(tb, with.files, "METAGUARD_NEUTRON_SECRET="+secret)
	g.address = with.at
	if g.address == "" {
		g.address = fmt.Sprint("127.0.0.1:", harness.FreePort(tb))
	}
	host, port, err := net.SplitHostPort(g.address)
	if err != nil {
		tb.Fatal(err)
	}
	if with.at != "" {
		host += " 127.0.0.1"
	}
	policy := ""
	if with.grants != nil {
		byID := map[string][]string{}
		for digit, grants := range with.grants {
			byID[instanceID(digit)] = grants
		}
		data, err := json.Marshal(map[string]any{"metaguard": map[string]any{"grants": map[string]any{"instance_id": byID}}})
		if err != nil {
			tb.Fatal(err)
		}
		g.Write("policy/data.json", string(data))
		policy = "policy policy"
	}
	if with.identify == "" {
		with.identify = "identify neutron {\n\t\t\tsecret {env.METAGUARD_NEUTRON_SECRET}\n\t\t}"
	}
	if with.latch == "" {
		with.latch = filepath.Join(g.Dir, "latch")
	}
	if with.admin == "" {
		with.admin = "off"
	}
	if with.log == "" {
		with.log = "output stderr\n\t\tformat json"
	}
	g.Write("Caddyfile", fmt.Sprintf(`{
	admin %s
	persist_config off
	%s
	log default {
		%s
	}
}
http://:%s {
	bind %s
	%s
	metaguard {
		upstream %s
		dialect openstack
		%s
		%s
		password {
			latch file %s
			%s
		}
	}
}
`, with.admin, with.global, with.log, port, host, with.site, g.upstream.address(), with.identify,
		policy, with.latch, with.password))
	g.Run(g.address)
	return g
}

// byAddress tells callers by their addresses and vouches for them, as where
// there is no agent. The lines are more of the guard's block.
func byAddress(callers map[string]rune, lines ...string) setup {
	rows := []map[string]string{}
	for address, digit := range callers {
		rows = append(rows, map[string]string{"address": address, "instance_id": instanceID(digit), "project_id": projectID(digit)})
	}
	inventory, _ := json.Marshal(rows)
	lines = append([]string{"identify remote_ip inventory.json", "assert neutron {env.METAGUARD_NEUTRON_SECRET}"}, lines...)
	return setup{identify: strings.Join(lines, "\n\t\t"), files: map[string]string{"inventory.json": string(inventory)}}
}

// run starts a guard again that was stopped.
func (g *guard) run() { g.Run(g.address) }

// mayRead grants instances to read their passwords.
func mayRead(instances ...rune) map[rune][]string {
	grants := map[rune][]string{}
	for _, digit := range instances {
		grants[digit] = []string{"password:read"}
	}
	return grants
}

// hide names a secret of the test, which must not be in the log either.
func (g *guard) hide(secrets ...string) {
	for _, text := range secrets {
		if len(text) >= 8 && !slices.Contains(g.secrets, text) {
			g.secrets = append(g.secrets, text)
		}
	}
}

// searchForSecrets looks through the log and all files that Metaguard wrote.
func (g *guard) searchForSecrets(tb testing.TB) {
	if g.Process == nil {
		return
	}
	g.hide(secret, passwordOf2[:80], passwordOf2[255:], "[evil]", "clear-text-of-4")
	for _, digit := range digits {
		g.hide(signature(digit))
	}
	places := map[string]string{"the log": g.Log()}
	for _, dir := range []string{g.Data, filepath.Join(g.Dir, "latch")} {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					tb.Error(err)
				}
				places[path] = string(content)
			}
			return nil
		})
	}
	if !strings.Contains(places["the log"], "decision_id") {
		tb.Errorf("no decision is in the log:\n%.2000s", places["the log"])
	}
	for place, content := range places {
		for _, text := range g.secrets {
			quoted, err := json.Marshal(text)
			if err != nil {
				tb.Fatal(err)
			}
			at := strings.Index(content, text)
			if at < 0 {
				at = strings.Index(content, strings.Trim(string(quoted), `"`))
			}
			if at >= 0 {
				tb.Errorf("a secret is in %s: %.400q", place, content[max(0, at-200):])
			}
		}
	}
}
