// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// An upstream that is the guarded site itself is found by every address of this host
// where the site listens on all of them, and nowhere else.
func TestUpstreamLoop(t *testing.T) {
	cases := map[string]bool{
		"127.0.0.1:8775": true, "localhost:8775": true, "[::1]:8775": true,
		"127.0.0.1:8774": false, "127.0.0.1:8776": false, "192.0.2.7:8775": false, "nova.internal:8775": false, "unix//run/x.sock": false,
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range addresses {
		if prefix, err := netip.ParsePrefix(own.String()); err == nil && prefix.Addr().Is4() {
			cases[prefix.Addr().String()+":8775"] = true
		}
	}
	for dial, want := range cases {
		found := examineTree(t, "upstream_loop", guarded("openstack", dial, `{}`, ""), nil)
		if (len(found) == 1) != want || want && !strings.Contains(found[0], "is the guarded site itself, which listens on :8775") {
			t.Errorf("%s: %q", dial, found)
		}
	}
	other := `"other":{"listen":["127.0.0.1:8774"],"routes":[{"handle":[{"handler":"metaguard","dialect":{"name":"openstack"},"upstream":{"upstreams":[{"dial":"192.0.2.7:80"}]}}]}]},`
	config := strings.Replace(guarded("openstack", "127.0.0.1:8774", `{}`, ""), `"srv0":`, other+`"srv0":`, 1)
	if found := examineTree(t, "upstream_loop", config, nil); len(found) != 1 || !strings.Contains(found[0], "is another guarded site, which listens on 127.0.0.1:8774") {
		t.Errorf("two guards: %q", found)
	}
}
