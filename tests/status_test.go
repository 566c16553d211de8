// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// statusOf is a part of what GET /metaguard/status answers.
type statusOf struct {
	Ready    bool
	Problems []struct{ What, Site, Detail string }
	Sites    []struct {
		Name, Dialect, Mode string
		Ready               bool
		Upstreams           []struct {
			Address, Error string
			Answers        bool
		}
		Policy struct {
			Name, Revision string
			LastError      string `json:"last_error"`
		}
		Latch  struct{ Kind string }
		Memory struct{ Peak, Max int64 }
	}
	Counters struct {
		Requests, Refusals map[string]uint64
		InFlight           int64 `json:"in_flight"`
	}
}

func (m *managed) status(t *testing.T) statusOf {
	t.Helper()
	var status statusOf
	if err := json.Unmarshal([]byte(m.admin.Get(t, "/metaguard/status")), &status); err != nil {
		t.Fatal(err)
	}
	return status
}

// newWatched is newManaged, once the configuration is in force: a site listens a
// moment before that.
func newWatched(t *testing.T, settings string, files map[string]string) *managed {
	t.Helper()
	m := prepareManaged(t, settings, files)
	m.watch(t)
	return m
}

// watch runs the process and waits until its configuration is in force.
func (m *managed) watch(t *testing.T) {
	t.Helper()
	m.Run(m.address)
	m.Eventually("the configuration is in force", func() bool {
		_, text := m.admin.Ask(t, http.MethodGet, "/metaguard/health", "")
		return strings.Contains(text, `"site":`)
	})
}

// problems are the words for what is wrong, in their order.
func (s *statusOf) problems() string {
	var words []string
	for _, problem := range s.Problems {
		words = append(words, problem.What)
	}
	return strings.Join(words, " ")
}

// The status shows what is there, what was counted and what is wrong, the worst
// first; health and the command say the same.
func TestStatus(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, nil)
	m.ask(t, userdataPath)
	m.get(t, "/a/../b")
	status := m.status(t)
	if !status.Ready || len(status.Problems) != 0 || len(status.Sites) != 1 {
		t.Fatalf("%+v", status)
	}
	site := status.Sites[0]
	if site.Dialect != "openstack" || site.Mode != "enforce" || !site.Ready || site.Policy.Revision == "" || site.Latch.Kind != "file" ||
		len(site.Upstreams) != 1 || !site.Upstreams[0].Answers || site.Upstreams[0].Address != m.upstream.Address ||
		site.Memory.Peak == 0 || !strings.Contains(site.Name, m.address) {
		t.Errorf("%+v", site)
	}
	if status.Counters.Requests["allow"] != 1 || status.Counters.Requests["deny"] != 1 || status.Counters.Refusals["request_ambiguous"] != 1 || status.Counters.InFlight != 0 {
		t.Errorf("%+v", status.Counters)
	}
	if output, err := m.Command("status", "--address", m.admin.Address); err != nil || !strings.HasPrefix(output, "ok ") || !strings.Contains(output, site.Name) {
		t.Errorf("%v\n%s", err, output)
	}

	// An edit that breaks is shown until it is mended; requests go on.
	m.Write("policy/team.rego", brokenPolicy)
	m.Write("inventory.json", "[")
	m.Eventually("what is stale is shown", func() bool {
		status = m.status(t)
		return status.problems() == "policy_stale inventory_stale"
	})
	if !status.Ready || !strings.Contains(status.Problems[0].Detail, "team.rego:4") || status.Problems[0].Site != site.Name {
		t.Errorf("%+v", status.Problems)
	}
	if code, _ := m.admin.Ask(t, http.MethodGet, "/metaguard/health", ""); code != 200 {
		t.Errorf("health is %d", code)
	}
	output, err := m.Command("status", "--config", filepath.Join(m.Dir, "Caddyfile"))
	if exitCode(err) != 1 || !strings.Contains(output, "\nPROBLEM   policy_stale") {
		t.Errorf("%v\n%s", err, output)
	}
}

// A server that is gone and a site in audit mode are problems.
func TestStatusWithoutAServer(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress+"\nmode audit", nil)
	gone := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	m.edit(t, "Caddyfile", "upstream "+m.upstream.Address, "upstream {env.METAGUARD_TEST_UPSTREAM}")
	m.Setenv("METAGUARD_TEST_UPSTREAM", gone)
	m.watch(t)
	status := m.status(t)
	if status.Ready || status.problems() != "upstream_unreachable audit_mode" || !strings.Contains(status.Problems[0].Detail, "connection refused") {
		t.Fatalf("%+v", status)
	}
	if text := m.admin.Get(t, "/metaguard/status"); strings.Contains(text, gone) {
		t.Errorf("a placeholder's value is in %s", text)
	}
	for path, want := range map[string]string{
		"/metaguard/health":       `"reasons":["upstream_unreachable"]`,
		"/metaguard/health/ready": `"ready":false`,
	} {
		if code, text := m.admin.Ask(t, http.MethodGet, path, ""); code != 503 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, text := m.admin.Ask(t, http.MethodGet, "/metaguard/health/live", ""); code != 200 || !strings.Contains(text, `"live":true`) {
		t.Errorf("%d %s", code, text)
	}
	output, err := m.Command("status", "--address", m.admin.Address)
	if exitCode(err) != 1 || !strings.Contains(output, "DOES NOT ANSWER: connection refused") {
		t.Errorf("%v\n%s", err, output)
	}
	if output, err := m.Command("status", "--address", m.admin.Address, "--json"); exitCode(err) != 1 || !strings.HasPrefix(output, `{"version":`) {
		t.Errorf("%v\n%s", err, output)
	}
	for _, address := range []string{"unix//nowhere/admin.sock", "127.0.0.1:2019"} {
		if output, err := m.Command("status", "--address", address); exitCode(err) != 2 {
			t.Errorf("%s: %v\n%s", address, err, output)
		}
	}
	// As soon as it is there, the site is ready.
	harness.NewUpstreamAt(t, gone, func(string) string { return harness.OK("back") })
	m.Eventually("the server is seen", func() bool {
		code, _ := m.admin.Ask(t, http.MethodGet, "/metaguard/health", "")
		return code == 200
	})
}

// adminEndpoints are all, with a method and a body that they take.
var adminEndpoints = []struct {
	method, path, body string
	open               bool // it answers whoever reaches the admin API
}{
	{http.MethodGet, "/metaguard/health", "", true},
	{http.MethodGet, "/metaguard/health/live", "", true},
	{http.MethodGet, "/metaguard/health/ready", "", true},
	{http.MethodGet, "/metaguard/status", "", false},
	{http.MethodGet, "/metaguard/policies", "", false},
	{http.MethodGet, "/metaguard/decisions", "", false},
	{http.MethodPost, "/metaguard/check", `{"address": "127.0.0.1", "path": "/openstack"}`, false},
	{http.MethodPost, "/metaguard/policy/reload", "", false},
}

// Every endpoint has its methods, and on TCP only those answer that show nothing.
func TestAdminEndpoints(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, nil)
	port := harness.FreePort(t)
	onTCP := adminSite(t, fmt.Sprintf("127.0.0.1:%d", port), nil)
	for _, endpoint := range adminEndpoints {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			want := 405
			if method == endpoint.method {
				want = 200
			}
			if code, text := m.admin.Ask(t, method, endpoint.path, endpoint.body); code != want {
				t.Errorf("%s %s: %d %s, want %d", method, endpoint.path, code, text, want)
			}
		}
		want := 403
		if endpoint.open {
			want = 200
		}
		onTCP.Eventually(fmt.Sprintf("%s is %d on TCP", endpoint.path, want), func() bool { // once it is in force
			return askTCP(t, port, endpoint.method, endpoint.path, endpoint.body) == want
		})
	}
	if answer := onTCP.get(t, userdataPath); answer.Status != 200 {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

// askTCP asks an admin API on a TCP port, and gives the status.
func askTCP(t *testing.T, port int, method, path, body string) int {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	request, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: harness.DialTransport("tcp", address)}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// A reload on request says at once what came of it.
func TestPolicyReloadOnRequest(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, map[string]string{"policy/team.rego": denyNothing})
	reload := func(query string) (int, string) {
		t.Helper()
		return m.admin.Ask(t, http.MethodPost, "/metaguard/policy/reload"+query, "")
	}
	name := m.status(t).Sites[0].Policy.Name
	if code, text := reload(""); code != 200 || !strings.Contains(text, `"changed":false`) {
		t.Errorf("%d %s", code, text)
	}
	m.Write("policy/team.rego", brokenPolicy)
	if code, text := reload("?name=" + name); code != 422 || !strings.Contains(text, "team.rego:4") || !strings.Contains(text, `"changed":false`) {
		t.Errorf("%d %s", code, text)
	}
	if answer := m.get(t, metadataPath); answer.Status != 200 {
		t.Errorf("the last good policy: %d %s", answer.Status, answer.Body)
	}
	m.Write("policy/team.rego", denyMetadata)
	if code, text := reload(""); code != 200 || strings.Contains(text, `"error"`) {
		t.Errorf("%d %s", code, text)
	}
	if answer := m.get(t, metadataPath); answer.Status != 403 {
		t.Errorf("right after the reload: %d %s", answer.Status, answer.Body)
	}
	for query, want := range map[string]int{"?name=nothing": 404, "?names=x": 400, "?name=a&name=b": 400} {
		if code, text := reload(query); code != want {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
	if code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/policy/reload", "{}"); code != 400 {
		t.Errorf("with a body: %d %s", code, text)
	}
}

// Who watches while requests and reloads go on disturbs nobody. The race detector
// looks on where the binary has it.
func TestWatchingUnderLoad(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, nil)
	config := m.adapted(t)
	stop := make(chan struct{})
	var all sync.WaitGroup
	again := func(what func()) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					what()
				}
			}
		})
	}
	again(func() { m.get(t, userdataPath) })
	again(func() { m.get(t, "/metaguard/probe") })
	for _, endpoint := range adminEndpoints {
		again(func() {
			// A reload replaces the admin API's server; a question may meet none.
			if conn, err := net.Dial("unix", strings.TrimPrefix(m.admin.Address, "unix/")); err == nil {
				_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", endpoint.method, endpoint.path, len(endpoint.body), endpoint.body)
				_, _ = conn.Read(make([]byte, 1<<16))
				_ = conn.Close()
			}
		})
	}
	for i := range 5 {
		m.Write("policy/data.json", fmt.Sprintf(`{"round": %d}`, i))
		if err := m.admin.Load(config); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
	if _, err := os.Stat(strings.TrimPrefix(m.admin.Address, "unix/")); err != nil {
		t.Error(err)
	}
	m.Eventually("nothing is in flight", func() bool { return m.status(t).Counters.InFlight == 0 })
}

// The status tells of what only some sites have: keys, tokens that were asked about,
// callers whose limits are remembered, a policy on trial.
func TestStatusOfSources(t *testing.T) {
	t.Parallel()
	tokens := newIssuer(t)
	m := newWatched(t, `identify keystone {
			url `+tokens.keystone+`/v3
			target request inventory.json
		}
		identify jwt {
			issuer https://issuer.example
			audience metaguard
			jwks keys.json
			target claim vm project
		}
		limit {
			requests 100/s
			refusals 100/s
		}
		identify remote_ip inventory.json
		policy policy {
			timeout 30s
			candidate candidate
		}`, map[string]string{"keys.json": tokens.keys, "candidate/team.rego": denyMetadata})
	m.asks(t, userdataPath, "X-Auth-Token: "+keystoneToken+"\r\n")
	m.asks(t, userdataPath, "X-Auth-Token: nobody-knows-me\r\n")
	m.get(t, userdataPath)
	var status struct {
		Sites []struct {
			Identities []struct {
				Source     string
				Keys       *struct{ Keys int }
				Remembered *struct{ Taken, Refused, Max int }
			}
			Candidate *struct{ Revision string }
			CheckedAt string `json:"checked_at"`
			Limited   int
		}
	}
	m.Eventually("everything is told", func() bool {
		text := m.admin.Get(t, "/metaguard/status")
		if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Sites) != 1 || len(status.Sites[0].Identities) != 3 {
			t.Fatalf("%s %v", text, err)
		}
		site := status.Sites[0]
		keystone, keys := site.Identities[0], site.Identities[1]
		return keystone.Remembered != nil && keystone.Remembered.Taken == 1 && keystone.Remembered.Refused == 1 && keystone.Remembered.Max > 1 &&
			keys.Keys != nil && keys.Keys.Keys == 1 && site.Candidate != nil && site.Candidate.Revision != "" && site.CheckedAt != "" && site.Limited > 0
	})
	name := m.status(t).Sites[0].Policy.Name
	if code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/policy/reload?name="+name, ""); code != 200 || strings.Count(text, `"name":`) != 1 || !strings.Contains(text, name) {
		t.Errorf("one of two policies: %d %s", code, text)
	}
	response, err := (&http.Client{Transport: harness.DialTransport("unix", strings.TrimPrefix(m.admin.Address, "unix/"))}).Get("http://localhost/metaguard/status")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", response.Header)
	}
}
