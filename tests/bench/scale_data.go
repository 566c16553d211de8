// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"
)

// sizes of inventories and grants.
var sizes = []int{10, 10_000, 1_000_000}

// fewCallers ask where ten entries must do for all; they are spread over the larger ones.
const fewCallers = 10

// scaleCallers ask otherwise: fewer than in the table, since each size has to see all first.
const scaleCallers = 1000

const million = 1_000_000

// scaleInventory grows the inventory, whose callers are known by their address.
func (b *bench) scaleInventory(ctx context.Context) (*series, error) {
	s := &series{Name: "inventory", Title: "Cost of a request by size of the inventory", Axis: "entries"}
	var all []at
	for _, n := range sizes {
		files := map[string]string{"inventory.json": inventoryOf(n), "policy/data.json": "{}"}
		subject, err := b.sized(ctx, "address", n, files)
		if err != nil {
			return nil, err
		}
		all = append(all, at{size: n, subject: subject, crowd: newCrowd(1, fewCallers, n), clients: b.connections})
	}
	defer b.dropAll(all)
	l, err := b.lineOf(ctx, "decisions seen before", again, all)
	if err != nil {
		return nil, err
	}
	s.Lines = append(s.Lines, l)
	s.fact("inventory: growth of CPU per request", l.growth(), maxGrowth)
	next := func(n int) (map[string]string, error) {
		return map[string]string{"inventory.json": inventoryOf(million + n)}, nil
	}
	return s, b.largest(ctx, s, all, next, func(ctx context.Context, s *subject, n int) (bool, error) {
		entries, err := s.metric(ctx, "caddy_metaguard_inventory_entries")
		return int(entries) == million+n, err
	}, maxActivation)
}

// scaleGrants grows the grants, which are data of the policy.
func (b *bench) scaleGrants(ctx context.Context) (*series, error) {
	s := &series{Name: "grants", Title: "Cost of a request by number of grants", Axis: "grants"}
	files := func(n int) map[string]string { return map[string]string{"policy/data.json": grantsOf(n)} }
	all, err := b.twoLines(ctx, s, "seen", "never", sizes, files)
	defer b.dropAll(all)
	if err != nil {
		return nil, err
	}
	for _, l := range s.Lines { // a rule more is work more; a grant is not
		s.fact("grants: growth of CPU per request, "+l.Title, l.growth(), maxGrowth)
	}
	next := func(n int) (map[string]string, error) { return files(million + n), nil }
	return s, b.largest(ctx, s, all, next, loaded, maxActivation)
}

// loaded tells whether the policy was loaded so often after the first time. To ask for the
// policy itself would load it at once.
func loaded(ctx context.Context, s *subject, n int) (bool, error) {
	loads, err := s.metric(ctx, "caddy_metaguard_policy_loads_total")
	return int(loads) == 1+n, err
}

// scalePolicy grows a team's policy: so many rules that refuse, each with its own code.
func (b *bench) scalePolicy(ctx context.Context) (*series, error) {
	s := &series{Name: "policy", Title: "Cost of a request by number of rules of the team", Axis: "rules"}
	files := func(n int) map[string]string { return map[string]string{"policy/team.rego": rulesOf(n)} }
	all, err := b.twoLines(ctx, s, "rego", "rego-never", []int{1, 100, 1000}, files)
	b.dropAll(all)
	return s, err
}

// twoLines measures two variants, whose decisions were seen and were not, at all sizes. It
// gives the first ones, which are still running.
func (b *bench) twoLines(ctx context.Context, s *series, seen, never string, sizes []int, files func(n int) map[string]string) ([]at, error) {
	second, all, err := b.grown(ctx, "decisions never seen", always, never, sizes, func(n int) map[string]string { return toldApart(files(n)) })
	b.dropAll(all)
	if err != nil {
		return nil, err
	}
	first, all, err := b.grown(ctx, "decisions seen before", again, seen, sizes, files)
	s.Lines = append(s.Lines, first, second)
	return all, err
}

// grown measures a variant at all sizes, and leaves it running.
func (b *bench) grown(ctx context.Context, title string, from stream, name string, sizes []int, files func(n int) map[string]string) (l line, all []at, err error) {
	for _, n := range sizes {
		subject, err := b.sized(ctx, name, n, files(n))
		if err != nil {
			return l, all, err
		}
		all = append(all, at{size: n, subject: subject, crowd: newCrowd(1, scaleCallers, callerCount), clients: b.connections})
	}
	l, err = b.lineOf(ctx, title, from, all)
	return l, all, err
}

// largest measures the memory of a million entries, and latencies while they are replaced
// by the next ones, once in each round. next makes these files, and activated tells that
// they are in force. limit is that of latencies meanwhile.
func (b *bench) largest(ctx context.Context, s *series, all []at, next func(n int) (map[string]string, error), activated func(ctx context.Context, s *subject, n int) (bool, error), limit float64) error {
	small, large := all[0], all[len(all)-1]
	least, err := small.subject.live(ctx)
	if err != nil {
		return err
	}
	most, err := large.subject.live(ctx)
	if err != nil {
		return err
	}
	s.fact(s.Name+": live memory of a million, MiB", (most-least)/mebibyte*million/float64(large.size-small.size), maxPerMillion)
	var times []float64
	for n := 1; n <= b.rounds; n++ {
		files, err := next(n)
		if err != nil {
			return err
		}
		swap, err := large.subject.stage(files)
		if err != nil {
			return err
		}
		clear(files)
		runtime.GC() // of this program, whose own collections would be measured
		usual, during, err := b.whileReplacing(ctx, large, swap, func() (bool, error) { return activated(ctx, large.subject, n) })
		if err != nil {
			return err
		}
		say("%s: p99 %.0f us, while a million are activated %.0f us, of %d and %d requests", s.Name, quantile(usual, 0.99), quantile(during, 0.99), len(usual), len(during))
		times = append(times, quantile(during, 0.99)/quantile(usual, 0.99))
	}
	found := summarize(times)
	s.Facts = append(s.Facts, target{
		What:  s.Name + ": p99 while a million are activated, times the usual",
		Found: found.Median, Spread: found.Spread / 2, Limit: limit,
	})
	return nil
}

// whileReplacing gives latencies before and during a replacement, at a share of what
// the subject can do. It asks between rounds whether that is done: metrics take time too.
func (b *bench) whileReplacing(ctx context.Context, of at, replace func() error, done func() (bool, error)) (usual, during []float64, err error) {
	of.subject.from = again
	_, rate, err := b.once(ctx, of.subject, of.crowd, of.clients)
	if err != nil {
		return nil, nil, err
	}
	rate *= latencyShare
	chunk := func() ([]float64, error) {
		found, err := constantRate(ctx, of.subject.address, of.subject.right, of.clients, rate, b.duration, of.crowd)
		if err != nil {
			return nil, of.subject.proxy().explain(err)
		}
		return found.latencies, of.subject.counted(len(found.latencies))
	}
	for range b.rounds {
		found, err := chunk()
		if err != nil {
			return nil, nil, err
		}
		usual = append(usual, found...)
	}
	if err := replace(); err != nil {
		return nil, nil, err
	}
	for deadline := time.Now().Add(30 * patience); time.Now().Before(deadline); {
		found, err := chunk()
		if err != nil {
			return nil, nil, err
		}
		during = append(during, found...)
		if ended, err := done(); ended || err != nil {
			return usual, during, err
		}
	}
	return nil, nil, of.subject.proxy().explain(errors.New("the replacement is not loaded"))
}

// live is how much memory is in use after a collection, in bytes.
func (s *subject) live(ctx context.Context) (float64, error) {
	if _, err := s.fromAdmin(ctx, http.MethodGet, "/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	return s.metric(ctx, "go_memstats_heap_alloc_bytes")
}

func (s *series) fact(what string, found, limit float64) {
	s.Facts = append(s.Facts, target{What: what, Found: found, Limit: limit})
}

func (b *bench) dropAll(all []at) {
	for _, one := range all {
		b.drop(one.subject)
	}
}

// rulesOf is a team's policy of n rules.
func rulesOf(n int) string {
	text := "package metaguard.team\n"
	for i := range n {
		text += fmt.Sprintf("\ndeny contains \"rule_%d\" if {\n\tinput.resource.kind == \"userdata\"\n\tinput.caller.project_id == \"%032x\"\n}\n", i, 1<<32+i)
	}
	return text
}
