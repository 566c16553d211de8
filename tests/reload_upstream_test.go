// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"strings"
	"testing"
)

// A reload that fails while it makes its way to the legacy server takes nothing from the
// configuration in force: Caddy counts the uses of a server over all of them.
func TestFailedReloadKeepsUpstreams(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress, nil)
	if got := m.admin.Get(t, "/reverse_proxy/upstreams"); !strings.Contains(got, m.upstream.Address) {
		t.Fatalf("before: %s", got)
	}
	good := m.read(t, "Caddyfile")
	m.edit(t, "Caddyfile", "upstream "+m.upstream.Address, "upstream "+m.upstream.Address+" {\n\t\t\ttransport http {\n\t\t\t\ttls_trust_pool file nowhere.pem\n\t\t\t}\n\t\t}")
	for range 2 {
		if output, err := m.reload(t); err == nil {
			t.Fatalf("a reload without its certificates succeeded:\n%s", output)
		}
	}
	if got := m.admin.Get(t, "/reverse_proxy/upstreams"); !strings.Contains(got, m.upstream.Address) {
		t.Errorf("after a reload that failed: %s", got)
	}
	m.Write("Caddyfile", good)
	m.reloadForced(t)
	if got := m.admin.Get(t, "/reverse_proxy/upstreams"); !strings.Contains(got, m.upstream.Address) {
		t.Errorf("after a good one: %s", got)
	}
}
