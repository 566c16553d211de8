// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/pires/go-proxyproto"

	"github.com/metaguard/metaguard/module/decision"
)

// targetRule is a provisioned one, with an inventory if it needs one.
func targetRule(tb testing.TB, rule TargetRule, inventory string) *TargetRule {
	tb.Helper()
	if inventory != "" {
		rule.Inventory = filepath.Join(tb.TempDir(), "inventory.json")
		writeFile(tb, rule.Inventory, inventory)
	}
	provision(tb, rule.Provision)
	return &rule
}

const twoInstances = `[
  {"address": "10.0.0.0/24", "instance_id": "` + instanceB + `", "project_id": "other"},
  {"address": "192.0.2.7", "instance_id": "` + instanceA + `", "project_id": "` + tenantA + `"},
  {"address": "2001:db8::7", "instance_id": "` + instanceA + `", "project_id": "` + tenantA + `"},
  {"address": "192.0.2.9", "project_id": "nobody"}
]`

func TestTargetByAddress(t *testing.T) {
	rule := targetRule(t, TargetRule{By: "remote_ip"}, twoInstances)
	for address, want := range map[string]decision.Target{
		"192.0.2.7": {InstanceID: instanceA, ProjectID: tenantA, Address: netip.MustParseAddr("192.0.2.7")},
		"10.0.0.9":  {InstanceID: instanceB, ProjectID: "other", Address: netip.MustParseAddr("10.0.0.9")},
		"192.0.2.9": {}, // names no instance
		"192.0.2.8": {},
	} {
		got, found := rule.Find(request(http.Header{HeaderTarget: {instanceA}}), netip.MustParseAddr(address), new(decision.Caller))
		if found != (want != decision.Target{}) || found && got != want {
			t.Errorf("%s: %+v, %v", address, got, found)
		}
	}
	if _, found := rule.Find(request(nil), netip.Addr{}, new(decision.Caller)); found {
		t.Error("a Unix socket has an instance")
	}
}

func TestTargetByClaim(t *testing.T) {
	for name, test := range map[string]struct {
		claims  map[string]any
		project string // of the claim
		want    decision.Target
	}{
		"the caller's project":  {map[string]any{"vm": instanceA}, "", decision.Target{InstanceID: instanceA, ProjectID: "callers"}},
		"a claim's project":     {map[string]any{"vm": instanceA, "p": tenantA}, "p", decision.Target{InstanceID: instanceA, ProjectID: tenantA}},
		"no claim":              {map[string]any{"p": tenantA}, "", decision.Target{}},
		"no claims":             {nil, "", decision.Target{}},
		"no UUID":               {map[string]any{"vm": "vm-1"}, "", decision.Target{InstanceID: "vm-1", ProjectID: "callers"}},
		"no id":                 {map[string]any{"vm": "vm 1"}, "", decision.Target{}},
		"upper case":            {map[string]any{"vm": strings.ToUpper(instanceB)}, "", decision.Target{}},
		"no text":               {map[string]any{"vm": []any{instanceA}}, "", decision.Target{}},
		"project without claim": {map[string]any{"vm": instanceA}, "p", decision.Target{}},
		"project malformed":     {map[string]any{"vm": instanceA, "p": "a b"}, "p", decision.Target{}},
	} {
		t.Run(name, func(t *testing.T) {
			rule := targetRule(t, TargetRule{By: "claim", Claim: "vm", ProjectClaim: test.project}, "")
			got, found := rule.Find(request(nil), loopback, &decision.Caller{ProjectID: "callers", Claims: test.claims})
			if found != (test.want.InstanceID != "") || found && got != test.want {
				t.Errorf("%+v, %v", got, found)
			}
		})
	}
}

func TestTargetByRequest(t *testing.T) {
	rule := targetRule(t, TargetRule{By: "request"}, twoInstances)
	if headers := rule.headers(); len(headers) != 1 || headers[0] != http.CanonicalHeaderKey(HeaderTarget) {
		t.Errorf("headers %q", headers)
	}
	for name, test := range map[string]struct {
		header []string
		want   decision.Target
	}{
		"known":      {[]string{instanceA}, decision.Target{InstanceID: instanceA, ProjectID: tenantA, Address: netip.MustParseAddr("192.0.2.7")}},
		"by prefix":  {[]string{instanceB}, decision.Target{InstanceID: instanceB, ProjectID: "other"}},
		"unknown":    {[]string{"99999999-9999-4999-8999-999999999999"}, decision.Target{}},
		"missing":    {nil, decision.Target{}},
		"doubled":    {[]string{instanceA, instanceA}, decision.Target{}},
		"malformed":  {[]string{"{" + instanceA + "}"}, decision.Target{}},
		"upper case": {[]string{strings.ToUpper(instanceB)}, decision.Target{}},
	} {
		got, found := rule.Find(request(http.Header{HeaderTarget: test.header}), loopback, new(decision.Caller))
		if found != (test.want.InstanceID != "") || found && got != test.want {
			t.Errorf("%s: %+v, %v", name, got, found)
		}
	}
}

func TestTargetErrors(t *testing.T) {
	split := `[{"address": "192.0.2.1", "instance_id": "` + instanceA + `", "project_id": "a"},
{"address": "192.0.2.2", "instance_id": "` + instanceB + `"},
{"address": "192.0.2.3", "instance_id": "` + instanceA + `", "project_id": "b"}]`
	path := filepath.Join(t.TempDir(), "split.json")
	writeFile(t, path, split)
	for want, rule := range map[string]TargetRule{
		`target "x": it is remote_ip, claim or request`:          {By: "x"},
		"target remote_ip needs an inventory file":               {By: "remote_ip"},
		"target request needs an inventory file":                 {By: "request"},
		"target claim needs the claim's name":                    {By: "claim"},
		`target: address "x"`:                                    {By: "claim", Claim: "x", Address: "x"},
		"no such file":                                           {By: "request", Inventory: path + "x"},
		path + ":3:1: instance " + instanceA + " has another pr": {By: "request", Inventory: path},
	} {
		if err := provisionError(t, rule.Provision); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// By address the same instance may be in two projects: each address has one.
	rule := TargetRule{By: "remote_ip", Inventory: path}
	provision(t, rule.Provision)
}

func TestTargetOfChain(t *testing.T) {
	with, without := &MTLS{Target: targetRule(t, TargetRule{By: "claim", Claim: "vm"}, "")}, newRemoteIP(t, "[]")
	chain := Chain{without, with}
	if chain.TargetRule(&decision.Caller{Source: "mtls"}) != with.Target || chain.TargetRule(&decision.Caller{Source: "remote_ip"}) != nil || chain.TargetRule(&decision.Caller{Source: "jwt"}) != nil {
		t.Error("wrong rule")
	}
	other := &MTLS{Target: targetRule(t, TargetRule{By: "request"}, twoInstances)}
	if files := (Chain{without, other}).Inventories(); len(files) != 2 || files[0] != without.File() || files[1] != other.Target.file {
		t.Errorf("inventories %v", files)
	}
	if files := chain.Inventories(); len(files) != 1 {
		t.Errorf("inventories %v", files)
	}
	var none *TargetRule
	if none.Start() != nil || none.headers() != nil {
		t.Error("no rule does something")
	}
	none.Stop()
}

// layered is as Caddy's own layers are.
type layered struct{ net.Conn }

// A header, Caddy's client IP and the PROXY protocol count only where the
// source says so.
func TestAddressFrom(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("PROXY TCP4 192.0.2.2 198.51.100.1 5 6\r\n")); err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn := proxyproto.NewConn(server)
	r := request(http.Header{"X-Forwarded-For": {"192.0.2.4"}})
	r.RemoteAddr = conn.RemoteAddr().String()
	ctx := context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: "::ffff:192.0.2.3"})
	r = r.WithContext(WithConnection(ctx, layered{tls.Server(conn, new(tls.Config))}))
	peer, err := Peer(r)
	if err != nil || peer.String() != "127.0.0.1" {
		t.Fatalf("peer %v, %v", peer, err)
	}
	for from, want := range map[AddressFrom]string{"": "127.0.0.1", FromConnection: "127.0.0.1", FromProxyProtocol: "192.0.2.2", FromClientIP: "192.0.2.3"} {
		if got := from.Of(r, peer); got.String() != want {
			t.Errorf("%q: %v, want %s", from, got, want)
		}
		source := newRemoteIP(t, fmt.Sprintf(`[{"address":%q,"instance_id":%q}]`, want, instanceA))
		source.Address = from
		caller, refusal := source.Identify(r, peer)
		if refusal != nil || caller == nil || caller.Address.String() != want || caller.InstanceID != instanceA {
			t.Errorf("%q: %+v, %v", from, caller, refusal)
		}
	}
	bare := request(nil)
	bare.RemoteAddr = "@"
	for _, from := range []AddressFrom{FromProxyProtocol, FromClientIP} {
		if got := from.Of(bare, peer); got.IsValid() {
			t.Errorf("%q of nothing: %v", from, got)
		}
	}
	if AddressFrom("header").Check() == nil || AddressFrom("").Check() != nil {
		t.Error("wrong check")
	}
}
