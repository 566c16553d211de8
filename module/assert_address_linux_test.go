// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	sys "golang.org/x/sys/unix"
)

// Without the capability the check at the start fails, and so does a dial, both
// with a word about it.
func TestAddressWithoutCapability(t *testing.T) {
	powerless(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	a := &addressAssertion{dialer: net.Dialer{Timeout: time.Second, FallbackDelay: -1, Control: transparent}}
	ctx := &hopContext{Context: context.Background(), source: netip.MustParseAddr("127.0.0.9")}
	_, dialed := a.dial(ctx, "tcp", listener.Addr().String())
	if !errors.As(dialed, new(reverseproxy.DialError)) {
		t.Errorf("no error of dialing: %v", dialed)
	}
	for _, err := range []error{dialed, a.Start(), (&addressAssertion{is6: true}).Start()} {
		if err == nil || !strings.Contains(err.Error(), syscall.EPERM.Error()) || !strings.Contains(err.Error(), "CAP_NET_ADMIN is missing") {
			t.Errorf("%v", err)
		}
	}
}

// powerless takes all capabilities from the thread that the test runs on, which
// ends with it.
func powerless(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := sys.CapUserHeader{Version: sys.LINUX_CAPABILITY_VERSION_3}
	var none [2]sys.CapUserData
	if err := sys.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
}
