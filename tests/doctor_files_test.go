// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// secretSite has every kind of secret that a site can have.
const secretSite = `http://:8775 {
	metaguard {
		upstream 127.0.0.1:8774
		dialect openstack
		identify neutron {
			secret NEUTRON
		}
		identify remote_ip DIRECTORY/inventory.json
		deny_status 404
		session optional {
			key SESSION
		}
		password {
			fingerprint_key FINGERPRINT
		}
		policy DIRECTORY/policy
	}
}
`

// Secrets that are short, known, used twice or open on disk are found, and none
// of them is shown.
func TestDoctorSecrets(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on this system")
	}
	const good, other, third = "aGVyZSBpcyBhIGdvb2Qgc2VjcmV0IG9mIDMyIGJ5dGVz", "YW5vdGhlciBnb29kIHNlY3JldCBvZiAzMiBieXRlcyEh", "dGhpcmQgZ29vZCBzZWNyZXQgb2YgZW5vdWdoIGJ5dGVz"
	prepare := func(t *testing.T, neutron, session, fingerprint string) *harness.Process {
		t.Helper()
		p := harness.New(t, map[string]string{
			"logging.caddy": loggingSnippet(t), "inventory.json": inventory, "policy/data.json": "{}",
			"keys/neutron": neutron, "keys/session": session, "keys/fingerprint": fingerprint,
		})
		p.Write("Caddyfile", cleanOptions+strings.NewReplacer(
			"NEUTRON", "{file."+p.Dir+"/keys/neutron}", "SESSION", "{file."+p.Dir+"/keys/session}",
			"FINGERPRINT", "{file."+p.Dir+"/keys/fingerprint}", "DIRECTORY", p.Dir).Replace(secretSite))
		if err := os.Chmod(p.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return p
	}
	chmod := func(name string, mode fs.FileMode) func(*testing.T, *harness.Process) {
		return func(t *testing.T, p *harness.Process) {
			if err := os.Chmod(filepath.Join(p.Dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		neutron, session, fingerprint string
		change                        func(*testing.T, *harness.Process)
		want                          []string // $ is the directory
	}{
		"good":                     {neutron: good, session: other, fingerprint: third},
		"good, with a line end":    {neutron: good + "\n", session: other + "\r\n", fingerprint: third},
		"a short one of Neutron's": {neutron: "fifteen-bytes-x", session: other, fingerprint: third, want: []string{"secret_weak Caddyfile:19"}},
		"just long enough":         {neutron: "sixteen-bytes-xy", session: other, fingerprint: third},
		"short with a line end":    {neutron: "fifteen-bytes-x\n", session: other, fingerprint: third, want: []string{"secret_weak Caddyfile:19"}},
		"a short key":              {neutron: good, session: other[:31], fingerprint: third[:31], want: []string{"secret_weak Caddyfile:24", "secret_weak Caddyfile:27"}},
		"of a guide":               {neutron: "METADATA_SECRET", session: other, fingerprint: third, want: []string{"secret_weak Caddyfile:19"}},
		"one letter":               {neutron: strings.Repeat("x", 40), session: other, fingerprint: third, want: []string{"secret_weak Caddyfile:19"}},
		"used twice":               {neutron: good, session: other, fingerprint: good + "\n", want: []string{"secret_reused Caddyfile:27"}},
		"readable": {
			neutron: good, session: other, fingerprint: third, change: chmod("keys/neutron", 0o644), want: []string{"secret_readable $/keys/neutron"},
		},
		"writable": {
			neutron: good, session: other, fingerprint: third, change: chmod("keys/session", 0o620), want: []string{"secret_writable $/keys/session"},
		},
		"a writable directory": {
			neutron: good, session: other, fingerprint: third, change: chmod("keys", 0o777), want: []string{"secret_writable $/keys", "secret_writable $/keys", "secret_writable $/keys"},
		},
		"a sticky directory": {
			neutron: good, session: other, fingerprint: third, change: chmod("keys", 0o777|fs.ModeSticky),
		},
		"a writable inventory": {
			neutron: good, session: other, fingerprint: third, change: chmod("inventory.json", 0o666), want: []string{"file_writable $/inventory.json"},
		},
		"a writable policy": {
			neutron: good, session: other, fingerprint: third, change: chmod("policy/data.json", 0o620), want: []string{"file_writable $/policy/data.json"},
		},
		"a writable directory of policies": {
			neutron: good, session: other, fingerprint: third, change: chmod("policy", 0o770), want: []string{"file_writable $/policy"},
		},
		"state": {
			neutron: good, session: other, fingerprint: third, change: func(t *testing.T, p *harness.Process) {
				latch := filepath.Join(p.Data, "caddy", "metaguard", "latch")
				if err := os.MkdirAll(latch, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(latch, 0o770); err != nil {
					t.Fatal(err)
				}
			}, want: []string{"state_writable %/caddy/metaguard/latch"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, test.neutron, test.session, test.fingerprint)
			if test.change != nil {
				test.change(t, p)
			}
			var want []string
			for _, finding := range test.want {
				want = append(want, strings.NewReplacer("$", p.Dir, "%", p.Data).Replace(finding))
			}
			slices.Sort(want)
			report, _, output := doctor(t, p, "--config", "Caddyfile", "--skip", policyChecks)
			found := report.found()
			for i := range found {
				if _, place, ok := strings.Cut(found[i], " "); ok && !filepath.IsAbs(place) && !strings.HasPrefix(place, "Caddyfile:") {
					t.Errorf("where is %q?", place)
				}
			}
			if !slices.Equal(found, want) {
				t.Errorf("found\n\t%s\nwant\n\t%s\n%s", strings.Join(found, "\n\t"), strings.Join(want, "\n\t"), output)
			}
			text, _ := p.Command("doctor", "--config", "Caddyfile", "--skip", policyChecks)
			for _, planted := range []string{test.neutron, test.session, test.fingerprint} {
				if planted = strings.TrimSpace(planted); strings.Contains(output+text, planted) {
					t.Errorf("a secret is shown:\n%s\n%s", output, text)
				}
			}
		})
	}
}
