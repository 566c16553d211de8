// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// entryOf is the address and instance of entry i of manyEntries: every fourth
// is IPv6.
func entryOf(i int) (netip.Addr, string) {
	id := fmt.Sprintf("%08x-0c6e-4f6e-9d0a-%012x", uint32(i)*2654435761, i)
	if i%4 == 3 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i), 15: 1}), id
	}
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), id
}

// manyEntries is an inventory of n entries, one a line from line 2 on.
func manyEntries(n int) string {
	var text strings.Builder
	text.WriteString("[")
	for i := range n {
		address, id := entryOf(i)
		fmt.Fprintf(&text, "\n{\"address\": %q, \"instance_id\": %q, \"project_id\": \"%032x\", \"roles\": [\"windows\", \"r%d\"]},", address, id, i%5000, i%7)
	}
	return strings.TrimSuffix(text.String(), ",") + "\n]\n"
}

func BenchmarkNeutronIdentify(b *testing.B) {
	n := newNeutron(b)
	r := request(signed(planted))
	b.ReportAllocs()
	for b.Loop() {
		if caller, _ := n.Identify(r, loopback); caller == nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkNeutronUnclaimed(b *testing.B) {
	n := newNeutron(b)
	r := request(http.Header{"User-Agent": {"curl"}, "Accept": {"*/*"}})
	b.ReportAllocs()
	for b.Loop() {
		if caller, refusal := n.Identify(r, loopback); caller != nil || refusal != nil {
			b.Fatal("claimed")
		}
	}
}

func BenchmarkAssertion(b *testing.B) {
	n := newNeutron(b)
	target := decision.Target{InstanceID: instanceA, ProjectID: tenantA}
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := n.Assertion().Sign(target); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

var sizes = []int{10, 10_000, 1_000_000}

func BenchmarkInventoryLookup(b *testing.B) {
	for _, size := range sizes {
		inventory, err := readInventory("x", strings.NewReader(manyEntries(size)), new(pace.Pace))
		if err != nil {
			b.Fatal(err)
		}
		addresses := make([]netip.Addr, 1024)
		for i := range addresses {
			addresses[i], _ = entryOf(i * 2654435761 % size)
		}
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := inventory.Lookup(addresses[i%len(addresses)]); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkInventoryLoad reports what the loaded inventory keeps (kept-MB) and
// what the process took from the system for it (sys-MB, over the whole run).
func BenchmarkInventoryLoad(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "inventory.json")
			if err := os.WriteFile(path, []byte(manyEntries(size)), 0o600); err != nil {
				b.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var inventory *Inventory
			for b.Loop() {
				if inventory, err = LoadInventory(path, new(pace.Pace)); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "kept-MB")
			b.ReportMetric(float64(after.Sys)/1e6, "sys-MB")
			runtime.KeepAlive(inventory)
		})
	}
}
