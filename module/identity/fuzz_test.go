// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// FuzzInventory holds the streaming reader against encoding/json and a search
// through all prefixes, and every error's position against the text.
func FuzzInventory(f *testing.F) {
	f.Add([]byte(exampleInventory))
	f.Add([]byte(manyEntries(20)))
	for _, seed := range []string{
		"", "[]", "[{}]", `[{"address":"::ffff:10.0.0.0/104"},{"address":"10.0.0.0/9","roles":["a","b"]}]`,
		"[\n{\"address\":\"10.0.0.5\"},\n{\"address\":\"10.0.0.5/32\"}]", `[{"address":"10.0.0.5","roles":["\ud83d\ude00",""]}]`, "[{\"address\":1}]", "[\r\n]x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		inventory, err := readInventory("x", bytes.NewReader(text), new(pace.Pace))
		if err != nil {
			var at *InventoryError
			if !errors.As(err, &at) {
				t.Fatalf("an error without a position: %v", err)
			}
			lines := strings.Split(string(text), "\n")
			if at.Line < 1 || at.Line > len(lines) || at.Column < 1 || at.Column > len(lines[at.Line-1])+1 || at.Problem == "" {
				t.Fatalf("%v is outside the text", at)
			}
			return
		}
		var entries []struct {
			Address    string   `json:"address"`
			InstanceID string   `json:"instance_id"`
			ProjectID  string   `json:"project_id"`
			Roles      []string `json:"roles"`
		}
		if err := json.Unmarshal(text, &entries); err != nil {
			t.Fatalf("took what is no inventory: %v", err)
		}
		if inventory.Len() != len(entries) {
			t.Fatalf("%d entries of %d", inventory.Len(), len(entries))
		}
		prefixes := make([]netip.Prefix, len(entries))
		for i, entry := range entries {
			if prefixes[i], err = parsePrefix(entry.Address); err != nil {
				t.Fatal(err)
			}
		}
		for _, probe := range prefixes {
			best := -1
			for i, prefix := range prefixes {
				if prefix.Contains(probe.Addr()) && (best < 0 || prefix.Bits() > prefixes[best].Bits()) {
					best = i
				}
			}
			got, ok := inventory.Lookup(probe.Addr())
			want := entries[best]
			if !ok || got.InstanceID != want.InstanceID || got.ProjectID != want.ProjectID || strings.Join(got.Roles, "\x00") != strings.Join(want.Roles, "\x00") {
				t.Fatalf("%s is %+v, want %+v", probe.Addr(), got, want)
			}
		}
	})
}

// FuzzNeutron: whoever is identified sent exactly one right signature of its
// own instance from a trusted address; whatever else has one of the headers is
// refused, and no refusal shows a signature or a secret.
func FuzzNeutron(f *testing.F) {
	good := Sign(decision.NewSecret(planted), instanceA)
	f.Add(instanceA, tenantA, good, "10.0.0.5", "127.0.0.1", uint8(0))
	f.Add(instanceA, tenantA, Sign(decision.NewSecret(older), instanceA), "", "::1", uint8(0))
	f.Add(instanceB, tenantA, good, "10.0.0.5", "127.0.0.1", uint8(0))
	f.Add(instanceA, tenantA, good, "10.0.0.5", "192.0.2.7", uint8(0))
	for bit := range 8 {
		f.Add(instanceA, tenantA, good, "fe80::1", "127.0.0.1", uint8(1)<<bit)
	}
	f.Add(instanceA+",", "a b", strings.ToUpper(good), "10.0.0.5, 10.0.0.6", "", uint8(3))
	n := newNeutron(f)
	f.Fuzz(func(t *testing.T, id, tenant, signature, address, from string, twist uint8) {
		h := http.Header{}
		for i, header := range []struct{ name, value string }{
			{"X-Instance-Id", id}, {"X-Tenant-Id", tenant}, {"X-Instance-Id-Signature", signature}, {"X-Forwarded-For", address},
		} {
			if twist>>i&1 == 0 {
				h[header.name] = []string{header.value}
			}
			if twist>>(4+i)&1 == 1 {
				h[header.name] = append(h[header.name], header.value)
			}
		}
		if twist == 0x77 {
			h["X-Metadata-Provider"] = []string{id}
		}
		peer, _ := netip.ParseAddr(from)
		caller, refusal := n.Identify(request(h), peer)
		claims := len(h["X-Instance-Id"]) + len(h["X-Tenant-Id"]) + len(h["X-Instance-Id-Signature"]) + len(h["X-Metadata-Provider"])
		switch {
		case caller != nil && refusal != nil:
			t.Fatal("both")
		case caller == nil && refusal == nil:
			if claims > 0 {
				t.Fatal("a claim was passed over")
			}
			return
		case claims == 0:
			t.Fatal("claimed what has none of the headers")
		case refusal != nil:
			if refusal.Reason != decision.IdentityInvalid || !strings.HasPrefix(refusal.Code, "neutron_") {
				t.Fatalf("refusal %v", refusal)
			}
			if text := refusal.Error(); strings.Contains(text, planted) || strings.Contains(text, Sign(decision.NewSecret(planted), id)) {
				t.Fatalf("refusal shows too much: %s", text)
			}
			return
		}
		right := signature == Sign(decision.NewSecret(planted), id) || signature == Sign(decision.NewSecret(older), id)
		if !right || claims != 3 || !peer.IsValid() || !peer.Unmap().IsLoopback() || len(id) != 36 || strings.ToLower(id) != id {
			t.Fatalf("identified %+v from %s", caller, peer)
		}
		if caller.InstanceID != id || caller.ID != "instance:"+id || caller.ProjectID != tenant || caller.Source != "neutron" {
			t.Fatalf("identified %+v for %s", caller, id)
		}
		if want, err := netip.ParseAddr(address); len(h["X-Forwarded-For"]) == 1 && (err != nil || caller.Address != want.Unmap()) || len(h["X-Forwarded-For"]) == 0 && caller.Address.IsValid() {
			t.Fatalf("address %s for %q", caller.Address, address)
		}
	})
}
