// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// flip reloads to the other generation, by the command or straight.
func (s *soak) flip(t *testing.T, configs map[string]string) {
	t.Helper()
	s.generation = map[string]string{"a": "b", "b": "a"}[s.generation]
	s.Write("Caddyfile", s.caddyfile(s.generation))
	if configs == nil {
		s.reloads(t)
		return
	}
	if err := s.admin.Load(configs[s.generation]); err != nil {
		t.Fatal(err)
	}
}

func (s *soak) next(what string) int {
	s.numbers[what]++
	return s.numbers[what]
}

// editInventory gives all clients another instance and another project at once, but
// the one with sessions, which are an instance's.
func (s *soak) editInventory() {
	n := s.next("inventory")
	s.Write("inventory.json", fmt.Sprintf(`[{"address": "127.4.0.5", "instance_id": "33333333-3333-4333-8333-000000000000", "project_id": "000000000000"},
		{"address": "127.4.0.0/16", "instance_id": "33333333-3333-4333-8333-%012d", "project_id": "%012d"}]`, n, n))
}

// editLive switches a directory of policies by its link, as a ConfigMap is.
func (s *soak) editLive(t *testing.T) {
	t.Helper()
	n := s.next("live")
	directory := fmt.Sprint("live/", n)
	s.Write(directory+"/team.rego", fmt.Sprintf("package metaguard.team\n\ndeny contains sprintf(\"live_%d_%%d\", [data.soak.number]) if input.resource.kind == \"vendordata\"\n", n))
	s.Write(directory+"/data.json", fmt.Sprintf(`{"soak": {"number": %d}}`, n))
	link := filepath.Join(s.Dir, "live/current")
	if err := os.Symlink(fmt.Sprint(n), link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}

// rotateSecret is the README's way: first the agent's next secret is believed,
// then it signs with it, then the old one is forgotten.
func (s *soak) rotateSecret(t *testing.T) {
	t.Helper()
	next := fmt.Sprint("agent-secret-", s.next("secret"))
	s.Write("secret-2", next)
	s.reloads(t)
	s.resting.Lock() // whoever has signed has sent it
	s.agent.Store(&next)
	s.resting.Unlock()
	s.Write("secret-1", next)
	s.reloads(t)
}

// rotateKeys makes new session and fingerprint keys the first ones. Tokens and
// passwords of the keys before stay good.
func (s *soak) rotateKeys(t *testing.T) {
	t.Helper()
	n := s.next("keys") + 1
	for name, digits := range map[string]int{"session-": 32, "fingerprint-": 64} {
		fresh := fmt.Sprintf("%0*d", digits, n)
		first := s.read(t, name+"1")
		s.Write(name+"2", fresh) // believed before it is used: replicas are many
		s.reloads(t)
		s.Write(name+"1", fresh)
		s.Write(name+"2", first)
		s.reloads(t)
	}
}

// rename moves the log away as other programs do, and reloads.
func (s *soak) rename(t *testing.T) {
	t.Helper()
	log := filepath.Join(s.Dir, "logs/metaguard.log")
	if err := os.Rename(log, fmt.Sprint(log, ".", s.next("log"))); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if output, err := s.reload(t, "--force"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// fails makes one reload of each kind that is refused.
func (s *soak) refused(t *testing.T) {
	t.Helper()
	taken, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", harness.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := s.caddyfile(s.generation)
	another := fmt.Sprintf("http://:%d {\n\tbind 127.0.0.1\n\tmetaguard {\n\t\tupstream 127.0.0.1:1\n\t\tdialect openstack\n\t\tidentify remote_ip inventory.json\n\t}\n}\n", taken.Addr().(*net.TCPAddr).Port)
	for name, fault := range map[string]struct{ old, replacement, want string }{
		"no Caddyfile":               {"dialect openstack", "dialect {", "Caddyfile:"},
		"an unknown setting":         {"dialect openstack", "dialekt openstack", "Caddyfile:"},
		"a policy that is broken":    {"policy-" + s.generation, "broken", "team.rego:4"},
		"a policy that is not there": {"policy-" + s.generation, "nowhere", "nowhere"},
		"an inventory not there":     {"inventory.json", "nowhere.json", "nowhere.json"},
		"a secret that is not there": {"secret-1", "secret-0", "secret-0"},
		"bundles that do not come":   {"opa opa.yaml\n\t\t\tready_timeout 30s", "opa away.yaml\n\t\t\tready_timeout 300ms", "no policy has come"},
		"a latch that cannot be":     {"dialect gce", "dialect gce\n\t\tpassword {\n\t\t\tlatch file /proc/latch\n\t\t}", "/proc/latch"},
		"a log that cannot be":       {"/logs/metaguard.log", "/Caddyfile/metaguard.log", "Caddyfile"},
		"a port that is taken":       {"http://:" + strings.TrimPrefix(s.addresses["AUDIT"], "127.0.0.1:"), another + "http://:" + strings.TrimPrefix(s.addresses["AUDIT"], "127.0.0.1:"), "address already in use"},
	} {
		bad := strings.Replace(good, fault.old, fault.replacement, 1)
		if bad == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		s.Write("Caddyfile", bad)
		if output, err := s.reload(t, "--force"); err == nil || !strings.Contains(output, fault.want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, fault.want, output)
		}
	}
	s.Write("Caddyfile", good)
}
