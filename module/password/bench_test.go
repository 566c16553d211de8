// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkReserveSettle is one password write with the file latch: two synced
// files and their directories.
func BenchmarkReserveSettle(b *testing.B) {
	for _, first := range []bool{true, false} {
		name := "again"
		if first {
			name = "first"
		}
		b.Run(name, func(b *testing.B) {
			clock := newClock()
			keeper := newKeeper(b, newFileLatch(b, b.TempDir()), clock)
			body := []byte("correct horse battery staple")
			for i := 0; b.Loop(); i++ {
				instance := "instance"
				if first {
					instance = fmt.Sprintf("instance %d", i)
				}
				reservation, refusal := keeper.Reserve(context.Background(), instance, body)
				if refusal != nil {
					b.Fatal(refusal)
				}
				if refusal := reservation.Settle(Accepted); refusal != nil {
					b.Fatal(refusal)
				}
				clock.Advance(time.Hour)
			}
		})
	}
}

// BenchmarkRefused is a write that the latch refuses.
func BenchmarkRefused(b *testing.B) {
	keeper := newKeeper(b, newFileLatch(b, b.TempDir()), newClock())
	body := []byte("correct horse battery staple")
	if _, refusal := keeper.Reserve(context.Background(), "instance", body); refusal != nil {
		b.Fatal(refusal)
	}
	for b.Loop() {
		if _, refusal := keeper.Reserve(context.Background(), "instance", body); refusal == nil {
			b.Fatal("reserved twice")
		}
	}
}

// BenchmarkCheckRead is a password answer that matches its fingerprint.
func BenchmarkCheckRead(b *testing.B) {
	keeper := newKeeper(b, newFileLatch(b, b.TempDir()), newClock())
	body := []byte("correct horse battery staple")
	if _, refusal := keeper.Reserve(context.Background(), "instance", body); refusal != nil {
		b.Fatal(refusal)
	}
	for b.Loop() {
		if refusal := keeper.CheckRead(context.Background(), "instance", body); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

// BenchmarkInspect looks at one result of a 2048-bit key.
func BenchmarkInspect(b *testing.B) {
	body := rsaResult(2048)
	b.ReportAllocs()
	for b.Loop() {
		if Inspect(body).KeyBits != 2048 {
			b.Fatal("not recognised")
		}
	}
}
