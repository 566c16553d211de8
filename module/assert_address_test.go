// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
)

// Only an address that is one machine's alone is connected from, and only to a
// server of its family.
func TestAddressAssertionOf(t *testing.T) {
	for text, want := range map[string]struct{ of4, of6 string }{
		"192.0.2.7":        {"", "address_family"},
		"::ffff:192.0.2.7": {"", "address_family"},
		"127.0.0.2":        {"", "address_family"},
		"169.254.0.9":      {"", "address_family"},
		"2001:db8::7":      {"address_family", ""},
		"::1":              {"address_family", ""},
		"":                 {"no_address", "no_address"},
		"0.0.0.0":          {"no_address", "no_address"},
		"::":               {"no_address", "no_address"},
		"::ffff:0.0.0.0":   {"no_address", "no_address"},
		"224.0.0.1":        {"no_address", "no_address"},
		"ff02::1":          {"no_address", "no_address"},
		"fe80::1":          {"no_address", "no_address"},
		"fe80::1%eth0":     {"no_address", "no_address"},
		"2001:db8::7%eth0": {"no_address", "no_address"},
		"::ffff:224.0.0.1": {"no_address", "no_address"},
		"fd77:1::2":        {"address_family", ""},
	} {
		var target decision.Target
		if text != "" {
			target.Address = netip.MustParseAddr(text)
		}
		for is6, code := range map[bool]string{false: want.of4, true: want.of6} {
			source, refusal := (&addressAssertion{is6: is6}).of(target)
			switch {
			case code == "" && (refusal != nil || source != target.Address.Unmap()):
				t.Errorf("%q: %v, %v", text, source, refusal)
			case code != "" && (refusal == nil || refusal.Reason != decision.TargetUnknown || refusal.Code != code || source.IsValid()):
				t.Errorf("%q: %v, %v, want %s", text, source, refusal, code)
			}
		}
	}
}

// The address to connect from is the target's, not the caller's, and a request
// whose target has none is refused with nothing sent.
func TestOutgoingSource(t *testing.T) {
	caller := &decision.Caller{Address: netip.MustParseAddr("192.0.2.1")}
	x := &exchange{
		h: &Handler{source: new(addressAssertion)}, r: new(http.Request), request: new(canonical.Request),
		caller: caller, target: decision.Target{Address: netip.MustParseAddr("192.0.2.2")},
	}
	outgoing, refusal := x.outgoing(t.Context())
	if refusal != nil || outgoing.Context().(*hopContext).source != x.target.Address {
		t.Errorf("%v", refusal)
	}
	x.target = decision.Target{InstanceID: "named by a claim"}
	if outgoing, refusal = x.outgoing(t.Context()); outgoing != nil || refusal == nil || refusal.Code != "no_address" {
		t.Errorf("%v", refusal)
	}
	x.r = x.r.WithContext(t.Context())
	if refusal := x.forward(); refusal == nil || refusal.Code != "no_address" || !x.unsent {
		t.Errorf("%v, unsent: %v", refusal, x.unsent)
	}
}

// Nothing connects from an address of this host by mistake, and what fails is
// an error of dialing.
func TestDialWithoutSource(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	a := &addressAssertion{dialer: net.Dialer{Timeout: time.Second}}
	conn, err := a.dial(context.Background(), "tcp", listener.Addr().String())
	if conn != nil || !errors.As(err, new(reverseproxy.DialError)) {
		t.Errorf("%v, %v", conn, err)
	}
}

// A connection that stands still ends, as Caddy's own does.
func TestTimedConn(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	conn := &timedConn{client, time.Millisecond, time.Millisecond}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("reading: %v", err)
	}
	if _, err := conn.Write([]byte{1}); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("writing: %v", err)
	}
}

// The log says what is to be done.
func TestExplainDial(t *testing.T) {
	for want, err := range map[string]error{
		"CAP_NET_ADMIN is missing, or a firewall forbids it":    syscall.EPERM,
		"all its ports are in use, or CAP_NET_ADMIN is missing": syscall.EADDRNOTAVAIL,
		"no reply came back to this host":                       context.DeadlineExceeded,
	} {
		got := explainDial(&net.OpError{Op: "dial", Net: "tcp", Err: err})
		if !errors.Is(got, err) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v", got)
		}
	}
	if err := explainDial(syscall.ECONNREFUSED); err != syscall.ECONNREFUSED { //nolint:errorlint // as it is
		t.Error(err)
	}
}
