// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func newTestLimits(tb testing.TB, requests, refusals *Rate) *limits {
	tb.Helper()
	l, err := newLimits(LimitConfig{Requests: requests, Refusals: refusals})
	if err != nil || l == nil {
		tb.Fatalf("%v, %v", l, err)
	}
	return l
}

func TestAllowance(t *testing.T) {
	l := newTestLimits(t, &Rate{PerSecond: 2, Burst: 3}, &Rate{PerSecond: 0.5, Burst: 1})
	start := time.Now()
	one, other := l.callers.of("one"), l.callers.of("other")
	for range 3 {
		if _, ok := one.take(start); !ok {
			t.Fatal("the burst is refused")
		}
	}
	if wait, ok := one.take(start); ok || wait != 500*time.Millisecond {
		t.Errorf("past the burst: %v, wait %v", ok, wait)
	}
	if _, ok := other.take(start); !ok {
		t.Error("two callers share a limit")
	}
	if _, ok := l.callers.of("one").take(start.Add(500 * time.Millisecond)); !ok {
		t.Error("nothing comes back")
	}
	other.refusals.AllowN(start, 1)
	if wait, ok := other.take(start); ok || wait != 2*time.Second {
		t.Errorf("after a refusal: %v, wait %v", ok, wait)
	}
	if _, ok := other.take(start.Add(2 * time.Second)); !ok {
		t.Error("a refused caller stays out")
	}
}

// Memory is bounded, and whoever asked last is remembered.
func TestAllowancesBounded(t *testing.T) {
	l := newTestLimits(t, &Rate{PerSecond: 1}, nil)
	now := time.Now()
	for i := range maxLimited + 10 {
		l.callers.of(fmt.Sprint(i)).take(now)
	}
	if n := l.callers.recent.Len(); n != maxLimited {
		t.Errorf("%d remembered", n)
	}
	if _, ok := l.callers.of(fmt.Sprint(maxLimited + 9)).take(now); ok {
		t.Error("the last caller was forgotten")
	}
}

func TestNeighbourhood(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64"} {
		if got := neighbourhood(netip.MustParseAddr(address)); got.String() != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}

func limited(l *limits, peer string, caller *decision.Caller, agent bool) *exchange {
	x := &exchange{h: &Handler{limits: l}, r: httptest.NewRequest("GET", "/", nil), start: time.Now(), caller: caller, agent: agent}
	if peer != "" {
		x.peer = netip.MustParseAddr(peer)
	}
	return x
}

func TestCountRefusal(t *testing.T) {
	missing := decision.Refuse(decision.IdentityMissing, "x")
	for name, test := range map[string]struct {
		peers   []string
		agent   bool
		limited bool // the last of them
	}{
		"one address":           {[]string{"192.0.2.7", "192.0.2.7"}, false, true},
		"one IPv6 network":      {[]string{"2001:db8::1", "2001:db8::2"}, false, true},
		"two addresses":         {[]string{"192.0.2.7", "192.0.2.8"}, false, false},
		"two IPv6 networks":     {[]string{"2001:db8::1", "2001:db8:0:1::1"}, false, false},
		"an agent speaks for":   {[]string{"192.0.2.7", "192.0.2.7"}, true, false},
		"nobody knows a socket": {[]string{"", ""}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTestLimits(t, nil, &Rate{PerSecond: 1, Burst: 1})
			var last *decision.Refusal
			for _, peer := range test.peers {
				last = limited(l, peer, nil, test.agent).countRefusal(missing)
			}
			if got := last.Reason == decision.RateLimited; got != test.limited || got && last.RetryAfter <= 0 {
				t.Errorf("%v, retry after %v", last, last.RetryAfter)
			}
		})
	}
}

// Callers of whom nothing but an address is known are told apart by it.
func TestLimitOfAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		id      string
		source  string
		peers   [2]string
		limited bool
	}{
		"anonymous, one address":  {"anonymous", "anonymous", [2]string{"192.0.2.7", "192.0.2.7"}, true},
		"anonymous, two":          {"anonymous", "anonymous", [2]string{"192.0.2.7", "192.0.2.8"}, false},
		"by prefix, one network":  {"address:x", "remote_ip", [2]string{"2001:db8::1", "2001:db8::2"}, true},
		"by prefix, two networks": {"address:x", "remote_ip", [2]string{"2001:db8::1", "2001:db8:0:1::1"}, false},
		"an instance that moves":  {"instance:x", "remote_ip", [2]string{"192.0.2.7", "192.0.2.8"}, true},
	} {
		l := newTestLimits(t, &Rate{PerSecond: 0.01, Burst: 1}, nil)
		var refusal *decision.Refusal
		for _, peer := range test.peers {
			refusal = limited(l, peer, &decision.Caller{Source: test.source, ID: test.id, Address: netip.MustParseAddr(peer)}, false).limit()
		}
		if (refusal != nil) != test.limited {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// Refusals that lie with the server do not count against the caller.
func TestCountRefusalOfServer(t *testing.T) {
	l := newTestLimits(t, nil, &Rate{PerSecond: 1, Burst: 1})
	caller := &decision.Caller{ID: "one"}
	for _, test := range []struct {
		reason decision.Reason
		next   bool
	}{{decision.Overloaded, true}, {decision.UpstreamUnreachable, true}, {decision.PolicyDeny, false}} {
		x := limited(l, "192.0.2.7", caller, false)
		if refusal := x.limit(); refusal != nil {
			t.Fatal(refusal)
		}
		x.countRefusal(decision.Refuse(test.reason, "x"))
		if refusal := limited(l, "192.0.2.7", caller, false).limit(); (refusal == nil) != test.next {
			t.Errorf("after %s: %v", test.reason, refusal)
		}
	}
}

// A request that was refused late counts when it is refused: what came meanwhile is
// not forgotten, as it would be if the limit were set back to when it began.
func TestCountRefusalLate(t *testing.T) {
	l := newTestLimits(t, &Rate{PerSecond: 1, Burst: 10}, &Rate{PerSecond: 1, Burst: 10})
	caller := &decision.Caller{ID: "one"}
	slow := limited(l, "192.0.2.7", caller, false)
	slow.start = slow.start.Add(-8 * time.Second) // its body came as slowly as body_timeout allows
	for range 9 {
		x := limited(l, "192.0.2.7", caller, false)
		if refusal := x.limit(); refusal != nil {
			t.Fatal(refusal)
		}
		x.countRefusal(decision.Refuse(decision.PolicyDeny, "x"))
	}
	if refusal := slow.limit(); refusal != nil { // its identity took that long
		t.Fatal(refusal)
	}
	slow.countRefusal(decision.Refuse(decision.BodyTimeout, "x"))
	for name, left := range map[string]float64{"requests": slow.allowance.requests.Tokens(), "refusals": slow.allowance.refusals.Tokens()} {
		if left > 1 {
			t.Errorf("a late request gave %.0f %s back", left, name)
		}
	}
}

func TestUnmarshalLimit(t *testing.T) {
	for text, want := range map[string]string{
		"limit {\n requests 20/s burst 60\n refusals 5/s\n}": "{20 60} {5 5} ",
		"limit {\n requests 90/m\n}":                         "{1.5 2} <nil> ",
		"limit {\n refusals 36/h\n address client_ip\n}":     "<nil> {0.01 1} client_ip",
		"limit {\n requests 20\n}":                           `requests "20": it is like`,
		"limit {\n requests 20/d\n}":                         "it is like `20/s`",
		"limit {\n requests 0/s\n}":                          "above zero",
		"limit {\n requests -1/s\n}":                         "above zero",
		"limit {\n requests NaN/s\n}":                        "above zero",
		"limit {\n requests inf/s\n}":                        "above zero",
		"limit {\n requests 1/s burst 0\n}":                  `burst "0": it is a number above zero`,
		"limit {\n requests 1/s burst -1\n}":                 "above zero",
		"limit {\n requests 1/s burst\n}":                    "it is like",
		"limit {\n requests 1/s bursts 2\n}":                 "it is like",
		"limit {\n requests 1/s\n requests 2/s\n}":           "requests is given twice",
		"limit {\n address header\n}":                        "it is one of",
		"limit {\n everything 1/s\n}":                        `unrecognized setting "everything" of limit`,
		"limit {\n requests 1e9/s\n}":                        "at most a million",
		"limit":                                              "give requests, refusals or both",
		"limit {\n address client_ip\n}":                     "give requests, refusals or both",
		"limit 20/s":                                         "wrong argument count",
	} {
		h := new(Handler)
		d := caddyfile.NewTestDispenser(text)
		d.Next()
		err := h.unmarshalLimit(d)
		if err == nil {
			var l *limits
			if l, err = newLimits(*h.Limit); err == nil {
				if got := fmt.Sprintf("%v %v %s", value(l.config.Requests), value(l.config.Refusals), l.config.Address); got != want {
					t.Errorf("%s: %s, want %s", text, got, want)
				}
				continue
			}
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func value(r *Rate) any {
	if r == nil {
		return nil
	}
	return *r
}

func BenchmarkLimit(b *testing.B) {
	l := newTestLimits(b, &Rate{PerSecond: 1e6, Burst: 1e6}, &Rate{PerSecond: 5})
	caller := &decision.Caller{ID: "instance:11111111-1111-4111-8111-111111111111"}
	x := limited(l, "192.0.2.7", caller, false)
	b.ReportAllocs()
	for b.Loop() {
		if refusal := x.limit(); refusal != nil && refusal.Reason != decision.RateLimited {
			b.Fatal(refusal)
		}
	}
}
