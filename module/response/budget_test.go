// SPDX-License-Identifier: Apache-2.0

package response

import (
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestBudget(t *testing.T) {
	b := NewBudget(10)
	steps := []struct {
		reserve, release int64
		ok               bool
		used             int64
	}{
		{reserve: 4, ok: true, used: 4},
		{reserve: 7, used: 4},
		{reserve: 6, ok: true, used: 10},
		{reserve: 1, used: 10},
		{reserve: 0, ok: true, used: 10},
		{reserve: -5, used: 10},
		{reserve: math.MaxInt64, used: 10},
		{release: -5, ok: true, used: 10},
		{release: 3, ok: true, used: 7},
		{release: 100, ok: true, used: 0},
		{reserve: math.MaxInt64, used: 0},
		{reserve: math.MinInt64, used: 0},
	}
	for i, step := range steps {
		b.Release(step.release)
		if got := b.Reserve(step.reserve); got != step.ok || b.InUse() != step.used {
			t.Errorf("step %d: %v, %d in use", i, got, b.InUse())
		}
	}
	if b.Max() != 10 || b.Peak() != 10 {
		t.Errorf("max %d, peak %d", b.Max(), b.Peak())
	}
	if lower := NewBudget(10); !lower.Reserve(3) || !lower.Reserve(2) || lower.Peak() != 5 {
		t.Errorf("peak %d", lower.Peak())
	}
	for name, empty := range map[string]*Budget{"nil": nil, "zero": NewBudget(0), "negative": NewBudget(-1), "lowest": NewBudget(math.MinInt64)} {
		empty.Release(1)
		if empty.Reserve(1) || !empty.Reserve(0) || empty.InUse() != 0 {
			t.Errorf("%s has room", name)
		}
	}
}

// TestBudgetTogether hammers one budget. It never holds more than its bound.
func TestBudgetTogether(t *testing.T) {
	b := NewBudget(100)
	var wait sync.WaitGroup
	for i := range int64(8) {
		wait.Go(func() {
			for n := range int64(2000) {
				size := (n*7+i)%60 + 1
				if !b.Reserve(size) {
					continue
				}
				if used := b.InUse(); used > 100 || used < size {
					t.Errorf("%d in use", used)
				}
				b.Release(size)
			}
		})
	}
	wait.Wait()
	if b.InUse() != 0 {
		t.Errorf("%d still in use", b.InUse())
	}
}

// TestBudgetNeverLeaks runs bodies and answers, good and bad, side by side. The
// budget is never overdrawn, and empty at the end.
func TestBudgetNeverLeaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.Int64Range(0, 100_000).Draw(t, "budget")
		budget := NewBudget(bound)
		var writers []*Writer
		var releases []func()
		sizes := rapid.IntRange(0, 20_000)
		pick := func() *Writer {
			return writers[rapid.IntRange(0, len(writers)-1).Draw(t, "writer")]
		}
		text := func() string { return strings.Repeat("x", sizes.Draw(t, "size")) }
		t.Repeat(map[string]func(*rapid.T){
			"new writer": func(*rapid.T) {
				writers = append(writers, NewWriter(int64(sizes.Draw(t, "limit")), budget))
			},
			"body": func(*rapid.T) {
				body := text()
				declared := rapid.SampledFrom([]int64{-1, int64(len(body)), int64(len(body)) + 1}).Draw(t, "declared")
				_, release, _ := ReadBody(strings.NewReader(body), declared, int64(sizes.Draw(t, "limit")), budget)
				releases = append(releases, release)
			},
			"release body": func(*rapid.T) {
				if len(releases) > 0 {
					releases[rapid.IntRange(0, len(releases)-1).Draw(t, "body")]()
				}
			},
			"write": func(*rapid.T) {
				if len(writers) > 0 {
					_, _ = pick().Write([]byte(text()))
				}
			},
			"read from": func(*rapid.T) {
				if len(writers) > 0 {
					_, _ = pick().ReadFrom(strings.NewReader(text()))
				}
			},
			"redact": func(*rapid.T) {
				if len(writers) > 0 {
					if a, _ := pick().Answer(); a != nil {
						RedactListing(a, []string{strings.Repeat("x", 10)})
					}
				}
			},
			"abort": func(*rapid.T) {
				if len(writers) > 0 {
					pick().Abort()
				}
			},
			"release": func(*rapid.T) {
				if len(writers) > 0 {
					pick().Release()
				}
			},
			"": func(t *rapid.T) {
				if used := budget.InUse(); used < 0 || used > bound {
					t.Fatalf("%d in use of %d", used, bound)
				}
				var held int64
				for _, w := range writers {
					if int64(cap(w.buf.data)) > w.buf.held {
						t.Fatalf("holds %d, reserved %d", cap(w.buf.data), w.buf.held)
					}
					held += w.buf.held
				}
				if held > budget.InUse() {
					t.Fatalf("writers hold %d of %d in use", held, budget.InUse())
				}
			},
		})
		for _, w := range writers {
			w.Release()
		}
		for _, release := range releases {
			release()
		}
		if budget.InUse() != 0 {
			t.Fatalf("%d still in use", budget.InUse())
		}
	})
}
