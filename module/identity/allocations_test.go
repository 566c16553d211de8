// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// No source that is asked at every request allocates more than it did.
func TestSourcesAllocateNoMore(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	n := newNeutron(t)
	claimed, unclaimed := request(signed(planted)), request(http.Header{"User-Agent": {"curl"}})
	inventory, err := readInventory("x", strings.NewReader(manyEntries(1000)), new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	address, _ := entryOf(7)
	target := decision.Target{InstanceID: instanceA, ProjectID: tenantA}
	for name, step := range map[string]struct {
		most float64
		run  func()
	}{
		"neutron":              {2, func() { _, _ = n.Identify(claimed, loopback) }},
		"neutron, not claimed": {0, func() { _, _ = n.Identify(unclaimed, loopback) }},
		"assert neutron":       {2, func() { _, _ = n.Assertion().Sign(target) }},
		"inventory":            {0, func() { _, _ = inventory.Lookup(address) }},
	} {
		if got := testing.AllocsPerRun(200, step.run); got > step.most {
			t.Errorf("%s: %v allocations, at most %v", name, got, step.most)
		}
	}
}
