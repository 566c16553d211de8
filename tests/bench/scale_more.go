// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// documentSizes are those of JSON documents. The last one is the most that Metaguard
// holds by default.
var documentSizes = []int{4 << 10, 64 << 10, 1 << 20}

// scaleDocuments grows the documents that are normalised and that a password is taken out of.
func (b *bench) scaleDocuments(ctx context.Context) (*series, error) {
	s := &series{Name: "documents", Title: "Cost of a document, redacted, by size", Axis: "bytes"}
	var plains, guards []at
	defer func() { b.dropAll(plains); b.dropAll(guards) }()
	small := b.upstream
	defer func() { b.upstream = small }()
	for _, n := range documentSizes {
		address, server, err := b.startUpstream(ctx, n)
		if err != nil {
			return nil, err
		}
		defer server.stop()
		b.upstream = address
		for _, to := range []struct {
			name string
			all  *[]at
		}{{plainLogged, &plains}, {"seen", &guards}} {
			subject, err := b.sized(ctx, to.name, n, map[string]string{"policy/data.json": "{}"})
			if err != nil {
				return nil, err
			}
			subject.right.bodies = [][]byte{[]byte(document(n))}
			if subject.guarded {
				subject.right.bodies[0] = []byte(strings.Replace(document(n), `"admin_pass": "hunter2", `, "", 1))
			}
			*to.all = append(*to.all, at{size: n, subject: subject})
		}
	}
	first, err := b.documents(ctx, "plain Caddy", plains)
	if err != nil {
		return nil, err
	}
	second, err := b.documents(ctx, "Metaguard, seen", guards)
	if err != nil {
		return nil, err
	}
	s.Lines = []line{first.line, second.line}
	last := len(documentSizes) - 1
	// What a small document takes as well is not the document.
	grows := func(costs documentCosts) float64 { return costs.allocated[last] - costs.allocated[0] }
	s.fact("documents: copies of 1 MiB in memory, more than plain Caddy", (grows(second)-grows(first))/float64(documentSizes[last]), maxCopies)
	s.fact("documents: ms for 1 MiB, more than plain Caddy", second.took[last]-first.took[last], maxDocument)
	return s, nil
}

// samples is how often in each round it is measured what one request allocates.
const samples = 5

// documentCosts has beside the line the bytes that one request took which found no
// buffer to use again, and how many milliseconds one took a client that is alone.
type documentCosts struct {
	line
	allocated, took []float64
}

func (b *bench) documents(ctx context.Context, title string, all []at) (found documentCosts, err error) {
	found.Title = title
	for _, one := range all {
		from := &readers{crowd: b.crowd}
		var cpus, rates, took []float64
		var fresh [2][]float64 // without a request, and with one
		say("%s: documents of %d bytes", title, one.size)
		for n := range b.rounds + 1 { // the first one is to settle
			for range samples {
				allocated, err := one.subject.fresh(ctx, from)
				if err != nil {
					return found, err
				}
				for i, bytes := range allocated {
					fresh[i] = append(fresh[i], bytes)
				}
			}
			before, err := total(one.subject, cpuTime)
			if err != nil {
				return found, err
			}
			result, err := one.subject.ask(ctx, 1, b.duration, from)
			if err != nil {
				return found, one.subject.proxy().explain(err)
			}
			if err := one.subject.counted(result.requests + samples); err != nil {
				return found, err
			}
			after, err := total(one.subject, cpuTime)
			if err != nil {
				return found, err
			}
			if result.requests == 0 {
				return found, fmt.Errorf("no document of %d bytes was answered in a round", one.size)
			}
			if n == 0 {
				continue
			}
			count := float64(result.requests)
			cpus = append(cpus, micros(after-before)/count)
			rates = append(rates, count/result.elapsed.Seconds())
			took = append(took, micros(result.elapsed)/1e3/count)
		}
		found.Points = append(found.Points, point{Size: one.size, CPU: summarize(cpus), Rate: summarize(rates)})
		found.allocated = append(found.allocated, quantile(fresh[1], 0)-quantile(fresh[0], 0)) // what else goes on only adds to it
		found.took = append(found.took, quantile(took, 0.5))
	}
	return found, nil
}

// fresh gives the bytes that are allocated for one request right after two collections,
// which empty all pools of buffers, and for none, which is what asking for the figure takes.
func (s *subject) fresh(ctx context.Context, from source) (allocated [2]float64, err error) {
	for i := range allocated {
		for range 2 {
			if _, err := s.live(ctx); err != nil {
				return allocated, err
			}
		}
		before, err := s.metric(ctx, "go_memstats_alloc_bytes_total")
		if err != nil {
			return allocated, err
		}
		if i > 0 {
			one, err := s.ask(ctx, 1, patience, &limited{source: from, left: 1})
			if err != nil {
				return allocated, s.proxy().explain(err)
			}
			if one.requests != 1 {
				return allocated, errors.New("one document was not answered")
			}
		}
		after, err := s.metric(ctx, "go_memstats_alloc_bytes_total")
		if err != nil {
			return allocated, err
		}
		allocated[i] = after - before
	}
	return allocated, nil
}

// scaleConnections grows the number of clients.
func (b *bench) scaleConnections(ctx context.Context) (*series, error) {
	s := &series{Name: "connections", Title: "Cost of a request by number of clients", Axis: "connections"}
	for _, name := range []string{plainLogged, "seen"} {
		v := *find(name)
		subject, err := b.start(ctx, v, b.metaguard)
		if err != nil {
			return nil, err
		}
		var all []at
		crowd := newCrowd(1, scaleCallers, callerCount)
		for _, n := range []int{1, 32, 512} {
			all = append(all, at{size: n, subject: subject, crowd: crowd, clients: n})
		}
		l, err := b.lineOf(ctx, strings.ReplaceAll(v.title, "`", ""), again, all)
		if err != nil {
			return nil, err
		}
		s.Lines = append(s.Lines, l)
		b.drop(subject)
	}
	return s, nil
}
