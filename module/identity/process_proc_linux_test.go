// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/decision"
)

// fakeProcess writes a process as /proc has it.
func fakeProcess(tb testing.TB, root string, pid int, exe, cgroup string, links ...string) {
	tb.Helper()
	dir := filepath.Join(root, strconv.Itoa(pid))
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "fd"), 0o755)) //nolint:gosec // as /proc
	for name, text := range map[string]string{
		"stat":    fmt.Sprintf("%d (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, 1000+pid),
		"status":  "Name:\ta\nUid:\t5\t6\t6\t6\nGid:\t5\t0\t0\t0\nGroups:\t9 3 0 9 \n",
		"cmdline": "a\x00b\x00",
		"cgroup":  "0::" + cgroup + "\n",
	} {
		must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	must(os.Symlink(exe, filepath.Join(dir, "exe")))
	for i, link := range links {
		must(os.Symlink(link, filepath.Join(dir, "fd", strconv.Itoa(i))))
	}
}

// held is a socket as a Unix one is known, since a link to a fake has no group.
var held = socket{inode: 77, uid: 6, pid: 2, cookie: 1}

func find(tb testing.TB, root string, s socket) (*decision.Process, error) {
	tb.Helper()
	seen, err := newProcessFinder(root).owner(context.Background(), s)
	if err != nil {
		return nil, err
	}
	return &seen.process, nil
}

func TestProcessHolders(t *testing.T) {
	const ours, theirs = "socket:[77]", "socket:[7]"
	exe, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		lay  func(root string)
		want error
		path string
	}{
		"one":       {func(root string) { fakeProcess(t, root, 2, exe, "/a", theirs, ours) }, nil, exe},
		"none":      {func(root string) { fakeProcess(t, root, 2, exe, "/a", theirs) }, errProcessGone, ""},
		"not alone": {func(root string) { fakeProcess(t, root, 2, exe, "/a", ours); fakeProcess(t, root, 3, exe, "/a", ours) }, nil, exe},
		"executables": {func(root string) {
			fakeProcess(t, root, 2, exe, "/a", ours)
			fakeProcess(t, root, 3, "/bin/other", "/a", ours)
		}, errProcessAmbiguous, ""},
		"cgroups":           {func(root string) { fakeProcess(t, root, 2, exe, "/a", ours); fakeProcess(t, root, 3, exe, "/b", ours) }, errProcessAmbiguous, ""},
		"deleted":           {func(root string) { fakeProcess(t, root, 2, "/bin/sh (deleted)", "/a", ours) }, nil, ""},
		"another connected": {func(root string) { fakeProcess(t, root, 3, exe, "/a", ours) }, errProcessGone, ""},
		"too many": {func(root string) {
			for pid := range maxHolders + 1 {
				fakeProcess(t, root, pid+2, exe, "/a", ours)
			}
		}, errProcessAmbiguous, ""},
		"a zombie": {func(root string) {
			fakeProcess(t, root, 2, exe, "/a", ours)
			_ = os.WriteFile(filepath.Join(root, "2", "stat"), []byte("2 (a) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0\n"), 0o600)
		}, errProcessGone, ""},
		"another group": {func(root string) {
			fakeProcess(t, root, 2, exe, "/a", ours)
			_ = os.WriteFile(filepath.Join(root, "2", "status"), []byte("Uid:\t6\t6\t6\t6\nGid:\t0\t8\t0\t0\nGroups:\t\n"), 0o600)
		}, errProcessUser, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			fakeProcess(t, root, 1, exe, "/init", theirs)
			test.lay(root)
			process, err := find(t, root, held)
			if !errors.Is(err, test.want) {
				t.Fatalf("%v", err)
			}
			if err == nil && (process.PID != 2 || process.Executable != test.path || process.UserID != 6 || !slices.Equal(process.GroupIDs, []int{0, 3, 9})) {
				t.Errorf("%+v", process)
			}
		})
	}
	if _, err := find(t, t.TempDir(), held); !errors.Is(err, errProcessUnreadable) { // hidepid
		t.Errorf("without process 1: %v", err)
	}
}

func TestProcessRefusals(t *testing.T) {
	for err, want := range map[error]string{
		errProcessNames: "identity_unavailable process_names_unreadable",
		errProcessBusy:  "identity_unavailable process_busy",
		errNoSocket:     "identity_invalid process_gone",
		errors.New("x"): "identity_unavailable process_unavailable",
	} {
		if r := refuseProcess(fmt.Errorf("y: %w", err)); string(r.Reason)+" "+r.Code != want {
			t.Errorf("%v: %v", err, r)
		}
	}
	places := make(chan struct{}, 1)
	leave, err := enter(t.Context(), places)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := enter(ctx, places); !errors.Is(err, errProcessBusy) {
		t.Errorf("%v", err)
	}
	leave()
}

func TestProcessLife(t *testing.T) {
	p := new(Process)
	if err := p.Start(); err == nil {
		t.Error("started without being provisioned")
	}
	provision(t, p.Provision)
	p.logger = zap.NewNop()
	for range 2 {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if err := provisionError(t, (&Process{Target: &TargetRule{By: "x"}}).Provision); err == nil {
		t.Error("a bad target is accepted")
	}
	var _ caddy.Module = p
}

func TestProcessCacheIsBounded(t *testing.T) {
	cache := new(processCache)
	for i := range 3 * maxKnownProcesses {
		cache.put(socket{cookie: uint64(i)}, place{pid: i + 1}) //nolint:gosec // small
	}
	if len(cache.places) > maxKnownProcesses {
		t.Errorf("%d places", len(cache.places))
	}
	if _, ok := cache.get(socket{cookie: 3*maxKnownProcesses - 1}); !ok {
		t.Error("the last is forgotten")
	}
}

func BenchmarkProcessSearch(b *testing.B) {
	for _, count := range []int{100, 2000} {
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			root := b.TempDir()
			links := strings.Split(strings.TrimSuffix(strings.Repeat("socket:[7] ", 20), " "), " ")
			for pid := range count {
				fakeProcess(b, root, pid+3, "/bin/sh", "/a", links...)
			}
			fakeProcess(b, root, 2, "/bin/sh", "/a", append(slices.Clone(links), "socket:[77]")...)
			finder := newProcessFinder(root)
			b.ReportAllocs()
			for b.Loop() {
				if found, err := finder.search(context.Background(), 77); err != nil || len(found) != 1 {
					b.Fatal(found, err)
				}
			}
		})
	}
}

// BenchmarkProcess is a whole look-up on a real connection to ourselves.
func BenchmarkProcess(b *testing.B) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	source := &Process{finder: newProcessFinder("/proc")}
	r := request(nil).WithContext(WithConnection(context.Background(), conn))
	for name, forget := range map[string]bool{"again": false, "first": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					source.finder.known = new(processCache)
				}
				if caller, refusal := source.Identify(r, loopback); caller == nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}
