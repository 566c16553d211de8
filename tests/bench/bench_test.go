// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{7}, 0.99, 7},
		{[]float64{0, 100}, 0.99, 99},
	} {
		if got := quantile(test.values, test.q); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("quantile(%v, %v) = %v, want %v", test.values, test.q, got, test.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
	unsorted := []float64{2, 1}
	quantile(unsorted, 0.5)
	if unsorted[0] != 2 {
		t.Error("the values were put into another order, so that rounds do not belong together any more")
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	got := summarize(ratios([]float64{10, 40, 30}, []float64{10, 20, 30}))
	if got.Median != 1 || got.Spread != 0.5 {
		t.Errorf("%+v", got)
	}
}

// One hot caller proves nothing, and a flat order is no order.
func TestCrowdIsInZipfOrder(t *testing.T) {
	c := newCrowd(1, callerCount, callerCount)
	byCaller, byPath := make([]int, callerCount), make([]int, len(paths))
	for _, draw := range c.draws {
		byCaller[int(draw)/len(paths)]++
		byPath[int(draw)%len(paths)]++
	}
	asked, first := 0, float64(byCaller[0])
	for _, n := range byCaller {
		if n > 0 {
			asked++
		}
	}
	if asked < callerCount*9/10 {
		t.Errorf("only %d of %d callers ask", asked, callerCount)
	}
	for _, rank := range []int{2, 10, 100} {
		want := math.Pow(float64(rank), -zipfExponent)
		if got := float64(byCaller[rank-1]) / first; math.Abs(got/want-1) > 0.15 {
			t.Errorf("caller %d asks %.4f times as often as the first, want about %.4f", rank, got, want)
		}
	}
	if share := first / drawn; share > 0.2 {
		t.Errorf("the first caller makes %.2f of the requests", share)
	}
	for path, n := range byPath {
		if math.Abs(float64(n)/drawn*float64(len(paths))-1) > 0.02 {
			t.Errorf("%s is %d of %d requests", paths[path], n, drawn)
		}
	}
}

func TestCallersAreAllDifferent(t *testing.T) {
	ids, addresses := map[string]bool{}, map[string]bool{}
	for n := range uint64(50_000) {
		c := newCaller(n)
		ids[c.instance], addresses[c.address] = true, true
		if len(c.instance) != 36 || len(c.project) != 32 || len(c.signature) != 64 {
			t.Fatalf("%+v", c)
		}
	}
	if len(ids) != 50_000 || len(addresses) != 50_000 {
		t.Errorf("%d instances, %d addresses", len(ids), len(addresses))
	}
	one, other := newStrangers(2), newStrangers(1)
	if bytes.Equal(one.headers[0], one.headers[1]) || bytes.Equal(one.headers[1], other.headers[0]) {
		t.Error("a stranger came twice")
	}
}

func TestBodies(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range paths {
		body := bodyOf(path)
		if len(body) != bodySize || seen[body] {
			t.Errorf("%s: %q has %d bytes", path, body, len(body))
		}
		seen[body] = true
		if strings.HasSuffix(path, ".json") && !json.Valid([]byte(body)) {
			t.Errorf("%s: %q", path, body)
		}
	}
	for _, size := range documentSizes {
		if text := document(size); len(text) != size || !json.Valid([]byte(text)) {
			t.Errorf("a document of %d bytes has %d: %.80s", size, len(text), text)
		}
	}
}

func TestAnswersAreChecked(t *testing.T) {
	right := expect(true)
	good := "HTTP/1.1 200 OK\r\nX-Metaguard-Decision: x\r\nContent-Length: 40\r\n\r\n" + bodyOf(paths[0])
	for name, test := range map[string]struct {
		text string
		path int
		ok   bool
	}{
		"right":            {good, 0, true},
		"of another path":  {good, 1, false},
		"refused":          {strings.Replace(good, "200 OK", "403 No", 1), 0, false},
		"undecided":        {strings.Replace(good, "X-Metaguard-Decision", "X-Other", 1), 0, false},
		"without a length": {strings.Replace(good, "Content-Length: 40", "X-Other: 1", 1), 0, false},
		"cut":              {good[:len(good)-1], 0, false},
		"shorter":          {strings.Replace(good, ": 40", ": 39", 1), 0, false},
		"empty":            {"", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			var got answer
			err := got.read(bufio.NewReader(strings.NewReader(test.text)))
			if err == nil {
				err = right.check(&got, test.path)
			}
			if (err == nil) != test.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// This process's own CPU time is known to the kernel, and grows as it works.
func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	sum := uint32(0)
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
		sum += checksum(paths[0])
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || sum == 0 {
		t.Fatal(err)
	}
	if spent := after - before; spent <= 0 || spent > time.Minute {
		t.Errorf("%v", spent)
	}
	size, err := residentSize(os.Getpid())
	if err != nil || size < mebibyte {
		t.Errorf("%d bytes, %v", size, err)
	}
	if _, err := cpuTime(1 << 30); err == nil {
		t.Error("a process that there is not has CPU time")
	}
}

func TestLogLinesAreCounted(t *testing.T) {
	s := &subject{place: place{log: filepath.Join(t.TempDir(), "log")}}
	write := func(lines int) {
		t.Helper()
		if err := os.WriteFile(s.log, []byte(strings.Repeat("line\n", lines)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(3)
	if err := s.counted(3); err != nil {
		t.Error(err)
	}
	if left, err := countLines(s.log); err != nil || left != 0 {
		t.Errorf("%d lines are left, %v", left, err)
	}
	write(4)
	if err := s.counted(3); err == nil {
		t.Error("one line too many is not noticed")
	}
}

// Both generators against the real upstream, which a wrong answer of is noticed.
func TestGenerators(t *testing.T) {
	listening := make(chan string, 1)
	go func() {
		address, err := freeAddress(t.Context())
		if err != nil {
			t.Error(err)
			close(listening)
			return
		}
		listening <- address
		_ = serveUpstream(address, bodySize)
	}()
	address := <-listening
	ready := &process{}
	if err := ready.until(t.Context(), "nobody listens", func() bool {
		conns, err := connect(t.Context(), address, 1, time.Second)
		closeAll(conns)
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	crowd := newCrowd(1, 10, 10)
	all := &everyone{crowd: crowd, until: 500}
	result, err := closedLoop(t.Context(), address, expect(false), 4, time.Minute, all)
	if err != nil || result.requests != 500 {
		t.Errorf("%d requests, %v", result.requests, err)
	}
	paced, err := constantRate(t.Context(), address, expect(false), 4, 1000, 300*time.Millisecond, crowd)
	if err != nil || len(paced.latencies) != 300 || len(paced.late) != 300 {
		t.Errorf("%d latencies, %v", len(paced.latencies), err)
	}
	if _, err := closedLoop(t.Context(), address, expect(true), 4, time.Minute, crowd); err == nil {
		t.Error("answers that no decision was made for are not noticed")
	}
	if _, err := constantRate(t.Context(), address, expect(true), 4, 1000, time.Second, crowd); err == nil {
		t.Error("answers that no decision was made for are not noticed at a constant rate")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := constantRate(gone, address, expect(false), 4, 1000, time.Second, crowd); err == nil {
		t.Error("a measurement that was called off has a result")
	}
}

func TestTargets(t *testing.T) {
	good := func() *report {
		c := comparison{CPU: summary{Median: 1.1}, Rate: summary{Median: 0.9}, P99: summary{Median: 1}}
		return &report{
			Rows:   []row{{Name: plain, Idle: 50}, {Name: "seen", Idle: 80, Plain: &c}, {Name: "never", Idle: 80, Plain: &c}},
			Starts: []started{{Name: "start-metaguard", Time: summary{Median: 100}}},
		}
	}
	verdict := func(change func(*report)) (string, error) {
		r := good()
		change(r)
		all, err := r.targets(plain)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		return text.String(), judge(&text, all)
	}
	if text, err := verdict(func(*report) {}); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for name, change := range map[string]func(*report){
		"CPU":          func(r *report) { r.Rows[1].Plain.CPU.Median = 1.16 },
		"rate":         func(r *report) { r.Rows[2].Plain.Rate.Median = 0.5 },
		"p99":          func(r *report) { r.Rows[1].Plain.P99.Median = 1.31 },
		"not a number": func(r *report) { r.Rows[1].Plain.P99.Median = math.NaN() },
		"memory":       func(r *report) { r.Rows[1].Idle = 91 },
		"start":        func(r *report) { r.Starts[0].Time.Median = 301 },
		"left out":     func(r *report) { r.Rows = r.Rows[:2] },
	} {
		if _, err := verdict(change); err == nil {
			t.Errorf("%s: not missed", name)
		}
	}
}

func TestDrawings(t *testing.T) {
	r := &report{Rows: []row{
		{Name: plain, Title: "Caddy, `x`", CPU: summary{Median: 60}},
		{Name: "seen", Title: "Metaguard", CPU: summary{Median: 66}, Plain: &comparison{CPU: summary{Median: 1.1}}},
	}}
	bars, lines := filepath.Join(t.TempDir(), "bars.svg"), filepath.Join(t.TempDir(), "lines.svg")
	if err := r.draw(bars); err != nil {
		t.Fatal(err)
	}
	one := &series{Title: "Cost", Axis: "entries", Lines: []line{{Title: "seen", Points: []point{{Size: 1, CPU: summary{Median: 1}, Of: summary{Median: 1}}, {Size: 1000, CPU: summary{Median: 3}, Of: summary{Median: 2}}}}}}
	if err := drawSeries([]*series{one, one}, lines); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{bars: "66 (1.10)", lines: "entries"} {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s has no %q, %v", path, want, err)
		}
	}
	if growth := one.Lines[0].growth(); growth != 2 {
		t.Errorf("%v", growth)
	}
}

func TestTablesGoBetweenTheirComments(t *testing.T) {
	const text = "a\n<!-- figures -->\nold\n<!-- /figures -->\nb\n<!-- scale -->\n<!-- /scale -->\n"
	got, err := between(text, "figures", "\nnew\n")
	if want := "a\n<!-- figures -->\nnew\n<!-- /figures -->\nb\n<!-- scale -->\n<!-- /scale -->\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := between(text, "other", "new"); err == nil {
		t.Error("there is no such place, and no error")
	}
}
