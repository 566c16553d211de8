// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// `validate` says what is wrong with a policy, opens no socket and writes
// nothing (I8).
func TestValidateStartsNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, team, want string
		fails            bool
	}{
		{"good", denyNothing, "Valid configuration", false},
		{"broken", brokenPolicy, "team.rego:4", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := prepareManaged(t, byAddress, map[string]string{"policy/team.rego": test.team})
			// Whoever would listen here, fails.
			taken, err := net.Listen("tcp", m.address)
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			socket := strings.TrimPrefix(m.admin.Address, "unix/")
			before := tree(t, m.Data, m.Dir, filepath.Dir(socket))
			output, err := m.Command("validate", "--config", filepath.Join(m.Dir, "Caddyfile"))
			if (err != nil) != test.fails || !strings.Contains(output, test.want) {
				t.Errorf("%v, want %q in\n%s", err, test.want, output)
			}
			if after := tree(t, m.Data, m.Dir, filepath.Dir(socket)); !slices.Equal(before, after) {
				t.Errorf("validating left behind\n%s\nthere was\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			if requests := m.upstream.Requests(); len(requests) != 0 {
				t.Errorf("the server saw %q", requests)
			}
		})
	}
}

// tree lists all that lies in folders.
func tree(t *testing.T, folders ...string) []string {
	t.Helper()
	var names []string
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
			if err == nil {
				names = append(names, entry.Type().String()+" "+name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// What cannot work fails the start with one clear error, without a secret.
func TestStartFailsClearly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, settings string
		files          map[string]string
		want           []string
	}{
		{"broken policy", byAddress, map[string]string{"policy/team.rego": brokenPolicy}, []string{"team.rego:4"}},
		{"policy that is not there", "identify remote_ip inventory.json\npolicy nowhere", nil, []string{"nowhere", "no such file"}},
		{"inventory that is not there", "identify remote_ip nowhere.json", nil, []string{"nowhere.json", "no such file"}},
		{"broken inventory", byAddress, map[string]string{"inventory.json": "[\n{\"address\": \"10.0.0.1\", \"instance\": \"x\"}]"}, []string{"inventory.json"}},
		{"unset secret", "identify neutron {\nsecret {env.METAGUARD_UNSET}\n}", nil, []string{"{env.METAGUARD_UNSET}"}},
		{"empty secret", "identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET} {env.METAGUARD_EMPTY}\n}", nil, []string{"{env.METAGUARD_EMPTY}", "empty"}},
		{"secret file that is not there", "identify neutron {\nsecret {file./nowhere/secret}\n}", nil, []string{"{file./nowhere/secret}"}},
		{"empty secret to assert with", byAddress + "\nassert neutron {env.METAGUARD_EMPTY}", nil, []string{"{env.METAGUARD_EMPTY}", "assert neutron"}},
		{"empty fingerprint key", byAddress + "\npassword {\nfingerprint_key {env.METAGUARD_EMPTY}\n}", nil, []string{"{env.METAGUARD_EMPTY}", "fingerprint_key"}},
		{"bad fingerprint key", byAddress + "\npassword {\nfingerprint_key {env.METAGUARD_NEUTRON_SECRET}\n}", nil, []string{"{env.METAGUARD_NEUTRON_SECRET}", "fingerprint_key"}},
		{"write_once shorter than Nova's cache", byAddress + "\npassword {\nwrite_once 10s\n}", nil, []string{"write_once", "15s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := prepareSite(t, test.settings, test.files)
			s.Setenv("METAGUARD_EMPTY", "")
			output := s.fails(t)
			lines := strings.Split(strings.TrimSpace(output), "\n")
			last := lines[len(lines)-1]
			for _, want := range test.want {
				if !strings.Contains(last, want) {
					t.Errorf("no %q in the last line %q", want, last)
				}
			}
			if count := strings.Count(output, `"level":"error"`) - strings.Count(output, "placeholder: failed to read file"); count != 1 {
				t.Errorf("%d errors of ours in\n%s", count, output)
			}
			if strings.Contains(output, secret) {
				t.Errorf("a secret is in\n%s", output)
			}
		})
	}
}

// So it is where the log is written in batches, which nobody has waited for by then.
func TestStartFailsClearlyInABufferedLog(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, "identify remote_ip nowhere.json", nil)
	s.edit(t, "Caddyfile", "level DEBUG", "output metaguard_buffered")
	for _, command := range []string{"run", "validate"} {
		output, err := s.Command(command, "--config", filepath.Join(s.Dir, "Caddyfile"))
		lines := strings.Split(strings.TrimSpace(output), "\n")
		if last := lines[len(lines)-1]; err == nil || !strings.Contains(last, "nowhere.json") {
			t.Errorf("%s: %v, and the last line is %q", command, err, last)
		}
	}
}

// reload runs `metaguard reload`.
func (m *managed) reload(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	arguments = append([]string{"reload", "--config", filepath.Join(m.Dir, "Caddyfile"), "--address", m.admin.Address}, arguments...)
	return m.Command(arguments...)
}

// ask is get for the time after a reload: a connection that the old listener's
// queue took is reset by the kernel, and the client asks again.
func (m *managed) ask(t *testing.T, path string) (answer harness.Answer) {
	t.Helper()
	m.Eventually(path+" is answered", func() bool {
		answer = m.get(t, path)
		return answer.Err == nil
	})
	return answer
}

// A reload that fails leaves the running configuration in force; one without
// an edit does nothing; one with an edited policy is a real one.
func TestReload(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress, map[string]string{"policy/team.rego": denyMetadata})
	caddyfile, err := os.ReadFile(filepath.Join(m.Dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ file, content, want string }{
		"broken policy":         {"policy/team.rego", brokenPolicy, "team.rego:4"},
		"unknown setting":       {"Caddyfile", strings.Replace(string(caddyfile), "dialect", "dialekt", 1), "Caddyfile:"},
		"no Caddyfile":          {"Caddyfile", "{", "Caddyfile:"},
		"inventory gone":        {"Caddyfile", strings.Replace(string(caddyfile), "inventory.json", "nowhere.json", 1), "nowhere.json"},
		"secret that is unset":  {"Caddyfile", strings.Replace(string(caddyfile), "dialect", "assert neutron {env.METAGUARD_UNSET}\ndialect", 1), "{env.METAGUARD_UNSET}"},
		"write_once too short":  {"Caddyfile", strings.Replace(string(caddyfile), "dialect", "password {\nwrite_once 1s\n}\ndialect", 1), "write_once"},
		"two dialects are none": {"Caddyfile", strings.Replace(string(caddyfile), "dialect", "dialect openstack\ndialect", 1), "twice"},
	} {
		m.Write(test.file, test.content)
		if output, err := m.reload(t, "--force"); err == nil || !strings.Contains(output, test.want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, test.want, output)
		}
		if answer := m.get(t, metadataPath); answer.Status != 403 {
			t.Errorf("%s: the running configuration answers %d", name, answer.Status)
		}
		m.Write("policy/team.rego", denyMetadata)
		m.Write("Caddyfile", string(caddyfile))
	}

	const unchanged = "config is unchanged"
	count := strings.Count(m.Log(), unchanged)
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	m.Eventually("a reload without an edit does nothing", func() bool { return strings.Count(m.Log(), unchanged) == count+1 })

	m.Write("policy/team.rego", denyNothing)
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if answer := m.ask(t, metadataPath); answer.Status != 200 { // at once, not at the watcher's next look
		t.Errorf("after a reload with an edited policy: %d %q", answer.Status, answer.Body)
	}
	inventory2 := strings.Replace(inventory, "127.0.0.1", "127.0.0.3", 1)
	m.Write("inventory.json", inventory2)
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if answer := m.ask(t, metadataPath); answer.Status != 401 {
		t.Errorf("after a reload with an edited inventory: %d %q", answer.Status, answer.Body)
	}
	if got := strings.Count(m.Log(), unchanged); got != count+1 {
		t.Errorf("%d reloads changed nothing, want 1", got-count)
	}
}

// No request is lost or judged otherwise while a configuration is loaded
// twenty times (I6).
func TestReloadsUnderTraffic(t *testing.T) {
	t.Parallel()
	// The timeout is not what is tested, and the machine has much to do.
	m := newManaged(t, "identify remote_ip inventory.json\npolicy policy {\n\ttimeout 5s\n}", nil)
	m.upstream.Script(func(request string) string { return harness.OK(strings.Fields(request)[1]) })
	config := m.adapted(t)
	var stop atomic.Bool
	var wait sync.WaitGroup
	clients := make([]*client, 4)
	for i := range clients {
		clients[i] = &client{name: fmt.Sprint("client-", i), address: m.address, transport: new(http.Transport)}
		wait.Go(func() {
			for !stop.Load() {
				clients[i].ask()
			}
			clients[i].transport.CloseIdleConnections()
		})
	}
	for n := range 20 {
		if err := m.admin.Load(config); err != nil {
			t.Errorf("reload %d: %v", n, err)
		}
		for _, client := range clients {
			m.Eventually("every client was served meanwhile", func() bool { return client.served.Load() > int64(10*n) })
		}
	}
	stop.Store(true)
	wait.Wait()
	served, log := int64(0), m.Log()
	for _, client := range clients {
		served += client.served.Load()
		for _, problem := range client.wrong {
			t.Error(problem)
		}
		for _, path := range client.lost {
			// What waited in the old listener's queue is the kernel's, and was never
			// read. What was read must be answered.
			if strings.Contains(log, `"path":"`+path+`"`) {
				t.Errorf("%s was judged and not answered", path)
			}
		}
	}
	if served < 4*190 {
		t.Errorf("%d requests only", served)
	}
}

// client asks again and again on a connection that it keeps.
type client struct {
	name, address string
	transport     *http.Transport
	served        atomic.Int64
	asked         int
	wrong, lost   []string
}

// ask sends a request that is allowed and one that is not, each by a path of
// its own.
func (c *client) ask() {
	c.asked++
	for path, want := range map[string]int{
		fmt.Sprintf("/openstack/content/%s-%d", c.name, c.asked): http.StatusOK,
		fmt.Sprintf("/secret/%s-%d", c.name, c.asked):            http.StatusNotFound,
	} {
		request, _ := http.NewRequest(http.MethodGet, "http://"+c.address+path, http.NoBody)
		response, err := c.transport.RoundTrip(request)
		if err != nil {
			c.lost = append(c.lost, path)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != want || (want == http.StatusOK && string(body) != path) {
			c.wrong = append(c.wrong, fmt.Sprintf("%s: %d %q %v", path, response.StatusCode, body, err))
		}
		c.served.Add(1)
	}
}

// slowSite is a site whose server answers when it is told to; one request
// waits for it.
func slowSite(t *testing.T) (m *managed, answer chan struct{}, got chan harness.Answer) {
	t.Helper()
	m = newManaged(t, byAddress, nil)
	asked := make(chan struct{}, 1)
	answer, got = make(chan struct{}), make(chan harness.Answer, 1)
	m.upstream.Script(func(request string) string {
		if strings.Contains(request, "/user_data ") {
			asked <- struct{}{}
			<-answer
		}
		return harness.OK("slow")
	})
	go func() {
		got <- harness.Raw(t, m.address, "GET /openstack/latest/user_data HTTP/1.1\r\nHost: m\r\n\r\n")
	}()
	<-asked
	return m, answer, got
}

// A request on its way is answered and published by what judged it, whatever
// is loaded meanwhile.
func TestRequestSurvivesReload(t *testing.T) {
	t.Parallel()
	m, answer, got := slowSite(t)
	m.Write("policy/team.rego", "package metaguard.team\n\ndeny contains \"all\" if input.version == 1\n")
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if other := m.ask(t, "/openstack"); other.Status != 403 {
		t.Errorf("the new policy is not in force: %d", other.Status)
	}
	close(answer)
	if slow := <-got; slow.Status != 200 || slow.Body != "slow" {
		t.Errorf("the slow request: %d %q %v", slow.Status, slow.Body, slow.Err)
	}
	lines := m.decisions(t, 2)
	if line := lines[1]; len(lines) != 2 || line["verdict"] != "allow" || line["outcome"] != "forwarded" || line["path"] != "/openstack/latest/user_data" {
		t.Errorf("%v", lines)
	}
}

// SIGTERM takes no new requests and lets those on their way finish.
func TestRequestSurvivesStop(t *testing.T) {
	t.Parallel()
	m, answer, got := slowSite(t)
	m.Signal(syscall.SIGTERM)
	m.Eventually("no new connection is taken", func() bool {
		conn, err := net.Dial("tcp", m.address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if m.Ended() {
		t.Fatalf("the process did not wait:\n%s", m.Log())
	}
	close(answer)
	if slow := <-got; slow.Status != 200 || slow.Body != "slow" {
		t.Errorf("the slow request: %d %q %v", slow.Status, slow.Body, slow.Err)
	}
	m.Eventually("the process ends", m.Ended)
	if lines := m.decisions(t, 1); len(lines) != 1 || lines[0]["outcome"] != "forwarded" {
		t.Errorf("%v", lines)
	}
}

// Nothing is left behind by a reload.
func TestReloadsLeaveNoGoroutine(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress+"\nassert neutron {env.METAGUARD_NEUTRON_SECRET}", nil)
	config := m.adapted(t)
	goroutines := func() (count int) {
		profile := m.admin.Get(t, "/debug/pprof/goroutine?debug=1")
		if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &count); err != nil {
			t.Fatalf("%v in %s", err, profile)
		}
		return count
	}
	load := func(times int) {
		for n := range times {
			// Each with a timeout of its own, so that an engine comes and goes.
			config := strings.Replace(config, `"policy":{`, fmt.Sprintf(`"policy":{"timeout":%d,`, (100+n)*int(time.Millisecond)), 1)
			if err := m.admin.Load(config); err != nil {
				t.Fatal(err)
			}
			if answer := m.ask(t, "/openstack/latest/user_data"); answer.Status != 200 {
				t.Fatalf("%d %q", answer.Status, answer.Body)
			}
		}
	}
	load(5)
	least := 1 << 30 // what lingers for a moment ends within this time
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		least = min(least, goroutines())
	}
	load(50)
	m.Eventually("as few goroutines as before 50 reloads", func() bool { return goroutines() <= least+3 })
}
