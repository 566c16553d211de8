// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// Whatever an operator does to a process that eight clients use, each request gets
// an answer of the configuration before or after it, and nothing is left behind
// (I6). TestLongSoak is the same for minutes, with reloads that are refused, for
// which see TestRefusedReloadsLoseNothing.
func TestSoak(t *testing.T) {
	t.Parallel()
	s := newSoak(t)
	s.crowd()
	s.goesOn(s.Process, 3)
	s.flip(t, nil)
	s.everything(t)
	s.goesOn(s.Process, 3)
	s.end(t, s.Process, func() string { return s.log(t) })
	s.checkLines(t, s.log(t))
}

// everything rotates and edits each thing once.
func (s *soak) everything(t *testing.T) {
	t.Helper()
	s.editLive(t)
	s.editInventory()
	s.reloads(t)
	s.rotateSecret(t)
	s.rotateKeys(t)
	s.rename(t)
	s.flip(t, nil)
}

const (
	soakReloads = 500
	soakFirst   = 100 // the reload after which the first sample is taken
	soakInside  = "METAGUARD_SOAK"
)

// TestLongSoak reloads 500 times, with both settings of the kernel for what waits
// in the queue of a listener that is closed, each in a network of its own.
func TestLongSoak(t *testing.T) {
	long(t)
	if os.Getenv(soakInside) != "" {
		soakFor500(t)
		return
	}
	if runtime.GOOS != "linux" {
		soakFor500(t)
		return
	}
	for _, migrate := range []string{"0", "1"} {
		t.Run("tcp_migrate_req="+migrate, func(t *testing.T) {
			script := `ip link set lo up && echo "$1" > /proc/sys/net/ipv4/tcp_migrate_req && exec "$2" -test.run '^TestLongSoak$' -test.v -test.timeout 40m`
			command := exec.Command("unshare", "--map-root-user", "--net", "sh", "-c", script, "sh", migrate, os.Args[0])
			command.Env = append(os.Environ(), soakInside+"=inside", "METAGUARD_BINARY="+harness.Binary(t))
			output, err := command.CombinedOutput()
			t.Logf("%s", output)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func soakFor500(t *testing.T) {
	s := newSoak(t)
	configs := make(map[string]string)
	for _, generation := range []string{"b", "a"} {
		s.Write("Caddyfile", s.caddyfile(generation))
		configs[generation] = s.adapted(t)
	}
	s.crowd()
	s.goesOn(s.Process, 3)
	var first usage
	for n := 1; n <= soakReloads; n++ {
		s.flip(t, configs)
		switch n % 20 {
		case 5:
			s.everything(t)
		case 10:
			s.refused(t)
		case 15:
			s.editLive(t)
			s.editInventory()
		}
		s.goesOn(s.Process, 1)
		if n == soakFirst {
			first = s.usage(t)
		}
	}
	last := s.usage(t)
	t.Logf("after %d reloads: %+v", soakFirst, first)
	t.Logf("after %d reloads: %+v", soakReloads, last)
	if last.goroutines > first.goroutines+10 || last.files > first.files+10 || last.upstream > first.upstream+4 || last.heap > first.heap+first.heap/4+8<<20 {
		t.Error("something grows with the number of reloads")
	}
	s.end(t, s.Process, func() string { return s.log(t) })
	s.checkLines(t, s.log(t))
}

// usage is what a process holds when nobody asks anything.
type usage struct {
	goroutines, files int
	upstream          int64 // connections to the legacy server
	heap, resident    int   // bytes
}

// usage waits until no more ends by itself, and gives what stays.
func (s *soak) usage(t *testing.T) (least usage) {
	t.Helper()
	s.rest(func() {
		steady := 0
		s.Eventually("nothing ends any more", func() bool {
			now := s.now(t)
			if least.goroutines == 0 || now.goroutines < least.goroutines || now.files < least.files || now.upstream < least.upstream {
				least, steady = now, 0
				return false
			}
			steady++
			return steady > 50
		})
		s.memory(t, &least)
	})
	return least
}

var heapAlloc = regexp.MustCompile(`# HeapAlloc = (\d+)`)

func (s *soak) now(t *testing.T) (u usage) {
	t.Helper()
	profile := s.admin.Get(t, "/debug/pprof/goroutine?debug=1")
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &u.goroutines); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	u.files, u.upstream = len(files), s.legacy.open.Load()
	return u
}

func (s *soak) memory(t *testing.T, u *usage) {
	t.Helper()
	if found := heapAlloc.FindStringSubmatch(s.admin.Get(t, "/debug/pprof/heap?debug=1&gc=1")); found != nil {
		u.heap, _ = strconv.Atoi(found[1])
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.Pid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, _ = fmt.Sscan(rest, &u.resident)
	u.resident *= 1024
}
