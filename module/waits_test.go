// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

func newTestWaits() *waits {
	w := &waits{callers: make(map[string]int), gauge: newSiteMetrics("test", "gce").waiting}
	w.over, w.end = context.WithCancel(context.Background())
	return w
}

// The site and each caller have a bound, and a place that was given back is free.
// Nothing is kept of callers who wait no longer.
func TestWaitsAreBounded(t *testing.T) {
	w := newTestWaits()
	nothing := func() {}
	ends := make([]func(), 0, maxWaits)
	for i := range maxWaits {
		done, refusal := w.begin(fmt.Sprint("caller ", i/maxWaitsPerCaller), nothing)
		if refusal != nil {
			t.Fatalf("the %dth: %v", i+1, refusal)
		}
		ends = append(ends, done)
	}
	if _, refusal := w.begin("one more", nothing); refusal == nil || refusal.Reason != decision.Overloaded || refusal.Code != "waits" {
		t.Errorf("one more: %v", refusal)
	}
	ends[0]()
	if _, refusal := w.begin("caller 1", nothing); refusal == nil || refusal.Reason != decision.RateLimited || refusal.Code != "waits_of_caller" || refusal.RetryAfter <= 0 {
		t.Errorf("one more of a caller: %v", refusal)
	}
	done, refusal := w.begin("caller 0", nothing)
	if refusal != nil {
		t.Fatalf("in a free place: %v", refusal)
	}
	ends[0] = done
	for _, done := range ends {
		done()
	}
	if w.all != 0 || len(w.callers) != 0 {
		t.Errorf("%d wait, %d callers are known", w.all, len(w.callers))
	}
}

// Whoever waits is cancelled at the end, whoever has ended is not, and nobody
// begins after it.
func TestWaitsEnd(t *testing.T) {
	w := newTestWaits()
	waiting, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, refusal := w.begin("a", cancel); refusal != nil {
		t.Fatal(refusal)
	}
	left := make(chan struct{}, 1)
	done, refusal := w.begin("a", func() { left <- struct{}{} })
	if refusal != nil {
		t.Fatal(refusal)
	}
	done()
	w.end()
	<-waiting.Done()
	select {
	case <-left:
		t.Error("who waits no longer is cancelled")
	case <-time.After(50 * time.Millisecond):
	}
	if _, refusal := w.begin("b", cancel); refusal == nil || refusal.Code != "wait_ended" || refusal.RetryAfter <= 0 || len(w.callers) != 1 {
		t.Errorf("after the end: %v", refusal)
	}
}
