// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// Listeners of this process are found, with their addresses and ports.
func TestListeners(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // without IPv6
			continue
		}
		defer listener.Close()
		want := netip.MustParseAddrPort(listener.Addr().String())
		want = netip.AddrPortFrom(want.Addr().Unmap(), want.Port())
		found, err := listeners()
		if err != nil || !slices.Contains(found, want) {
			t.Errorf("%v is not among %v: %v", want, found, err)
		}
	}
}

func TestParseProc(t *testing.T) {
	for _, text := range []string{"", "0100007F", "0100007F:", "0100007F:XYZ", "01007F:0050", "zz00007F:0050", "0100007F:10050"} {
		if address, ok := parseProc(text); ok {
			t.Errorf("%q is %v", text, address)
		}
	}
}
