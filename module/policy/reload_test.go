// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Reload reads the files at once and says what came of it, each time it is asked.
func TestReloadAtOnce(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v1")})
	e := engine(t, Config{Paths: []string{root}}) // not started: nobody else looks at the files
	if changed, err := e.Reload(t.Context()); changed || err != nil {
		t.Errorf("nothing was edited: %v, %v", changed, err)
	}
	revision := e.Status().Revision
	write(t, filepath.Join(root, "team.rego"), "package metaguard.team\n\ndenny contains \"x\"\n")
	for range 2 {
		changed, err := e.Reload(t.Context())
		if changed || err == nil || !strings.Contains(err.Error(), "team.rego:3:1") {
			t.Errorf("a broken edit: %v, %v", changed, err)
		}
	}
	if status := e.Status(); status.Revision != revision || status.LastError == "" {
		t.Errorf("%+v", status)
	}
	write(t, filepath.Join(root, "team.rego"), versioned("v2"))
	if changed, err := e.Reload(t.Context()); !changed || err != nil {
		t.Errorf("a good edit: %v, %v", changed, err)
	}
	if status := e.Status(); status.Revision == revision || status.LastError != "" {
		t.Errorf("%+v", status)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Reload(gone); err == nil {
		t.Error("a reload that was given up says that all is well")
	}
}

// Reloads beside the engine's own never leave an older policy in force.
func TestReloadBesideTheWatcher(t *testing.T) {
	root := dir(t, files{"team.rego": versioned("v0")})
	e, _ := started(t, root)
	var all sync.WaitGroup
	for _, version := range []string{"v1", "v2", "v3", "v4", "v5"} {
		write(t, filepath.Join(root, "team.rego"), versioned(version))
		for range 3 {
			all.Go(func() { _, _ = e.Reload(t.Context()) }) // a file that is being written is no error of ours
		}
	}
	all.Wait()
	if _, err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := engine(t, Config{Paths: []string{root}}).Status().Revision
	if now := e.Status().Revision; now != last {
		t.Errorf("%s is in force, the files are %s", now, last)
	}
}

// A load is gentle where requests are served and only data is new: a changed rule, and
// who asks for it, go at once.
func TestPaceOfALoad(t *testing.T) {
	root := dir(t, files{"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.request.path == \"/x\"\n", "data.json": "{}"})
	e := engine(t, Config{Paths: []string{root}})
	gentle := func(ctx context.Context, live *Policy) bool {
		src, err := read(e.settings.Paths, e.paceOfReading(ctx))
		if err != nil {
			t.Fatal(err)
		}
		all := src.with(nil) // and bundles
		all.pace = src.pace
		_ = all.identity()
		other := src.with(nil) // what OPA brings
		_ = other.identity()
		gentle := e.paceOf(ctx, live, all).IsGentle()
		if e.paceOf(ctx, live, other).IsGentle() != gentle {
			t.Error("bundles make another pace")
		}
		return gentle
	}
	write(t, root+"/data.json", `{"metaguard": {"grants": {"role": {"admin": ["password:read"]}}}}`)
	if !gentle(t.Context(), e.Policy()) {
		t.Error("new data is not loaded gently")
	}
	if gentle(t.Context(), nil) || gentle(context.WithValue(t.Context(), atOnceKey{}, true), e.Policy()) {
		t.Error("somebody waits, and it is loaded gently")
	}
	write(t, root+"/team.rego", "package metaguard.team\n\ndeny contains \"y\" if input.request.path == \"/y\"\n")
	if gentle(t.Context(), e.Policy()) {
		t.Error("a new rule is loaded gently")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, root+"/team.rego", "package metaguard.team\n\ndeny contains \"x\" if input.request.path == \"/x\"\n")
	if gentle(gone, e.Policy()) {
		t.Error("a load that nobody needs any more is gentle")
	}
	waits := e.hurry.channel()
	e.Stop(t.Context())
	select {
	case <-waits:
	default:
		t.Error("the end of the engine waits for a gentle load")
	}
}

// While data is loaded gently, another edit ends the gentleness.
func TestNextEditHurries(t *testing.T) {
	root := dir(t, files{"data.json": "{}"})
	e := engine(t, Config{Paths: []string{root}}, WithPollInterval(time.Millisecond))
	waits := e.hurry.channel()
	e.loading.Lock() // so that the load goes on
	var loads sync.WaitGroup
	loads.Go(func() { e.reload(t.Context()) })
	defer loads.Wait()
	defer e.loading.Unlock()
	for i, until := 0, time.Now().Add(time.Minute); ; i++ {
		write(t, root+"/data.json", "{}"+strings.Repeat(" ", i))
		select {
		case <-waits:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(until) {
			t.Fatal("it goes on gently")
		}
	}
}

// So do bundles.
func TestBundlesHurry(t *testing.T) {
	e := engine(t, Config{})
	waits := e.hurry.channel()
	if err := e.adopt(t.Context(), nil, false, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-waits:
	default:
		t.Error("what is loaded goes on gently")
	}
}
