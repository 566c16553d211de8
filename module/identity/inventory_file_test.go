// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/metaguard/metaguard/module/pace"
)

// followed is a file under test, with what it logged.
type followed struct {
	*InventoryFile
	t    *testing.T
	path string
	logs *observer.ObservedLogs
}

// project is an inventory in which 10.0.0.5 belongs to name.
func project(name string) string {
	return `[{"address":"10.0.0.5","project_id":"` + name + `"}]`
}

// openAt opens path, which looks as if it had been written long ago.
func openAt(t *testing.T, path string) *followed {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	file, err := OpenInventory(path, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return &followed{file, t, path, logs}
}

func follow(t *testing.T, content string) *followed {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inventory.json")
	writeFile(t, path, content)
	return openAt(t, path)
}

// polls looks n times, as the background does.
func (f *followed) polls(n int) {
	for range n {
		f.poll()
	}
}

func (f *followed) want(projectID, lastError string, errorsLogged int) {
	f.t.Helper()
	entry, _ := f.Lookup(netip.MustParseAddr("10.0.0.5"))
	if entry.ProjectID != projectID {
		f.t.Errorf("project %q, want %q", entry.ProjectID, projectID)
	}
	status := f.Status()
	if (status.LastError == "") != (lastError == "") || !strings.Contains(status.LastError, lastError) {
		f.t.Errorf("last error %q, want %q", status.LastError, lastError)
	}
	if got := f.logs.FilterLevelExact(zapcore.ErrorLevel).Len(); got != errorsLogged {
		f.t.Errorf("%d errors logged, want %d: %v", got, errorsLogged, f.logs.All())
	}
}

func (f *followed) rename(content string) {
	f.t.Helper()
	writeFile(f.t, f.path+".new", content)
	if err := os.Rename(f.path+".new", f.path); err != nil {
		f.t.Fatal(err)
	}
}

func TestFollowEdit(t *testing.T) {
	f := follow(t, project("one"))
	f.polls(3)
	f.want("one", "", 0)
	loaded := f.Status().LoadedAt
	writeFile(t, f.path, project("two"))
	f.poll()
	f.want("one", "", 0) // not settled
	f.poll()
	f.want("two", "", 0)
	if status := f.Status(); !status.LoadedAt.After(loaded) || status.Digest != f.Inventory().Digest() {
		t.Errorf("status %+v", status)
	}
}

// A file that is still being written is not read.
func TestFollowSettles(t *testing.T) {
	f := follow(t, project("one"))
	for i := range 5 {
		writeFile(t, f.path, project("two")+strings.Repeat(" ", i))
		f.poll()
		f.want("one", "", 0)
	}
	f.poll()
	f.want("two", "", 0)
}

func TestFollowBrokenEdit(t *testing.T) {
	f := follow(t, project("one"))
	writeFile(t, f.path, "[{\n\"ip\":\"10.0.0.5\"}]")
	f.polls(10)
	f.want("one", `inventory.json:2:1: unknown key "ip"`, 1)
	writeFile(t, f.path, "[\n\n")
	f.polls(10)
	f.want("one", "inventory.json:3:1", 2)
	writeFile(t, f.path, project("two"))
	f.polls(2)
	f.want("two", "", 2)
	writeFile(t, f.path, "")
	f.polls(10)
	f.want("two", "the file is empty", 3)
}

func TestFollowRename(t *testing.T) {
	f := follow(t, project("one"))
	f.rename(project("two"))
	f.polls(2)
	f.want("two", "", 0)
	f.rename("broken")
	f.polls(3)
	f.want("two", "not valid JSON", 1)
	f.rename(project("six")) // as long as the others
	f.polls(2)
	f.want("six", "", 1)
}

func TestFollowVanish(t *testing.T) {
	f := follow(t, project("one"))
	if err := os.Rename(f.path, f.path+".away"); err != nil {
		t.Fatal(err)
	}
	f.polls(5)
	f.want("one", "no such file", 1)
	if err := os.Rename(f.path+".away", f.path); err != nil { // the very same file
		t.Fatal(err)
	}
	f.polls(2)
	f.want("one", "", 1)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.polls(5)
	f.want("one", "no such file", 2)
	writeFile(t, f.path, project("two"))
	f.polls(2)
	f.want("two", "", 2)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		t.Fatal(err)
	}
	f.polls(6)
	f.want("two", "not a regular file", 3)
}

// A ConfigMap is a link to a link to a directory; an update switches the
// middle one.
func TestFollowSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(dir, ".."+version), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, ".."+version, "inventory.json"), project(version))
		old := time.Now().Add(-time.Hour) // the same time and size in both
		if err := os.Chtimes(filepath.Join(dir, ".."+version, "inventory.json"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..one", "..data")
	link("..data/inventory.json", "inventory.json")
	f := openAt(t, filepath.Join(dir, "inventory.json"))
	f.polls(3)
	f.want("one", "", 0)
	link("..two", "..data")
	f.polls(2)
	f.want("two", "", 0)
	link("..nowhere", "..data")
	f.polls(2)
	f.want("two", "no such file", 1)
	link("..one", "..data")
	f.polls(2)
	f.want("one", "", 1)
}

// Each thing that a change can show in is enough by itself.
func TestFollowNoticesEachSign(t *testing.T) {
	for name, change := range map[string]func(f *followed){
		"size": func(f *followed) { writeFile(t, f.path, project("other")) },
		"file": func(f *followed) { f.rename(project("two")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := follow(t, project("one"))
			info, err := os.Stat(f.path)
			if err != nil {
				t.Fatal(err)
			}
			change(f)
			if err := os.Chtimes(f.path, time.Time{}, info.ModTime()); err != nil {
				t.Fatal(err)
			}
			before := f.Inventory()
			f.polls(2)
			if f.Inventory() == before {
				t.Error("not noticed")
			}
		})
	}
}

// A bad file is read once, not every second.
func TestFollowReadsABadFileOnce(t *testing.T) {
	f := follow(t, project("one"))
	reads := 0
	f.load = func(path string, _ *pace.Pace) (*Inventory, error) {
		reads++
		return LoadInventory(path, new(pace.Pace))
	}
	writeFile(t, f.path, "bad")
	f.polls(10)
	f.want("one", "not valid JSON", 1)
	if reads != 1 {
		t.Errorf("read %d times", reads)
	}
}

// What changes while it is read is neither used nor complained about.
func TestFollowChangeWhileReading(t *testing.T) {
	f := follow(t, project("one"))
	for _, test := range []struct{ half, whole string }{{project("half"), "good"}, {"half", "better"}} {
		f.load = func(path string, _ *pace.Pace) (*Inventory, error) {
			inventory, err := LoadInventory(path, new(pace.Pace))
			f.rename(project(test.whole))
			f.load = LoadInventory
			return inventory, err
		}
		was, _ := f.Lookup(netip.MustParseAddr("10.0.0.5"))
		writeFile(t, f.path, test.half)
		f.polls(2)
		f.want(was.ProjectID, "", 0)
		f.polls(2)
		f.want(test.whole, "", 0)
	}
}

// What changes each time while it is read says so, goes by at once, and is in force as
// soon as it rests.
func TestFollowChangesEachTime(t *testing.T) {
	f := follow(t, project("one"))
	var paces []pace.Pace
	f.load = func(path string, p *pace.Pace) (*Inventory, error) {
		paces = append(paces, *p)
		inventory, err := LoadInventory(path, p)
		f.rename(project(fmt.Sprint("edit-", len(paces))))
		return inventory, err
	}
	writeFile(t, f.path, project("two"))
	for len(paces) < 2 {
		f.polls(1)
	}
	f.want("one", "changes each time", 1)
	if paces[0] == (pace.Pace{}) || paces[1] != (pace.Pace{}) {
		t.Error("the first is not loaded gently, or the next is")
	}
	f.load = LoadInventory
	f.polls(3)
	f.want("edit-2", "", 1)
}

// What was read just after an edit is read again, since a second edit within
// the same tick of the file system's clock would look like the first.
func TestFollowYoungFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.json")
	writeFile(t, path, project("one"))
	now := time.Now()
	stamp := func() {
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
	}
	stamp()
	core, logs := observer.New(zapcore.InfoLevel)
	file, err := OpenInventory(path, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{file, t, path, logs}
	writeFile(t, path, project("two"))
	stamp()
	f.polls(2)
	f.want("two", "", 0)
}

// A file whose time lies ahead is not read for ever.
func TestFollowFutureTime(t *testing.T) {
	f := follow(t, project("one"))
	if err := os.Chtimes(f.path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.polls(2)
	inventory := f.Inventory()
	f.polls(5)
	f.want("one", "", 0)
	if f.Inventory() != inventory || f.logs.Len() != 0 || f.loaded.info == nil {
		t.Error("it was loaded though nothing but its time changed")
	}
}

func TestStartStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := follow(t, project("one"))
	f.interval = 2 * time.Millisecond
	f.Stop() // nothing runs
	for range 3 {
		for range 2 {
			if err := f.Start(); err != nil {
				t.Fatal(err)
			}
		}
		f.Stop()
		f.Stop()
	}
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	for _, name := range []string{"two", "three", "four"} {
		f.rename("broken by " + name)
		eventually(t, func() bool { return f.Status().LastError != "" })
		f.rename(project(name))
		eventually(t, func() bool {
			entry, ok := f.Lookup(netip.MustParseAddr("10.0.0.5"))
			if !ok {
				t.Fatal("unknown meanwhile")
			}
			return entry.ProjectID == name && f.Status().LastError == ""
		})
	}
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it did not happen within 30 s")
		}
	}
}

// Provision and Cleanup, which is all that validating does, start nothing;
// Cleanup ends what Start began, and also comes after a failed Provision.
func TestRemoteIPLifeCycle(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	source := newRemoteIP(t, exampleInventory)
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
	if source.file.stop != nil {
		t.Error("Provision started something")
	}
	for range 2 {
		if err := source.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := source.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if caller, _ := source.Identify(nil, netip.MustParseAddr("10.0.0.5")); caller == nil {
		t.Error("a request that still runs lost the inventory")
	}
	bare := new(RemoteIP)
	if bare.Start() == nil {
		t.Error("started without Provision")
	}
	if err := bare.Cleanup(); err != nil {
		t.Error(err)
	}
}
