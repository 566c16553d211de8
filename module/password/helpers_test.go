// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"encoding/base64"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/decision"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// clock is a wall clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const (
	testOnce    = 60 * time.Second
	testTimeout = 10 * time.Second
	testPending = testOnce + testTimeout
)

var (
	firstKey  = decision.NewSecret("the first fingerprint key of the tests")
	secondKey = decision.NewSecret("the second fingerprint key of the tests")
)

// newFileLatch is a latch as another process on the same directory has it.
func newFileLatch(tb testing.TB, directory string) *FileLatch {
	tb.Helper()
	latch := new(FileLatch)
	latch.prepare(directory)
	return latch
}

// newKeeper makes a keeper with the tests' terms; edits change its settings.
func newKeeper(tb testing.TB, latch Latch, c *clock, edits ...func(*Config)) *Keeper {
	tb.Helper()
	config := Config{
		Latch:           latch,
		WriteOnce:       testOnce,
		WriteTimeout:    testTimeout,
		FingerprintKeys: []decision.Secret{firstKey},
		Now:             c.Now,
	}
	for _, edit := range edits {
		edit(&config)
	}
	keeper, err := NewKeeper(config)
	if err != nil {
		tb.Fatal(err)
	}
	return keeper
}

// rsaResult looks like the result of a key of that many bits.
func rsaResult(bits int) []byte {
	return []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0x11, 0xe7, 0x42}, bits/32)))
}

func mustKey(tb testing.TB, instance string) Key {
	tb.Helper()
	key, err := NewKey(instance)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// wantRefusal fails unless got is a refusal with this reason and code; an
// empty reason wants none.
func wantRefusal(tb testing.TB, got *decision.Refusal, reason decision.Reason, code string) {
	tb.Helper()
	switch {
	case got == nil && reason == "":
	case got == nil:
		tb.Fatalf("no refusal, want %s (%s)", reason, code)
	case reason == "":
		tb.Fatalf("refused: %v", got)
	case got.Reason != reason || got.Code != code:
		tb.Fatalf("refused with %v, want %s (%s)", got, reason, code)
	}
}
