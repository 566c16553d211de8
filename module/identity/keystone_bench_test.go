// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

func BenchmarkKeystoneRemembered(b *testing.B) {
	fake := newFakeKeystone(b, tells(alice("")))
	k := newKeystone(b, fake.URL, nil)
	// As long as a Fernet token of a project.
	r := withToken("gAAAAAB" + strings.Repeat("x", 176))
	peer := netip.MustParseAddr("127.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		if caller, refusal := k.Identify(r, peer); caller == nil {
			b.Fatal(refusal)
		}
	}
}

func BenchmarkKeystoneUnclaimed(b *testing.B) {
	k := newKeystone(b, "https://keystone.example", nil)
	r := request(http.Header{"User-Agent": {"curl"}, "Accept": {"*/*"}})
	b.ReportAllocs()
	for b.Loop() {
		if caller, refusal := k.Identify(r, loopback); caller != nil || refusal != nil {
			b.Fatal("claimed")
		}
	}
}

func BenchmarkKeystoneAsked(b *testing.B) {
	fake := newFakeKeystone(b, tells(alice("")))
	k := newKeystone(b, fake.URL, func(k *Keystone) { k.Cache = -1 })
	r := withToken(planted)
	b.ReportAllocs()
	for b.Loop() {
		if caller, refusal := k.Identify(r, loopback); caller == nil {
			b.Fatal(refusal)
		}
	}
}

// BenchmarkKeystoneKept reports what a full cache keeps (kept-MB).
func BenchmarkKeystoneKept(b *testing.B) {
	document := []byte(alice(""))
	ask := func(context.Context, string) (*keystoneUser, *decision.Refusal) {
		user, err := readToken(document)
		if err != nil {
			b.Error(err)
		}
		return user, nil
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var tokens *tokenCache
	for b.Loop() {
		var err error
		if tokens, err = newTokenCache(ask, time.Minute, defaultKeystoneCacheSize); err != nil {
			b.Fatal(err)
		}
		for i := range 2 * defaultKeystoneCacheSize {
			if user, _ := tokens.check(b.Context(), fmt.Sprint("token-", i)); user == nil {
				b.Fatal("refused")
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "kept-MB")
	b.ReportMetric(float64(tokens.taken.EstimatedSize()), "tokens")
}
