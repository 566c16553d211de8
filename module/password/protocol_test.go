// SPDX-License-Identifier: Apache-2.0

package password

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// advance makes that many new generations, as other replicas do meanwhile.
func advance(t *testing.T, store *fileStore, key Key, times int) {
	t.Helper()
	for range times {
		newest, err := store.newest(key.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.replace(key.name, newest.version(), encoded(t, key)); err != nil {
			t.Fatal(err)
		}
	}
}

func encoded(t *testing.T, key Key) []byte {
	t.Helper()
	data, err := EncodeRecord(key, sampleRecords(t)["pending"])
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openStore(t *testing.T, root string) *fileStore {
	t.Helper()
	store, err := openFileStore(root)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// TestSleepingWriter: a writer that sleeps between reading and linking never
// wins when others went on, also when the name that it takes is free again.
func TestSleepingWriter(t *testing.T) {
	key := mustKey(t, instance)
	for _, before := range []int{0, 1, 2, 5} {
		for others := range 5 {
			t.Run(fmt.Sprintf("%d generations, then %d others", before, others), func(t *testing.T) {
				root := t.TempDir()
				other, sleeper := openStore(t, root), openStore(t, root)
				advance(t, other, key, before)
				loaded, err := sleeper.newest(key.name)
				if err != nil {
					t.Fatal(err)
				}
				slept := false
				sleeper.step = func(step string) {
					if step == "written" && !slept {
						slept = true
						advance(t, other, key, others)
					}
				}
				_, err = sleeper.replace(key.name, loaded.version(), encoded(t, key))
				if (err == nil) != (others == 0) || (others > 0 && !errors.Is(err, ErrConflict)) {
					t.Fatalf("the sleeper got %v", err)
				}
				top, err := other.newest(key.name)
				if want := uint64(before + max(others, 1)); err != nil || top.generation != want {
					t.Fatalf("the record is generation %d, %v, want %d", top.generation, err, want)
				}
				// What the sleeper left is nobody's record, and goes.
				advance(t, other, key, 2)
				numbers, err := generations(other.directory(key.name))
				if err != nil || (len(numbers) != 2 && others > 0) {
					t.Errorf("left are %v, %v", numbers, err)
				}
			})
		}
	}
}

// TestChangedPredecessor: a writer wins only over the very record it read.
func TestChangedPredecessor(t *testing.T) {
	key := mustKey(t, instance)
	store := openStore(t, t.TempDir())
	advance(t, store, key, 3)
	loaded, err := store.newest(key.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(loaded.path, encoded(t, key), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.replace(key.name, loaded.version(), encoded(t, key)); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
}

// errCrash ends a writer in the middle.
var errCrash = errors.New("crash")

// TestCrashAtEveryStep: whatever step a writer dies after, the record is the
// old one or the new one, and the next writer can go on.
func TestCrashAtEveryStep(t *testing.T) {
	key := mustKey(t, instance)
	for _, before := range []int{0, 1, 4} {
		for _, step := range []string{"written", "linked", "synced", "checked", "cleaned"} {
			t.Run(fmt.Sprintf("%s after %d", step, before), func(t *testing.T) {
				root := t.TempDir()
				store := openStore(t, root)
				advance(t, store, key, before)
				old, err := store.newest(key.name)
				if err != nil {
					t.Fatal(err)
				}
				next := encoded(t, key)
				store.step = func(done string) {
					if done == step {
						panic(errCrash)
					}
				}
				func() {
					defer func() {
						if cause := recover(); cause != errCrash { //nolint:errorlint // the value itself
							t.Fatalf("no crash after %s: %v", step, cause)
						}
					}()
					_, _ = store.replace(key.name, old.version(), next)
				}()
				store = openStore(t, root) // the next process
				now, err := store.newest(key.name)
				if err != nil {
					t.Fatal(err)
				}
				if now.version() != old.version() && string(now.data) != string(next) {
					t.Errorf("the record is neither the old nor the new one: %s", now.data)
				}
				if (now.version() == old.version()) != (step == "written") {
					t.Errorf("after %s the record is generation %d of %d", step, now.generation, old.generation)
				}
				advance(t, store, key, 1)
			})
		}
	}
}

// TestLostAnswer: a link that was made although the call failed, as NFS can
// have it, is ours.
func TestLostAnswer(t *testing.T) {
	directory := t.TempDir()
	store := &fileStore{root: directory}
	path := filepath.Join(directory, "1")
	store.step = func(step string) {
		if step != "written" {
			return
		}
		entries, err := filepath.Glob(filepath.Join(directory, tempPrefix+"*"))
		if err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
		if err := os.Link(entries[0], path); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.create(directory, path, []byte("x")); err != nil {
		t.Errorf("got %v", err)
	}
	store.step = nil
	if err := store.create(directory, path, []byte("y")); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
}
