// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"strings"
	"testing"
)

// Neutron's agent hands on what a balancer's probe and the doctor ask for: the guard
// says that it is well, and the doctor knows it although its header does not come.
func TestProbeThroughTheAgent(t *testing.T) {
	nova := novaUnder(t, webServers[0])
	g := guardBefore(t, nova.address, setup{})
	a := agentBefore(t, g.address)
	const probe = "/metaguard/probe"
	for path, want := range map[string]int{probe: 200, probe + "/": 404} {
		got := send(t, address('2'), a.address, request("GET", path, nil, nil))
		if got.status != want || want == 200 && got.body != "" {
			t.Errorf("%s through the agent: %v", path, got)
		}
	}
	if got := get(t, nova.address, probe, '2'); got.status == 200 {
		t.Errorf("Nova has a probe: %v", got)
	}
	output, err := g.Command("doctor", "--around", nova.address, "--around", g.address, "--dialect", "openstack")
	if err == nil || strings.Count(output, "answers without the guard") != 1 || !strings.Contains(output, nova.address+": ") {
		t.Errorf("%v\n%s", err, output)
	}
}
