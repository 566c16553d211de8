// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// capacityInstances is how many instances the measured guard knows.
const capacityInstances = 1000

// measured is a guard whose log is a file, as in production, in front of the
// faulty server in a process of its own.
type measured struct {
	*managed
	logFile string
}

// setup is how a measured guard is set up.
type setup struct {
	settings string            // how callers are known, and more
	files    map[string]string // in the place of the usual ones
	edits    [][2]string       // of the Caddyfile
	gogc     string            // Go's GOGC
	policy   string            // the block of that name
	redis    string            // the URL, where the latch is there
	writes   bool              // the server takes any password, and is in the test's process
}

// measure starts a guard with the usual inventory.
func measure(t *testing.T, how setup) *measured {
	t.Helper()
	var instances, inventory strings.Builder
	for n := range capacityInstances {
		fmt.Fprintf(&instances, "\t\tinstance %s {\n\t\t\tproject %s\n\t\t\tname vm-%d\n\t\t\taddress %s\n\t\t\tuser_data \"#cloud-config\"\n\t\t}\n", instanceOf(n), projectA, n, addressOf(n))
		fmt.Fprintf(&inventory, `,{"address": %q, "instance_id": %q, "project_id": %q}`+"\n", addressOf(n), instanceOf(n), projectA)
	}
	files := map[string]string{"inventory.json": "[" + inventory.String()[1:] + "]"}
	maps.Copy(files, how.files)
	m := &measured{managed: prepareManaged(t, how.settings+"\npolicy policy"+how.policy+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", files)}
	m.Setenv("METAGUARD_REDIS_URL", how.redis)
	m.Setenv("GOGC", how.gogc)
	m.logFile = filepath.Join(m.Dir, "log")
	m.edit(t, "Caddyfile", "level DEBUG", "output file "+m.logFile+" {\n\t\t\troll_disabled\n\t\t}")
	if how.writes {
		m.upstream.Script(func(string) string { return harness.OK("") })
	} else {
		legacy := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
		harness.Start(t, legacy, map[string]string{"Caddyfile": fmt.Sprintf(
			"{\n\tadmin off\n\tpersist_config off\n}\nhttp://:%s {\n\tbind 127.0.0.1\n\tmetaguard_legacy {\n\t\tsecret {env.METAGUARD_NEUTRON_SECRET}\n%s\t}\n}\n", strings.TrimPrefix(legacy, "127.0.0.1:"), instances.String(),
		)}, "METAGUARD_NEUTRON_SECRET="+secret)
		m.edit(t, "Caddyfile", m.upstream.Address, legacy)
	}
	for _, edit := range how.edits {
		m.edit(t, "Caddyfile", edit[0], edit[1])
	}
	m.Run(m.address)
	return m
}

// consumption is what a process took so far, and what it has now.
type consumption struct {
	cpu            time.Duration
	resident, peak int64 // bytes
	files          int
}

func (m *measured) usage(t *testing.T) (u consumption) {
	t.Helper()
	read := func(name string) string {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.Pid(), name))
		if err != nil {
			t.Skipf("this machine does not tell what a process takes: %v", err)
		}
		return string(content)
	}
	stat := read("stat")
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	var user, system int64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	u.cpu = time.Duration(user+system) * 10 * time.Millisecond // a tick is a hundredth of a second
	status := read("status")
	for line, into := range map[string]*int64{"VmRSS:": &u.resident, "VmHWM:": &u.peak} {
		_, rest, _ := strings.Cut(status, line)
		_, _ = fmt.Sscan(rest, into)
		*into <<= 10
	}
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.Pid()))
	u.files = len(entries)
	return u
}

// forgetPeak makes the peak what is there now.
func (m *measured) forgetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.Pid()), []byte("5"), 0)
}

// live is the heap after two collections, of which the second empties pools of buffers,
// in bytes.
func (m *measured) live(t *testing.T) (bytes int64) {
	t.Helper()
	m.admin.Get(t, "/debug/pprof/heap?gc=1&debug=1")
	_, rest, _ := strings.Cut(m.admin.Get(t, "/debug/pprof/heap?gc=1&debug=1"), "# HeapAlloc = ")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// logSizes gives the bytes of the log's lines so far, and how many there are, by
// message.
func (m *measured) logSizes(t *testing.T) (size, count map[string]int64) {
	t.Helper()
	file, err := os.Open(m.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size, count = make(map[string]int64), make(map[string]int64)
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		var line struct{ Msg string }
		if json.Unmarshal(scanner.Bytes(), &line) == nil {
			size[line.Msg] += int64(len(scanner.Bytes()) + 1)
			count[line.Msg]++
		}
	}
	return size, count
}

// caller is a client that keeps its connection.
type caller struct {
	conn   net.Conn
	reader *bufio.Reader
}

func newCaller(from, address string) (*caller, error) {
	dialer := net.Dialer{Timeout: time.Minute}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn, bufio.NewReader(conn)}, nil
}

// ask sends a request and reads its answer.
func (c *caller) ask(request string) harness.Answer {
	_ = c.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c.conn, request); err != nil {
		return harness.Answer{Err: err}
	}
	return harness.ReadAnswer(c.reader, request)
}

// drive lets clients send requests as fast as they are answered, and gives how
// many were and what one of them cost the guard.
func (m *measured) drive(t *testing.T, clients, requests int, from func(client int) string, request func(i int) string) (perSecond float64, cpu time.Duration) {
	t.Helper()
	run := func(from func(client int) string, requests, skip int) {
		var next atomic.Int64
		var all sync.WaitGroup
		for client := range clients {
			all.Go(func() {
				c, err := newCaller(from(client), m.address)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.conn.Close()
				for i := int(next.Add(1)); i <= requests; i = int(next.Add(1)) {
					if answer := c.ask(request(skip + i)); answer.Status != http.StatusOK {
						t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	run(from, requests/10, 0)
	before, began := m.usage(t), time.Now()
	run(from, requests, requests/10)
	took := time.Since(began)
	return float64(requests) / took.Seconds(), (m.usage(t).cpu - before.cpu) / time.Duration(requests)
}

// percentile of sorted times.
func percentile(times []time.Duration, p float64) time.Duration {
	slices.Sort(times)
	return times[min(len(times)-1, int(p*float64(len(times))))].Round(time.Millisecond)
}
