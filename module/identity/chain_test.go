// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestPeer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":               "192.0.2.7",
		"[2001:db8::1]:1":              "2001:db8::1",
		"[::ffff:192.0.2.7]:1":         "192.0.2.7",
		"[fe80::1%eth0]:1":             "fe80::1",
		"@":                            "",
		"":                             "",
		"/run/client.sock":             "",
		"192.0.2.7":                    "error",
		"name:80":                      "error",
		"192.0.2.7:http":               "error",
		"192.0.2.7:1, 127.0.0.1:2":     "error",
		"[::ffff:127.0.0.1%lo]:1":      "127.0.0.1",
		"client.sock on a Unix socket": "unix",
	} {
		t.Run(remote, func(t *testing.T) {
			r := request(http.Header{"X-Forwarded-For": {"10.0.0.5"}, "Forwarded": {"for=10.0.0.5"}})
			r.RemoteAddr = remote
			if want == "unix" {
				want = ""
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "x", Net: "unix"}))
			}
			got, err := Peer(r)
			switch {
			case want == "error":
				if err == nil || got.IsValid() {
					t.Errorf("%v, no error", got)
				}
			case err != nil:
				t.Error(err)
			case want == "" && got.IsValid(), want != "" && got != netip.MustParseAddr(want):
				t.Errorf("%v, want %q", got, want)
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	for _, peer := range []netip.Addr{stranger, {}} {
		caller, refusal := new(Anonymous).Identify(request(signed("wrong")), peer)
		want := &decision.Caller{Source: "anonymous", ID: "anonymous", Address: peer}
		if refusal != nil || !reflect.DeepEqual(caller, want) {
			t.Errorf("caller %+v, refusal %v", caller, refusal)
		}
	}
}

// fake answers as it is told to; one that must not be asked has asked set to false.
type fake struct {
	name    string
	caller  *decision.Caller
	refusal *decision.Refusal
	asked   bool
}

func (f *fake) Identify(*http.Request, netip.Addr) (*decision.Caller, *decision.Refusal) {
	f.asked = true
	return f.caller, f.refusal
}
func (f *fake) Name() string      { return f.name }
func (f *fake) Headers() []string { return []string{"X-" + f.name, "X-Shared"} }

func TestChainIdentify(t *testing.T) {
	caller, other := &decision.Caller{ID: "one"}, &decision.Caller{ID: "two"}
	refusal := decision.Refuse(decision.IdentityInvalid, "x")
	for name, test := range map[string]struct {
		chain  []*fake
		caller *decision.Caller
		reason decision.Reason
		asked  int
		claims string
	}{
		"nobody there":       {nil, nil, decision.IdentityMissing, 0, ""},
		"nobody claims":      {[]*fake{{}, {}}, nil, decision.IdentityMissing, 2, ""},
		"first claims":       {[]*fake{{caller: caller}, {caller: other}}, caller, "", 1, "source0"},
		"second claims":      {[]*fake{{}, {caller: other}}, other, "", 2, "source1"},
		"no falling-through": {[]*fake{{refusal: refusal}, {caller: other}}, nil, decision.IdentityInvalid, 1, "source0"},
		"both is a refusal":  {[]*fake{{caller: caller, refusal: refusal}}, nil, decision.IdentityInvalid, 1, "source0"},
	} {
		t.Run(name, func(t *testing.T) {
			var chain Chain
			for i, source := range test.chain {
				source.name = fmt.Sprint("source", i)
				chain = append(chain, source)
			}
			got, claimed, refused := chain.Identify(request(http.Header{}), stranger)
			if got != test.caller || claimed != test.claims {
				t.Errorf("caller %+v, claimed by %q", got, claimed)
			}
			switch {
			case test.reason == "" && refused != nil, test.reason != "" && (refused == nil || refused.Reason != test.reason):
				t.Errorf("refusal %v, want %q", refused, test.reason)
			}
			for i, source := range test.chain {
				if source.asked != (i < test.asked) {
					t.Errorf("source %d asked: %v", i, source.asked)
				}
			}
		})
	}
}

// A forged claim does not become anonymous, and an inventory before neutron
// takes its callers whatever headers they send.
func TestChainOfRealSources(t *testing.T) {
	neutron, inventory := newNeutron(t), newRemoteIP(t, `[{"address":"192.0.2.7","instance_id":"`+instanceB+`"}]`)
	forged := request(signed("wrong"))
	_, _, refusal := Chain{neutron, new(Anonymous)}.Identify(forged, loopback)
	if refusal == nil || refusal.Code != "neutron_signature_wrong" {
		t.Errorf("forged: %v", refusal)
	}
	_, _, refusal = Chain{neutron, inventory}.Identify(request(signed(planted)), stranger)
	if refusal == nil || refusal.Code != "neutron_sender_untrusted" {
		t.Errorf("stranger, neutron first: %v", refusal)
	}
	caller, _, refusal := Chain{inventory, neutron}.Identify(request(signed(planted)), stranger)
	if refusal != nil || caller.Source != "remote_ip" || caller.InstanceID != instanceB {
		t.Errorf("stranger, inventory first: %+v, %v", caller, refusal)
	}
}

func TestChainTrustsAndHeaders(t *testing.T) {
	chain := Chain{&fake{name: "B"}, newNeutron(t), &fake{name: "A"}}
	if !chain.Trusts(loopback) || chain.Trusts(stranger) || chain.Trusts(netip.Addr{}) || (Chain{&fake{}}).Trusts(loopback) {
		t.Error("wrong trust")
	}
	names := chain.Headers()
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) || len(names) != 9 {
		t.Errorf("headers %q", names)
	}
}

func TestChainValidate(t *testing.T) {
	a, b, last := &fake{name: "a"}, &fake{name: "b"}, new(Anonymous)
	for name, test := range map[string]struct {
		chain Chain
		want  string
	}{
		"one":             {Chain{a}, ""},
		"anonymous last":  {Chain{a, b, last}, ""},
		"only anonymous":  {Chain{last}, ""},
		"none":            {nil, "no identity source"},
		"anonymous first": {Chain{last, a}, "must be last"},
		"anonymous twice": {Chain{last, last}, "must be last"},
		"twice":           {Chain{a, b, a}, "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.chain.Validate()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
