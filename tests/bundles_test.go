// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// control is the server of a security team: bundles out, decision events in.
type control struct {
	*httptest.Server
	mu     sync.Mutex
	bundle []byte
	etag   string
	down   bool
	events []map[string]any
	asked  int
}

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *control) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	switch {
	case c.down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case strings.HasPrefix(r.URL.Path, "/logs"):
		var events []map[string]any
		unzipped, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(unzipped).Decode(&events)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.events = append(c.events, events...)
	case !strings.HasSuffix(r.URL.Path, "/team.tar.gz"):
		http.NotFound(w, r)
	case r.Header.Get("If-None-Match") == c.etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		w.Header().Set("ETag", c.etag)
		_, _ = w.Write(c.bundle)
	}
}

// put publishes a bundle that denies one kind.
func (c *control) put(t *testing.T, revision, kind string) {
	t.Helper()
	c.putFiles(t, revision, map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/team"]}`, revision),
		"team.rego": fmt.Sprintf("package metaguard.team\n\ndeny contains \"no_%s\" if input.resource.kind == %q\n", kind, kind),
	})
}

func (c *control) putFiles(t *testing.T, etag string, files map[string]string) {
	t.Helper()
	c.publish(etag, bundleOf(t, files))
}

// publish serves a bundle from now on.
func (c *control) publish(etag string, bundle []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundle, c.etag = bundle, `"`+etag+`"`
}

// bundleOf packs files as they are.
func bundleOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for name, content := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *control) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *control) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *control) received() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]map[string]any(nil), c.events...)
}

// opa is a configuration of OPA with this server.
func (c *control) opa(more string) string {
	return fmt.Sprintf(`services:
  team:
    url: %s
    response_header_timeout_seconds: 2
bundles:
  team:
    service: team
    resource: team.tar.gz
    persist: true
    polling: {min_delay_seconds: 0, max_delay_seconds: 0}
%s`, c.URL, more)
}

const byBundle = "identify remote_ip inventory.json\npolicy policy {\n\topa opa.yaml\n\tready_timeout 30s\n\ttimeout 5s\n}"

const userdataPath = "/openstack/latest/user_data"

// A team's bundle decides, its next revision is live, and a broken one keeps
// the last good one.
func TestBundleSite(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "r1", "userdata")
	s := newManaged(t, byBundle, map[string]string{"opa.yaml": c.opa("")})
	s.settles(t, userdataPath, 403)
	s.settles(t, metadataPath, 200)
	line := s.decisions(t, 2)[0]
	if line["revision"] == "" || !strings.HasPrefix(line["revision"].(string), "team@r1 files@") || fmt.Sprint(line["rules"]) != "[bundle:team/team.rego:3]" || fmt.Sprint(line["codes"]) != "[no_userdata]" {
		t.Errorf("%v", line)
	}
	c.put(t, "r2", "metadata")
	s.settles(t, metadataPath, 403)
	s.settles(t, userdataPath, 200)
	c.putFiles(t, "r3", map[string]string{"team.rego": "package metaguard.team\n\ndeny contains \"all\" if true\n"})
	s.Eventually("the refusal is logged", func() bool {
		return strings.Contains(s.Log(), "the bundle declares no roots, so that it would erase the built-in policy")
	})
	s.Eventually("the policy is stale", func() bool { return s.stale(t) })
	s.settles(t, metadataPath, 403)
	c.put(t, "r4", "userdata")
	s.settles(t, metadataPath, 200)
	s.Eventually("nothing is stale", func() bool { return !s.stale(t) })
	if !strings.Contains(s.admin.Get(t, "/metrics"), `caddy_metaguard_bundle_activated_timestamp_seconds{bundle="team"`) {
		t.Error("no metric tells when the bundle was activated")
	}
	if code, text := s.admin.Ask(t, http.MethodPost, "/metaguard/policy/reload", ""); code != 200 || !strings.Contains(text, `"bundles":"not asked for`) {
		t.Errorf("a reload on request: %d %s", code, text)
	}
}

// stale tells whether the newest edit of any policy is broken.
func (m *managed) stale(t *testing.T) (stale bool) {
	t.Helper()
	for _, value := range m.admin.Metrics(t, staleEngine) {
		stale = stale || value == 1
	}
	return stale
}

// Without its bundle a site refuses everything, and answers when it comes. A
// reload to a configuration whose bundle does not come is refused. What was
// persisted decides at the next start, whether or not the server is there.
func TestBundleServerAway(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.setDown(true)
	s := prepareManaged(t, strings.ReplaceAll(byBundle, "30s", "2s"), map[string]string{"opa.yaml": c.opa(""), "other.yaml": strings.ReplaceAll(c.opa(""), "team.tar.gz", "nothing.tar.gz")})
	s.Run(s.address)
	if answer := s.get(t, metadataPath); answer.Status != 503 || reason(answer) != "policy_not_ready" {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	c.put(t, "r1", "userdata")
	c.setDown(false)
	s.settles(t, metadataPath, 200)
	s.settles(t, userdataPath, 403)
	s.edit(t, "Caddyfile", "opa opa.yaml", "opa other.yaml")
	if output, err := s.reload(t); err == nil || !strings.Contains(output, "no policy has come from elsewhere yet") {
		t.Errorf("the reload: %v %s", err, output)
	}
	s.settles(t, userdataPath, 403)
	s.edit(t, "Caddyfile", "opa other.yaml", "opa opa.yaml")
	c.setDown(true)
	s.Stop()
	s.Run(s.address)
	s.settles(t, userdataPath, 403)
	s.settles(t, metadataPath, 200)
}

// Events reach the service, masked, and the log beside it; nothing of a
// password is in them.
func TestEventsOfSite(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "r1", "userdata")
	s := newManaged(t, byBundle, map[string]string{
		"opa.yaml":        c.opa("decision_logs:\n  service: team\n  reporting: {min_delay_seconds: 0, max_delay_seconds: 0}\n"),
		"policy/log.rego": "package system.log\n\nmask contains \"/input/caller/project_id\"\n",
	})
	const password = "planted-pA55word-of-an-instance"
	s.settles(t, userdataPath, 403)
	if answer := s.post(t, "127.0.0.1", password); answer.Status != 200 {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	s.Eventually("both events arrive", func() bool { return len(c.received()) >= 2 })
	for _, event := range c.received() {
		text, err := json.Marshal(event)
		if err != nil || strings.Contains(string(text), projectA+`","roles`) || event["decision_id"] == "" || event["input"] == nil || event["result"] == nil {
			t.Errorf("%v %s", err, text)
		}
	}
	if logged := s.events(t, 2); logged[0]["bundles"] == nil || fmt.Sprint(logged[0]["erased"]) != "[/input/caller/project_id]" {
		t.Errorf("%v", logged[0])
	}
	all, _ := json.Marshal(c.received())
	if strings.Contains(s.Log()+string(all), password) {
		t.Error("a password is in an event or the log")
	}
}

// events gives the decision events in the log, once there are n of them.
func (s *site) events(t *testing.T, n int) []map[string]any {
	t.Helper()
	var lines []map[string]any
	s.Eventually(fmt.Sprintf("%d decision events", n), func() bool {
		lines = nil
		for line := range strings.Lines(s.Log()) {
			var entry map[string]any
			if strings.Contains(line, `"decision event"`) && json.Unmarshal([]byte(line), &entry) == nil {
				lines = append(lines, entry)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// Where a decision must be on record, a full buffer refuses, and nothing goes to
// the legacy server.
func TestLogFullRefuses(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.setDown(true)
	s := newManaged(t, strings.ReplaceAll(byBundle, "opa opa.yaml", "opa opa.yaml\n\tlog_full refuse"), map[string]string{
		"opa.yaml": "services: {team: {url: '" + c.URL + "'}}\ndecision_logs: {service: team, reporting: {buffer_size_limit_events: 20, min_delay_seconds: 600, max_delay_seconds: 600}}\n",
	})
	s.Eventually("a request is refused", func() bool {
		before := len(s.upstream.Requests())
		answer := s.get(t, metadataPath)
		return answer.Status == 503 && reason(answer) == "log_full" && len(s.upstream.Requests()) == before
	})
	s.Eventually("the refusal is logged", func() bool {
		for _, line := range s.decisions(t, 1) {
			if line["verdict"] == "deny" && line["reason"] == "log_full" && line["outcome"] == "refused" {
				return true
			}
		}
		return false
	})
}

// While a server flips revisions ten times a second, eight clients get the
// answer of one revision or the other, and never another one.
func TestFlippingBundlesUnderLoad(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	c.put(t, "a", "userdata")
	s := newManaged(t, byBundle, map[string]string{"opa.yaml": c.opa("")})
	s.settles(t, userdataPath, 403)
	var (
		stop   atomic.Bool
		asked  atomic.Int64
		denied [2]atomic.Int64
		wait   sync.WaitGroup
	)
	paths := [2]string{userdataPath, metadataPath}
	for n := range 8 {
		wait.Go(func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			defer client.CloseIdleConnections()
			for i := n; !stop.Load(); i++ {
				response, err := client.Get("http://" + s.address + paths[i%2])
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				asked.Add(1)
				switch {
				case err == nil && response.StatusCode == 200 && string(body) == "from the server":
				case err == nil && response.StatusCode == 403 && strings.Contains(string(body), "policy_deny"):
					denied[i%2].Add(1)
				default:
					t.Errorf("%s: %d %q %v", paths[i%2], response.StatusCode, body, err)
					return
				}
			}
		})
	}
	flips := 0
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); flips++ {
		<-ticker.C
		if flips%2 == 0 {
			c.put(t, fmt.Sprint("b", flips), "metadata")
		} else {
			c.put(t, fmt.Sprint("a", flips), "userdata")
		}
	}
	stop.Store(true)
	wait.Wait()
	loads := s.admin.Metrics(t, "caddy_metaguard_policy_loads_total")
	activated := 0.0
	for labels, count := range loads {
		if strings.Contains(labels, `"ok"`) {
			activated += count
		} else if count != 0 {
			t.Errorf("%v loads failed: %s", count, labels)
		}
	}
	if activated < 2 || denied[0].Load() == 0 || denied[1].Load() == 0 {
		t.Errorf("%d flips, %v activations, %d and %d denials", flips, activated, denied[0].Load(), denied[1].Load())
	}
	t.Logf("%d flips, %v activations, %d requests, %d and %d denied", flips, activated, asked.Load(), denied[0].Load(), denied[1].Load())
}

// What waits for the log service is sent when the process is stopped.
func TestEventsAreSentAtTheEnd(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := newManaged(t, byBundle, map[string]string{
		"opa.yaml": "services: {team: {url: '" + c.URL + "'}}\ndecision_logs: {service: team, reporting: {min_delay_seconds: 600, max_delay_seconds: 600}}\n",
	})
	s.settles(t, metadataPath, 200)
	id := s.get(t, metadataPath).Header.Get("X-Metaguard-Decision")
	s.Stop()
	sent, err := json.Marshal(c.received())
	if err != nil || !strings.Contains(string(sent), id) {
		t.Errorf("%v %s is not in %s", err, id, sent)
	}
}

// `validate` reports what is wrong with OPA's configuration with file and line,
// and asks no server.
func TestValidateAsksNoServer(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	s := prepareSite(t, byBundle, map[string]string{"opa.yaml": c.opa("")})
	if output, err := s.Command("validate", "--config", "Caddyfile"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if asked := c.requests(); asked != 0 {
		t.Errorf("validate sent %d requests", asked)
	}
	s.Write("opa.yaml", "services: {}\nbundels: {}\n")
	if output, err := s.Command("validate", "--config", "Caddyfile"); err == nil || !strings.Contains(output, `opa.yaml:2: OPA's configuration has no bundels (did you mean \"bundles\"?)`) &&
		!strings.Contains(output, `opa.yaml:2: OPA's configuration has no bundels (did you mean "bundles"?)`) {
		t.Errorf("%v\n%s", err, output)
	}
}
