// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/decision"
)

// versioned is a policy that says which version it is.
func versioned(v string) string {
	return "package metaguard.team\n\ndeny contains \"" + v + "\"\n"
}

// says tells what the live policy says of an ordinary request.
func says(t testing.TB, e *Engine) string {
	t.Helper()
	got := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	if got.Reason != decision.PolicyDeny || len(got.Decision.Reasons) == 0 {
		return string(got.Reason)
	}
	return strings.Join(got.Decision.Reasons, "+")
}

// events collects load events.
type events struct {
	mu  sync.Mutex
	all []LoadEvent
}

func (ev *events) add(e LoadEvent) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.all = append(ev.all, e)
}

func (ev *events) failures() (failed []LoadEvent) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, e := range ev.all {
		if e.Err != nil {
			failed = append(failed, e)
		}
	}
	return failed
}

func (ev *events) last() LoadEvent {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if len(ev.all) == 0 {
		return LoadEvent{}
	}
	return ev.all[len(ev.all)-1]
}

// started is an engine that follows these files quickly.
func started(t testing.TB, paths ...string) (*Engine, *events) {
	t.Helper()
	var ev events
	e := engine(t, Config{Paths: paths}, WithPollInterval(5*time.Millisecond), WithLoadHook(ev.add))
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, &ev
}

// TestBrokenEdits makes each broken edit upon a good policy: the good one stays,
// the break is told once with file and line, and the next good edit is live.
func TestBrokenEdits(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(t *testing.T, root string)
		text   string
	}{
		"cut off":              {edit("package metaguard.team\n\ndeny contains \"x\" if {\n"), "team.rego:"},
		"empty":                {edit(""), "team.rego"},
		"binary":               {edit("\x00\x01\x02"), "team.rego:1"},
		"not UTF-8":            {edit("package metaguard.team\n\ndeny contains \"\xff\"\n"), "team.rego:3"},
		"no package":           {edit("deny contains \"x\"\n"), "team.rego:1"},
		"package renamed":      {edit("package metaguard.teams\n\ndeny contains \"x\"\n"), "team.rego:1:1"},
		"rule renamed":         {edit("package metaguard.team\n\ndenny contains \"x\"\n"), "team.rego:3:1"},
		"rule a boolean":       {edit("package metaguard.team\n\ndeny if true\n"), "team.rego:3:1"},
		"input misspelt":       {edit("package metaguard.team\n\ndeny contains \"x\" if input.caler.id == \"\"\n"), "team.rego:3:"},
		"unused variable":      {edit("package metaguard.team\n\ndeny contains \"x\" if {\n\ty := 1\n}\n"), "team.rego:4:"},
		"unsafe variable":      {edit("package metaguard.team\n\ndeny contains x\n"), "team.rego:3:"},
		"unknown function":     {edit("package metaguard.team\n\ndeny contains \"x\" if startwith(\"a\", \"b\")\n"), "team.rego:3:"},
		"forbidden function":   {edit("package metaguard.team\n\ndeny contains \"x\" if http.send({}).x\n"), "allow_builtins http.send"},
		"recursion":            {edit("package metaguard.team\n\ndeny contains \"x\" if data.metaguard.decision.allow\n"), "team.rego:3:"},
		"type":                 {edit("package metaguard.team\n\ndeny contains \"x\" if 1 + \"a\" == 2\n"), "team.rego:3:"},
		"older Rego":           {edit("package metaguard.team\n\ndeny[\"x\"] { true }\n"), "team.rego:3:"},
		"replaced by mistake":  {edit("package metaguard\n\ndeny contains \"x\"\n"), "team.rego:1:1"},
		"malformed for ever":   {edit("package metaguard\n\ndecision := {\"Allow\": true}\n"), "Allow"},
		"bad JSON":             {add("data.json", "{\"a\": 1,\n}"), "data.json:1:8"},
		"bad YAML":             {add("data.yaml", "a: b: c\n"), "data.yaml:1"},
		"data an array":        {add("data.json", "[]"), "data.json:1"},
		"data over a rule":     {add("data.json", "{\"metaguard\": {\"decision\": 1}}"), "data.json:1"},
		"data misspelt":        {add("data.json", "{\"metaguard\": {\"grant\": {}}}"), "data.json:1"},
		"data in conflict":     {add("data2.json", "{\"own\": 2}"), "data2.json:1"},
		"grant misspelt":       {add("data.json", "{\"metaguard\": {\"grants\": {\"role\": {\"a\": [\"pasword:read\"]}}}}"), "data.json:1"},
		"second rule conflict": {add("b.rego", "package metaguard.team\n\nstatus := 404\n\nstatus contains 403\n"), "b.rego:5"},
		"file gone": {func(t *testing.T, root string) {
			must(t, os.Remove(filepath.Join(root, "team.rego")), os.Remove(filepath.Join(root, "own.json")))
		}, "no policy or data"},
		"directory gone":       {func(t *testing.T, root string) { must(t, os.RemoveAll(root)) }, "no such file"},
		"directory moved":      {func(t *testing.T, root string) { must(t, os.Rename(root, root+".old")) }, "no such file"},
		"directory now a file": {func(t *testing.T, root string) { must(t, os.RemoveAll(root)); write(t, root, "x") }, "neither policy nor data"},
		"link to nowhere":      {func(t *testing.T, root string) { must(t, os.Symlink("nowhere", filepath.Join(root, "x.rego"))) }, "x.rego"},
		"link to itself":       {func(t *testing.T, root string) { must(t, os.Symlink(".", filepath.Join(root, "x"))) }, "leads back"},
		"a directory by name": {func(t *testing.T, root string) {
			must(t, os.Mkdir(filepath.Join(root, "x.rego"), 0o755))
			write(t, filepath.Join(root, "x.rego", "y.rego"), "package {")
		}, "y.rego:1"},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(dir(t, files{"p/team.rego": versioned("v1"), "p/own.json": "{\"own\": 1}"}), "p")
			var ev events
			e := engine(t, Config{Paths: []string{root}}, WithLoadHook(ev.add))
			before := e.Status()

			tc.damage(t, root)
			e.reload(t.Context())
			if len(ev.failures()) != 1 {
				t.Fatalf("told %+v", ev.all)
			}
			failure := ev.failures()[0]
			if !strings.Contains(failure.Err.Error(), tc.text) || failure.Revision != before.Revision {
				t.Errorf("told %q of %s, want %q", failure.Err, failure.Revision, tc.text)
			}
			if got := says(t, e); got != "v1" {
				t.Errorf("the last good policy did not stay: %s", got)
			}
			st := e.Status()
			if st.Revision != before.Revision || !strings.Contains(st.LastError, tc.text) || st.LastErrorAt.IsZero() || st.Failures != 1 || st.Loads != 1 {
				t.Errorf("status %+v", st)
			}

			must(t, os.RemoveAll(root))
			write(t, filepath.Join(root, "team.rego"), versioned("v2"))
			e.reload(t.Context())
			if got := says(t, e); got != "v2" {
				t.Errorf("the next good edit is not live: %s", got)
			}
			if st := e.Status(); st.LastError != "" || st.Revision == before.Revision || st.Loads != 2 {
				t.Errorf("status after repair %+v", st)
			}
		})
	}
}

// TestWatchedBreak is the same for one edit, by way of the watcher.
func TestWatchedBreak(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	e, ev := started(t, root)
	write(t, filepath.Join(root, "team.rego"), "package metaguard.team\n\ndenny contains \"x\"\n")
	eventually(t, "the break is told", func() bool {
		failed := ev.failures()
		return len(failed) > 0 && strings.Contains(failed[len(failed)-1].Err.Error(), "team.rego:3:1: denny")
	})
	if got := says(t, e); got != "v1" {
		t.Errorf("the last good policy did not stay: %s", got)
	}
	write(t, filepath.Join(root, "team.rego"), versioned("v2"))
	eventually(t, "the next good edit is live", func() bool { return says(t, e) == "v2" })
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func edit(text string) func(*testing.T, string) { return add("team.rego", text) }

func add(name, text string) func(*testing.T, string) {
	return func(t *testing.T, root string) { write(t, filepath.Join(root, name), text) }
}

// TestBreakIsToldOnce: the same broken content again is no news, other broken
// content is, and undoing the edit is good news.
func TestBreakIsToldOnce(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	file := filepath.Join(root, "team.rego")
	var ev events
	e := engine(t, Config{Paths: []string{root}}, WithLoadHook(ev.add))
	ctx := t.Context()

	e.reload(ctx)
	if len(ev.all) != 0 {
		t.Fatalf("unchanged files were told: %+v", ev.all)
	}
	write(t, file, "package {")
	e.reload(ctx)
	e.reload(ctx)
	write(t, file, "package [")
	e.reload(ctx)
	if n := len(ev.failures()); n != 2 || e.Status().Failures != 2 {
		t.Errorf("%d failures told, want 2", n)
	}
	write(t, file, versioned("v1"))
	e.reload(ctx)
	if last := ev.last(); last.Err != nil || e.Status().LastError != "" || e.Status().Loads != 1 {
		t.Errorf("undone edit: %+v, status %+v", last, e.Status())
	}
	write(t, file, "package {")
	e.reload(ctx)
	if n := len(ev.failures()); n != 3 {
		t.Errorf("%d failures told, want 3: it was good in between", n)
	}
	must(t, os.RemoveAll(root))
	e.reload(ctx)
	e.reload(ctx)
	if n := len(ev.failures()); n != 4 {
		t.Errorf("%d failures told, want 4: the directory vanished once", n)
	}
}

// TestKubernetesVolume swaps a directory as the kubelet does: ..data is a link
// to a dated directory and is replaced by a rename.
func TestKubernetesVolume(t *testing.T) {
	root := dir(t, files{"..2026_01/team.rego": versioned("v1")})
	link := func(to, from string) { must(t, os.Symlink(to, filepath.Join(root, from))) }
	link("..2026_01", "..data")
	link("..data/team.rego", "team.rego")
	e, _ := started(t, root)
	if got := says(t, e); got != "v1" || e.Status().Files != 1 {
		t.Fatalf("%s from %d files", got, e.Status().Files)
	}
	for i := 2; i < 6; i++ {
		next := fmt.Sprintf("..2026_%02d", i)
		write(t, filepath.Join(root, next, "team.rego"), versioned(fmt.Sprint("v", i)))
		link(next, "..data_tmp")
		must(t, os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")))
		must(t, os.RemoveAll(filepath.Join(root, fmt.Sprintf("..2026_%02d", i-1))))
		eventually(t, "swapped", func() bool { return says(t, e) == fmt.Sprint("v", i) })
	}
}

// TestLinkOnTheWay swaps a link above the operator's path.
func TestLinkOnTheWay(t *testing.T) {
	root := dir(t, files{"1/p/team.rego": versioned("v1"), "2/p/team.rego": versioned("v2")})
	must(t, os.Symlink("1", filepath.Join(root, "current")))
	e, _ := started(t, filepath.Join(root, "current", "p"))
	must(t, os.Symlink("2", filepath.Join(root, "next")), os.Rename(filepath.Join(root, "next"), filepath.Join(root, "current")))
	eventually(t, "swapped", func() bool { return says(t, e) == "v2" })
}

// TestEditsBetweenNewAndStart are seen although nobody watched.
func TestEditsBetweenNewAndStart(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	e := engine(t, Config{Paths: []string{root}}, WithPollInterval(time.Millisecond))
	write(t, filepath.Join(root, "team.rego"), versioned("v2"))
	must(t, e.Start())
	eventually(t, "live", func() bool { return says(t, e) == "v2" })
}

func TestNewAndRemovedFiles(t *testing.T) {
	root := dir(t, files{"a.rego": versioned("a")})
	e, _ := started(t, root)
	write(t, filepath.Join(root, "deep/down/b.rego"), versioned("b"))
	eventually(t, "added", func() bool { return says(t, e) == "a+b" })
	must(t, os.Rename(filepath.Join(root, "a.rego"), filepath.Join(root, "a.rego.off")))
	eventually(t, "removed", func() bool { return says(t, e) == "b" })
	// The same size and time, but another file.
	info, err := os.Stat(filepath.Join(root, "deep/down/b.rego"))
	must(t, err)
	write(t, filepath.Join(root, "c.tmp"), versioned("c"))
	must(t, os.Chtimes(filepath.Join(root, "c.tmp"), info.ModTime(), info.ModTime()),
		os.Rename(filepath.Join(root, "c.tmp"), filepath.Join(root, "deep/down/b.rego")))
	eventually(t, "exchanged", func() bool { return says(t, e) == "c" })
}

// TestSwapUnderLoad: every answer is whole, from one version or the other, and
// the versions never go back.
func TestSwapUnderLoad(t *testing.T) {
	both := func(v int) string {
		return fmt.Sprintf("package metaguard.team\n\ndeny contains \"v%04d\"\n\ndeny contains sprintf(\"d%%04d\", [data.own.version])\n", v)
	}
	own := func(v int) string { return fmt.Sprintf("{\"own\": {\"version\": %d}}", v) }
	root := dir(t, files{"team.rego": both(0), "own.json": own(0)})
	e := engine(t, Config{Paths: []string{root}})

	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := ""
			for !stop.Load() {
				got := e.Decide(context.Background(), instance(decision.KindMetadata, decision.Read))
				if got.Reason != decision.PolicyDeny || len(got.Decision.Reasons) != 2 {
					t.Errorf("got %+v", got)
					return
				}
				data, code := got.Decision.Reasons[0], got.Decision.Reasons[1]
				if data[1:] != code[1:] || code < last {
					t.Errorf("%s with %s after %s", code, data, last)
					return
				}
				last = code
			}
		})
	}
	for v := 1; v <= 25; v++ {
		write(t, filepath.Join(root, "team.rego"), both(v))
		write(t, filepath.Join(root, "own.json"), own(v))
		if v%5 == 0 {
			write(t, filepath.Join(root, "own.json"), "{")
			e.reload(t.Context())
			write(t, filepath.Join(root, "own.json"), own(v))
		}
		e.reload(t.Context())
	}
	stop.Store(true)
	wg.Wait()
	if st := e.Status(); st.Loads != 26 || st.Failures != 5 {
		t.Errorf("status %+v", st)
	}
}

func TestStartAndStop(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	root := dir(t, files{"team.rego": versioned("v1")})
	e, err := New(t.Context(), Config{Paths: []string{root}}, WithPollInterval(time.Millisecond))
	must(t, err)
	goleak.VerifyNone(t, ignore) // New starts nothing

	must(t, e.Start(), e.Start())
	e.Stop(t.Context())
	goleak.VerifyNone(t, ignore)
	e.Stop(t.Context())
	if got := says(t, e); got != "v1" {
		t.Errorf("after Stop: %s", got)
	}
	goleak.VerifyNone(t, ignore) // nor do decisions leave anything

	write(t, filepath.Join(root, "team.rego"), versioned("v2"))
	must(t, e.Start())
	eventually(t, "started again", func() bool { return says(t, e) == "v2" })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { e.Stop(context.Background()) })
		wg.Go(func() { _ = e.Start() })
	}
	wg.Wait()
	e.Stop(t.Context())
	goleak.VerifyNone(t, ignore)

	builtin, err := New(t.Context(), Config{})
	must(t, err, builtin.Start())
	goleak.VerifyNone(t, ignore) // nothing to watch
	builtin.Stop(t.Context())
}

// TestStopDoesNotWaitForEver for a hook that hangs.
func TestStopDoesNotWaitForEver(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	inside, release := make(chan struct{}), make(chan struct{})
	e := engine(t, Config{Paths: []string{root}}, WithPollInterval(time.Millisecond),
		WithLoadHook(func(LoadEvent) { close(inside); <-release }))
	must(t, e.Start())
	write(t, filepath.Join(root, "team.rego"), versioned("v2"))
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Stop(ctx)
	close(release)
}

func TestNewIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(ctx, Config{}); err == nil {
		t.Error("New did not notice")
	}
}
