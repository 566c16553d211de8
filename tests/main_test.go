// SPDX-License-Identifier: Apache-2.0

// Package tests holds the black-box tests: they drive the built binary from
// outside, as users and attackers would.
package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	// The binary is made of these; importing them tells Go's test cache.
	_ "github.com/metaguard/metaguard/module"
	_ "github.com/metaguard/metaguard/module/legacy"
	"github.com/metaguard/metaguard/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemoveBinary()
	os.Exit(code)
}

const (
	instance1 = "11111111-1111-4111-8111-111111111111"
	instance2 = "22222222-2222-4222-8222-222222222222"
	projectA  = "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"
	secret    = "s3cret-of-the-agent-and-nova"
)

// inventory makes 127.0.0.1 instance 1 and 127.0.0.2 instance 2.
const inventory = `[
	{"address": "127.0.0.1", "instance_id": "` + instance1 + `", "project_id": "` + projectA + `"},
	{"address": "127.0.0.2", "instance_id": "` + instance2 + `", "project_id": "` + projectA + `"}
]`

// grant gives an instance a right.
func grant(instance, right string) string {
	return fmt.Sprintf(`{"metaguard": {"grants": {"instance_id": {%q: [%q]}}}}`, instance, right)
}

// site is one guarded server in front of a scripted one.
type site struct {
	*harness.Process
	address  string
	upstream *harness.Upstream
}

// settings of a site: what stands in its metaguard block beside upstream and
// dialect, and the files beside the Caddyfile.
func newSite(t *testing.T, settings string, files map[string]string) *site {
	t.Helper()
	s := prepareSite(t, settings, files)
	s.Run(s.address)
	return s
}

func prepareSite(t *testing.T, settings string, files map[string]string) *site {
	t.Helper()
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("from the server") })
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	all := map[string]string{"inventory.json": inventory, "policy/data.json": `{}`, "Caddyfile": caddyfile(address, upstream.Address, settings)}
	for name, content := range files {
		all[name] = content
	}
	return &site{
		Process:  harness.New(t, all, "METAGUARD_NEUTRON_SECRET="+secret),
		address:  address,
		upstream: upstream,
	}
}

func caddyfile(address, upstream, settings string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	log {
		level DEBUG
		format json
	}
}
http://:%s {
	bind 127.0.0.1
	metaguard {
		upstream %s
		dialect openstack
		%s
	}
}
`, strings.TrimPrefix(address, "127.0.0.1:"), upstream, settings)
}

const (
	// policyDirectory gives the policy more time than an operator would: on a
	// busy machine its timeout would refuse what tests ask for.
	policyDirectory = "policy policy {\n\ttimeout 30s\n}"
	byAddress       = "identify remote_ip inventory.json\n" + policyDirectory
)

// get sends a plain GET.
func (s *site) get(t *testing.T, path string) harness.Answer {
	t.Helper()
	return harness.Raw(t, s.address, "GET "+path+" HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n")
}

// post sends a password with its length.
func (s *site) post(t *testing.T, from, body string) harness.Answer {
	t.Helper()
	return harness.RawFrom(t, from, s.address, fmt.Sprintf(
		"POST /openstack/latest/password HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// decisions gives the decision-log lines so far, once there are n of them.
func (s *site) decisions(t *testing.T, n int) []map[string]any {
	t.Helper()
	var lines []map[string]any
	s.Eventually(fmt.Sprintf("%d decision-log lines", n), func() bool {
		lines = nil
		for line := range strings.Lines(s.Log()) {
			var entry map[string]any
			if strings.Contains(line, `"decision_id"`) && json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "decision" {
				lines = append(lines, entry)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// decisionOf is the decision-log line of an answer. It may come after the answer, and
// after those of later ones.
func (s *site) decisionOf(t *testing.T, answer harness.Answer) (line map[string]any) {
	t.Helper()
	id := answer.Header.Get("X-Metaguard-Decision")
	s.Eventually("the decision-log line of "+id, func() bool {
		for _, line = range s.decisions(t, 0) {
			if line["decision_id"] == id {
				return true
			}
		}
		return false
	})
	return line
}

// reason is the reason in a refusal's one line.
func reason(answer harness.Answer) string {
	_, rest, _ := strings.Cut(answer.Body, ": ")
	word, _, _ := strings.Cut(rest, " ")
	return word
}
