// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func TestFileCaddyfile(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ input, want, err string }{
		"the default":      {"file", `{}`, ""},
		"absolute":         {"file /srv/latch", `{"directory":"/srv/latch"}`, ""},
		"a placeholder":    {"file {env.LATCH}", `{"directory":"{env.LATCH}"}`, ""},
		"relative":         {"file latch", `{"directory":"` + here + `/latch"}`, ""},
		"two directories":  {"file a b", "", "wrong argument count"},
		"empty":            {`file ""`, "", "the directory is empty"},
		"a block":          {"file {\n mode 0700\n}", "", `no setting "mode"`},
		"an argument more": {"file /a {\n}\n", `{"directory":"/a"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			latch := new(FileLatch)
			err := latch.UnmarshalCaddyfile(caddyfile.NewTestDispenser(test.input))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(latch); err != nil || string(got) != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestFileProvision(t *testing.T) {
	if _, err := caddy.GetModule("metaguard.latches.file"); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	t.Setenv("XDG_DATA_HOME", base)
	t.Setenv("METAGUARD_TEST_LATCH", filepath.Join(base, "given"))
	file := filepath.Join(base, "file")
	open := filepath.Join(base, "open")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ directory, want, err string }{
		"the default":          {"", filepath.Join(base, "caddy", "metaguard", "latch"), ""},
		"a placeholder":        {"{env.METAGUARD_TEST_LATCH}", filepath.Join(base, "given"), ""},
		"an unset placeholder": {"{env.METAGUARD_TEST_UNSET}", "", "METAGUARD_TEST_UNSET"},
		"relative":             {"latch", "", "not an absolute path"},
		"a file":               {file, "", "not a directory"},
		"below a file":         {file + "/latch", "", "not a directory"},
		"open to everyone":     {open, "", "everyone may write"},
	} {
		t.Run(name, func(t *testing.T) {
			latch := &FileLatch{Directory: test.directory}
			err := latch.Provision(caddy.Context{})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || latch.root != test.want {
				t.Fatalf("got %s, %v", latch.root, err)
			}
			if _, err := os.Stat(latch.root); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Provision made the directory: %v", err)
			}
			for range 2 {
				if err := latch.Start(); err != nil {
					t.Fatal(err)
				}
			}
			if info, err := os.Stat(latch.root); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("Start made %v, %v", info, err)
			}
			_, refusal := newKeeper(t, latch, newClock()).Reserve(context.Background(), instance, []byte("x"))
			wantRefusal(t, refusal, "", "")
		})
	}
}

// TestFileCannotBeUsed: whatever is wrong with the directory or a file refuses
// reads and writes of passwords, and never looks free.
func TestFileCannotBeUsed(t *testing.T) {
	const failed, corrupt = "latch_failed", "latch_corrupt"
	key := mustKey(t, instance)
	record := func(root string) string { return filepath.Join(root, key.Name()[:2], key.Name(), "2") }
	for name, test := range map[string]struct {
		spoil func(root string) error
		code  string
		reset bool // a reset helps
	}{
		"the directory vanished": {os.RemoveAll, failed, false},
		"an empty one in its place": {func(root string) error {
			return errors.Join(os.RemoveAll(root), os.Mkdir(root, 0o700))
		}, failed, false},
		"another latch in its place": {func(root string) error {
			return errors.Join(os.RemoveAll(root), newFileLatch(t, root).Start())
		}, failed, false},
		"a file in its place": {func(root string) error {
			return errors.Join(os.RemoveAll(root), os.WriteFile(root, nil, 0o600))
		}, failed, false},
		"a file in the instance's place": {func(root string) error {
			place := filepath.Dir(record(root))
			return errors.Join(os.RemoveAll(place), os.WriteFile(place, nil, 0o600))
		}, failed, false},
		"an empty record":           {func(root string) error { return os.WriteFile(record(root), nil, 0o600) }, corrupt, true},
		"a record of zero bytes":    {func(root string) error { return os.WriteFile(record(root), make([]byte, 300), 0o600) }, corrupt, true},
		"a cut record":              {func(root string) error { return os.Truncate(record(root), 100) }, corrupt, true},
		"a record of a gigabyte":    {func(root string) error { return os.Truncate(record(root), 1<<30) }, corrupt, true},
		"a directory as the record": {func(root string) error { return os.Mkdir(filepath.Join(filepath.Dir(record(root)), "3"), 0o700) }, corrupt, true},
		"a link as the record": {func(root string) error {
			return os.Symlink(record(root), filepath.Join(filepath.Dir(record(root)), "3"))
		}, corrupt, true},
	} {
		t.Run(name, func(t *testing.T) {
			root, clock := filepath.Join(t.TempDir(), "latch"), newClock()
			keeper := newKeeper(t, newFileLatch(t, root), clock)
			write(t, keeper, clock, "first", Accepted)
			if err := test.spoil(root); err != nil {
				t.Fatal(err)
			}
			_, refusal := keeper.Reserve(context.Background(), instance, []byte("second"))
			wantRefusal(t, refusal, decision.LatchUnavailable, test.code)
			wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("first")), decision.LatchUnavailable, test.code)
			wantRefusal(t, keeper.CheckRead(context.Background(), instance, rsaResult(2048)), decision.LatchUnavailable, test.code)
			_, err := keeper.Reset(context.Background(), instance)
			if (err == nil) != test.reset {
				t.Errorf("a reset says %v", err)
			}
			if test.reset {
				_, refusal = keeper.Reserve(context.Background(), instance, []byte("third"))
				wantRefusal(t, refusal, "", "")
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	marked := filepath.Join(base, "marked")
	err := errors.Join(os.WriteFile(file, nil, 0o600), os.Mkdir(marked, 0o700),
		os.WriteFile(filepath.Join(marked, markerFile), []byte("metaguard latch 2\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, filepath.Join(file, "below"), marked, "/proc/metaguard"} {
		latch := newFileLatch(t, root)
		if err := latch.Start(); err == nil {
			t.Errorf("%s can be used", root)
		}
		_, refusal := newKeeper(t, latch, newClock()).Reserve(context.Background(), instance, []byte("x"))
		wantRefusal(t, refusal, decision.LatchUnavailable, "latch_failed")
	}
	// What was wrong at first may be put right.
	latch := newFileLatch(t, file)
	if err := latch.Start(); err == nil {
		t.Fatal("a file can be used")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := latch.Start(); err != nil {
		t.Error(err)
	}
}

// TestHangingDisk: a call that does not come back ends with its context.
func TestHangingDisk(t *testing.T) {
	latch := newFileLatch(t, t.TempDir())
	release, reached := make(chan struct{}), make(chan struct{})
	latch.step = func(step string) {
		if step == "written" {
			close(reached)
			<-release
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := latch.Swap(ctx, mustKey(t, instance), "", sampleRecords(t)["pending"])
		done <- err
	}()
	<-reached
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	for range maxFileOps { // what hung is over: its directory can go
		latch.slots <- struct{}{}
	}
}

// TestBusyDisk: no more than maxFileOps calls are at the disk.
func TestBusyDisk(t *testing.T) {
	latch := newFileLatch(t, t.TempDir())
	for range maxFileOps {
		latch.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, _, err := latch.Load(ctx, mustKey(t, instance)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestOldGenerationsAreRemoved, and what a crash left.
func TestOldGenerationsAreRemoved(t *testing.T) {
	root, clock := t.TempDir(), newClock()
	keeper := newKeeper(t, newFileLatch(t, root), clock)
	write(t, keeper, clock, "first", Accepted)
	key := mustKey(t, instance)
	directory := filepath.Join(root, key.Name()[:2], key.Name())
	for name, age := range map[string]time.Duration{"old": 2 * staleTemp, "new": 0} {
		path := filepath.Join(directory, tempPrefix+name)
		then := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		write(t, keeper, clock, "again", Accepted)
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(entries); got != "[- .new-new - 11 - 12]" {
		t.Errorf("left are %s", got)
	}
}

// What a crash left beside the marker goes at the next start.
func TestOpeningRemovesWhatACrashLeft(t *testing.T) {
	root := t.TempDir()
	for name, age := range map[string]time.Duration{"old": 2 * staleTemp, "new": 0} {
		path := filepath.Join(root, tempPrefix+name)
		then := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if err := newFileLatch(t, root).Start(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(entries); got != "[- .metaguard-latch - .new-new]" {
		t.Errorf("left are %s", got)
	}
}

// A call that was given up on shares nothing with whoever gave it up: with
// -race this failed when it wrote the results of Load by itself.
func TestGivenUpCalls(t *testing.T) {
	latch := newFileLatch(t, t.TempDir())
	key := mustKey(t, instance)
	record := Record{}.reserved(time.Now(), terms{once: testOnce, timeout: testTimeout}, newToken(), "")
	if _, err := latch.Swap(context.Background(), key, "", record); err != nil {
		t.Fatal(err)
	}
	for n := range 500 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Microsecond)
		if got, version, err := latch.Load(ctx, key); err != nil && (version != "" || got.state != "") {
			t.Errorf("a record beside the error %v", err)
		}
		cancel()
	}
}
