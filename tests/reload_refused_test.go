// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// A reload that fails, for whatever reason and however late, leaves what runs
// alone: no request is lost, kept waiting for what does not come, or judged by
// half a configuration (I6).
func TestRefusedReloadsLoseNothing(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "r1", "userdata")
	// The timeout is not what is tested, and the machine has much to do.
	m := newManaged(t, "identify remote_ip inventory.json\npolicy policy {\n\topa opa.yaml\n\tready_timeout 30s\n\ttimeout 10m\n}", map[string]string{
		"opa.yaml":       c.opa(""),
		"away.yaml":      strings.ReplaceAll(c.opa(""), "team.tar.gz", "nothing.tar.gz"),
		"inventory.json": `[{"address": "127.3.0.0/16", "instance_id": "` + instance1 + `", "project_id": "` + projectA + `"}]`,
	})
	tr := new(traffic)
	for i := range 4 {
		tr.begin(newVisitor(fmt.Sprint("127.3.0.", i+1), i%2 == 0), func(v *visitor, _ int) {
			v.expect(200, "from the server", "GET", "http://"+m.address+metadataPath, "")
			v.expect(403, "Forbidden: policy_deny", "GET", "http://"+m.address+userdataPath, "")
		})
	}
	tr.goesOn(m.Process, 5)
	taken, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", harness.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	second := fmt.Sprintf("http://:%d {\n\tbind 127.0.0.1\n\tmetaguard {\n\t\tupstream 127.0.0.1:1\n\t\tdialect openstack\n\t\tidentify remote_ip inventory.json\n\t}\n}\n", taken.Addr().(*net.TCPAddr).Port)
	good := m.read(t, "Caddyfile")
	for range 4 { // Caddy starts its apps in any order
		for name, fault := range map[string]struct{ old, replacement, want string }{
			"bundles that do not come": {"opa opa.yaml\n\tready_timeout 30s", "opa away.yaml\n\tready_timeout 500ms", "no policy has come from elsewhere yet"},
			"a latch that cannot be":   {"dialect openstack", "dialect openstack\n\t\tpassword {\n\t\t\tlatch file /proc/latch\n\t\t}", "/proc/latch"},
			"a port that is taken":     {"http://:", second + "http://:", "address already in use"},
		} {
			m.Write("Caddyfile", strings.Replace(good, fault.old, fault.replacement, 1))
			if output, err := m.reload(t); err == nil || !strings.Contains(output, fault.want) {
				t.Fatalf("%s: %v, want %q in\n%s", name, err, fault.want, output)
			}
			tr.goesOn(m.Process, 5)
		}
	}
	tr.end(t, m.Process, m.Log)
}
