// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// The figures of "Planning capacity" in the README. This test fails only if
// requests do; what it measures is for people to read, and as good as the
// machine was idle. It holds load generator, guard and server:
//
//	METAGUARD_LONG=required go test ./tests -run 'TestLongCapacity' -v
func TestLongCapacity(t *testing.T) {
	long(t)
	t.Run("requests", measureRequests)
	t.Run("boots", measureBoots)
	t.Run("connections", measureConnections)
	t.Run("policy data", measureData)
}

const (
	knownByAddress = "identify remote_ip inventory.json"
	// patient is for what shall not fail where the machine has much to do.
	patient = " {\n\ttimeout 20s\n}"
)

func plain(method, path, headers, body string) string {
	if method == "POST" {
		headers += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return method + " " + path + " HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: Cloud-Init/26.2\r\nAccept: */*\r\n" + headers + "\r\n" + body
}

// measureRequests tells how many requests of each usual kind are served by a
// guard that has both cores to share with the load, and what one costs it.
func measureRequests(t *testing.T) {
	const clients = 16
	read := func(path string) func(int) string {
		return func(int) string { return plain("GET", path, "", "") }
	}
	write := func(i int) string { // by another instance each time, as first passwords are
		id := fmt.Sprintf("%08d-2222-4222-8222-222222222222", i)
		return plain("POST", guestPath, agentHeaders(id, sign(id)), strings.Repeat("p", 344))
	}
	signed := func(i int) string {
		id := instanceOf(i % capacityInstances)
		return plain("GET", metadataPath, agentHeaders(id, sign(id)), "")
	}
	agents := neutronFrom("127.0.0.0/8")
	for _, kind := range []struct {
		name     string
		requests int
		from     func(client int) string
		request  func(i int) string
		setup    setup
	}{
		{"metadata, neutron", 10_000, nowhere, signed, setup{settings: agents}},
		{"metadata, remote_ip", 10_000, addressOf, read(metadataPath), setup{settings: knownByAddress}},
		{"metadata, GOGC=400", 10_000, addressOf, read(metadataPath), setup{settings: knownByAddress, gogc: "400"}},
		{"metadata, events go elsewhere", 10_000, addressOf, read(metadataPath), setup{settings: knownByAddress, edits: [][2]string{
			{"exclude admin.api", "exclude admin.api http.handlers.metaguard.event"},
		}}},
		{"user data, remote_ip", 10_000, addressOf, read(userdataPath), setup{settings: knownByAddress}},
		{"EC2 listing, remote_ip", 2_000, addressOf, read("/latest/meta-data/"), setup{settings: knownByAddress}},
		{"password write, file latch", 3_000, nowhere, write, setup{settings: agents, writes: true}},
		{"password write, Redis latch", 3_000, nowhere, write, setup{settings: agents + "\npassword {\nlatch redis {env.METAGUARD_REDIS_URL}\n}", writes: true, redis: "redis://"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var redis *harness.Redis
			if kind.setup.redis != "" {
				redis = harness.StartRedis(t)
				kind.setup.redis += redis.Address
			}
			kind.setup.policy = patient
			m := measure(t, kind.setup)
			before := 0.0
			if redis != nil {
				before = redisFigure(t, redis, "memory", "used_memory:")
			}
			m.forgetPeak()
			perSecond, cpu := m.drive(t, clients, kind.requests, kind.from, kind.request)
			size, count := m.logSizes(t)
			all := count["decision"]
			t.Logf("%.0f a second by %d clients; %d us of the guard's processor each; in the log %d bytes each, %d of them the event; at the peak %.0f MiB",
				perSecond, clients, cpu.Microseconds(), (size["decision"]+size["decision event"])/all, size["decision event"]/all, mib(m.usage(t).peak))
			if redis != nil {
				t.Logf("Redis was asked %.1f times for each write, and keeps %.0f bytes of it",
					redisFigure(t, redis, "commandstats", "cmdstat_evalsha:calls=")/float64(all), (redisFigure(t, redis, "memory", "used_memory:")-before)/float64(all))
			}
		})
	}
}

func nowhere(int) string { return "" }

// redisFigure gives what Redis says of itself in a line of a section of INFO.
func redisFigure(t *testing.T, redis *harness.Redis, section, line string) (figure float64) {
	t.Helper()
	conn, err := net.Dial("tcp", redis.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("INFO " + section + "\r\nQUIT\r\n"))
	for scanner := bufio.NewScanner(conn); scanner.Scan(); {
		if rest, found := strings.CutPrefix(scanner.Text(), line); found {
			_, _ = fmt.Sscanf(rest, "%g", &figure)
		}
	}
	return figure
}

// measureBoots plays what cloud-init asks when an instance boots: how many
// requests that is, what a boot costs, and what becomes of many at one time.
func measureBoots(t *testing.T) {
	m := measure(t, setup{settings: knownByAddress, files: map[string]string{
		// conformance calls from 127.0.0.1.
		"inventory.json": `[{"address": "127.0.0.1", "instance_id": "` + instanceOf(0) + `", "project_id": "` + projectA + `"}]`,
	}})
	conformance := filepath.Join(t.TempDir(), "conformance")
	if output, err := exec.Command("go", "build", "-o", conformance, "github.com/metaguard/metaguard/tests/conformance").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if output, err := exec.Command(conformance, "--target", "http://"+m.address, "--dialect", "openstack", "--client", "cloud-init").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	var boot []string
	log, err := os.ReadFile(m.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		var entry struct{ Msg, Method, Path string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "decision" {
			boot = append(boot, plain(entry.Method, entry.Path, "", ""))
		}
	}
	if len(boot) < 10 {
		t.Fatalf("cloud-init asked %d times", len(boot))
	}
	t.Logf("a boot of cloud-init is %d requests", len(boot))
	for _, instances := range []int{1, 100, 500, capacityInstances} {
		storm(t, boot, instances)
	}
}

// storm boots instances at one time, each on a connection of its own, and tells
// what was refused for want of time or room.
func storm(t *testing.T, boot []string, instances int) {
	t.Helper()
	m := measure(t, setup{settings: knownByAddress})
	for i := range 3 { // so that what is made once is made
		bootOne(t, m, i, boot, nil)
	}
	m.forgetPeak()
	before, began := m.usage(t), time.Now()
	var mu sync.Mutex
	var each, whole []time.Duration
	refused := make(map[string]int)
	var all sync.WaitGroup
	for i := range instances {
		all.Go(func() {
			began := time.Now()
			bootOne(t, m, i, boot, func(took time.Duration, answer harness.Answer) {
				mu.Lock()
				defer mu.Unlock()
				each = append(each, took)
				if answer.Status >= 500 {
					refused[reason(answer)]++
				}
			})
			mu.Lock()
			defer mu.Unlock()
			whole = append(whole, time.Since(began))
		})
	}
	all.Wait()
	took, after := time.Since(began), m.usage(t)
	t.Logf("%d boots at one time: all in %.1f s; a request took %s, %s, %s (half, 95 of 100, 99 of 100), a boot %s, %s; refused %v; %.1f ms of the guard's processor a boot; memory %.0f MiB before, %.0f at the peak",
		instances, took.Seconds(), percentile(each, .5), percentile(each, .95), percentile(each, .99), percentile(whole, .5), percentile(whole, .99), refused,
		float64((after.cpu-before.cpu).Microseconds())/1000/float64(instances), mib(before.resident), mib(after.peak))
}

func bootOne(t *testing.T, m *measured, instance int, boot []string, took func(time.Duration, harness.Answer)) {
	c, err := newCaller(addressOf(instance), m.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.conn.Close()
	for _, request := range boot {
		began := time.Now()
		answer := c.ask(request)
		if answer.Err != nil {
			t.Errorf("instance %d: %v", instance, answer.Err)
			return
		}
		if took != nil {
			took(time.Since(began), answer)
		}
	}
}

// measureConnections tells what a connection takes that was used once and stays.
func measureConnections(t *testing.T) {
	const idle = 2000
	m := measure(t, setup{settings: knownByAddress, policy: patient})
	ask := plain("GET", metadataPath, "", "")
	m.drive(t, 16, 2000, addressOf, func(int) string { return ask })
	before, live := m.usage(t), m.live(t)
	for i := range idle {
		c, err := newCaller(addressOf(i%capacityInstances), m.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		if answer := c.ask(ask); answer.Status != 200 {
			t.Fatal(answer.Status, answer.Err)
		}
	}
	grown := m.live(t) - live
	after := m.usage(t)
	t.Logf("%d connections: %d descriptors more, %.1f KiB of heap each, resident memory %.0f MiB, before %.0f",
		idle, after.files-before.files, float64(grown)/idle/1024, mib(after.resident), mib(before.resident))
}

// measureData tells what grants and inventory entries take.
func measureData(t *testing.T) {
	control := newControl(t)
	for _, n := range []int{0, 100_000, 1_000_000} {
		var text, inventory strings.Builder
		for i := range n {
			fmt.Fprintf(&text, `,%q: ["password:read"]`, fmt.Sprintf("%08d-3333-4333-8333-333333333333", i))
			fmt.Fprintf(&inventory, `,{"address": "10.%d.%d.%d", "instance_id": %q, "project_id": %q}`, i>>16&255, i>>8&255, i&255, fmt.Sprintf("%08d-3333-4333-8333-333333333333", i), projectA)
		}
		grants := `{"metaguard": {"grants": {"instance_id": {` + strings.TrimPrefix(text.String(), ",") + `}}}}`
		publish := func(revision string) {
			control.putFiles(t, revision, map[string]string{".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/grants"]}`, revision), "data.json": grants})
		}
		publish(fmt.Sprint(n))
		for _, kind := range []struct {
			name, settings string
			files          map[string]string
			again          func(m *managed) // loads another such policy; nil where there is none
		}{
			{"grants", byAddress, map[string]string{"policy/data.json": grants}, func(m *managed) {
				m.edit(t, "policy/data.json", `{"metaguard"`, `{"another": true, "metaguard"`)
			}},
			{"grants in a bundle", byBundle, map[string]string{"opa.yaml": control.opa("")}, func(*managed) {
				grants = strings.Replace(grants, "password:read", "password:write", 1)
				publish(fmt.Sprint(n, " again"))
			}},
			{"inventory entries", byAddress, map[string]string{"inventory.json": "[" + strings.TrimPrefix(inventory.String(), ",") + "]"}, nil},
		} {
			began := time.Now()
			m := prepareManaged(t, kind.settings, kind.files)
			m.Run(m.address)
			took := time.Since(began)
			guard := &measured{managed: m}
			loaded := guard.usage(t)
			live := guard.live(t)
			t.Logf("%d %s: started in %.1f s, %.0f MiB of heap, resident %.0f MiB, %.0f at the peak", n, kind.name, took.Seconds(), mib(live), mib(guard.usage(t).resident), mib(loaded.peak))
			if kind.again != nil {
				loads := func() float64 {
					for labels, loads := range m.admin.Metrics(t, "caddy_metaguard_policy_loads_total") {
						if strings.Contains(labels, `"ok"`) {
							return loads
						}
					}
					return 0
				}
				before := loads()
				guard.forgetPeak()
				began := time.Now()
				kind.again(m)
				m.Eventually("the edit is live", func() bool { return loads() > before })
				t.Logf("another such policy was loaded beside it in %.1f s: %.0f MiB at the peak", time.Since(began).Seconds(), mib(guard.usage(t).peak))
			}
			m.Stop()
		}
	}
}
