// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// crowd begins eight clients of every kind: on connections that they keep and on
// new ones, reading and writing, signed, with sessions and tokens, and waiting.
func (s *soak) crowd() {
	for i, routine := range []func(v *visitor, n int){
		s.readsAsAgent, s.refusedAsAgent, s.writesAsAgent, s.readsByBundle, s.hasSessions, s.hasTokens, s.waits, s.isAudited,
	} {
		s.begin(newVisitor(fmt.Sprint("127.4.0.", i+1), i%2 == 0), routine)
	}
}

func (s *soak) url(site, path string) string { return "http://" + s.addresses[site] + path }

// signed are the headers that Neutron's agent sends.
func (s *soak) signed(instance string) []string {
	return []string{
		"X-Instance-ID", instance, "X-Tenant-ID", projectA, "X-Forwarded-For", "10.0.0.9",
		"X-Instance-ID-Signature", signWith(*s.agent.Load(), instance),
	}
}

func (s *soak) readsAsAgent(v *visitor, _ int) {
	v.expect(200, metadataPath, "GET", s.url("NEUTRON", metadataPath), "", s.signed(instance1)...)
}

// refusedAsAgent is refused with the generation's status; checkLines compares it
// with the generation's policy.
func (s *soak) refusedAsAgent(v *visitor, _ int) {
	answer, ok := v.visit("GET", s.url("NEUTRON", userdataPath), "", s.signed(instance1)...)
	if ok && (answer.Status != 403 && answer.Status != 404 || reason(answer) != "policy_deny") {
		v.complain("%d %q", answer.Status, answer.Body)
	}
	answer, ok = v.visit("GET", s.url("NEUTRON", "/openstack/latest/vendor_data.json"), "", s.signed(instance1)...)
	if ok && reason(answer) != "policy_deny" {
		v.complain("%d %q", answer.Status, answer.Body)
	}
}

func (s *soak) writesAsAgent(v *visitor, n int) {
	instance, password := fmt.Sprintf("%08d-0000-4000-8000-000000000000", n), fmt.Sprint("password ", n)
	if answer, ok := v.visit("POST", s.url("NEUTRON", guestPath), password, s.signed(instance)...); !ok || answer.Status != 200 {
		if ok {
			v.complain("a first password: %d %q", answer.Status, answer.Body)
		}
		return
	}
	v.expect(409, "Conflict: password_already_set", "POST", s.url("NEUTRON", guestPath), "another", s.signed(instance)...)
	v.expect(200, password, "GET", s.url("NEUTRON", guestPath), "", s.signed(instance)...)
}

func (s *soak) readsByBundle(v *visitor, _ int) {
	v.expect(200, metadataPath, "GET", s.url("BUNDLES", metadataPath), "")
	v.expect(403, "Forbidden: policy_deny", "GET", s.url("BUNDLES", userdataPath), "")
}

func (s *soak) hasSessions(v *visitor, _ int) {
	answer, ok := v.visit("PUT", s.url("TOKENS", "/latest/api/token"), "", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if !ok {
		return
	}
	if answer.Status != 200 {
		v.complain("a token: %d %q", answer.Status, answer.Body)
		return
	}
	v.expect(200, metadataPath, "GET", s.url("TOKENS", metadataPath), "", tokenHeader, answer.Body)
}

func (s *soak) hasTokens(v *visitor, _ int) {
	for header, token := range map[string]string{"Authorization": "Bearer " + s.tokens.token, "X-Auth-Token": keystoneToken} {
		if answer, ok := v.visit("GET", s.url("TOKENS", metadataPath), "", header, token); ok && reason(answer) != "policy_deny" {
			v.complain("%s: %d %q", header, answer.Status, answer.Body)
		}
	}
}

// waits for a change; a reload ends that with an answer.
func (s *soak) waits(v *visitor, _ int) {
	const path = "/computeMetadata/v1/instance/attributes/myOwnName?wait_for_change=true&timeout_sec=1"
	answer, ok := v.visit("GET", s.url("WAITS", path), "", "Metadata-Flavor", "Google")
	if ok && answer.Status != 200 && (answer.Status != 504 || answer.Header.Get("Retry-After") == "") {
		v.complain("a wait: %d %q", answer.Status, answer.Body)
	}
}

func (s *soak) isAudited(v *visitor, _ int) {
	v.expect(200, userdataPath, "GET", s.url("AUDIT", userdataPath), "")
}

// checkLines fails where a line of the decision log shows two generations.
func (s *soak) checkLines(t *testing.T, log string) {
	t.Helper()
	generations := make(map[string]int)
	for line := range strings.Lines(log) {
		var entry struct {
			Message, Resource, Caller, Verdict, Source string
			Project                                    string `json:"project_id"`
			Status                                     int
			Codes                                      []string
		}
		if !strings.Contains(line, `"msg":"decision"`) || json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		codes := strings.Join(entry.Codes, " ")
		switch {
		case entry.Source == "neutron" && entry.Resource == "userdata" && codes != "":
			generation := fmt.Sprint(entry.Status, " ", codes)
			generations[generation]++
			if generation != "403 gen_a" && generation != "404 gen_b" {
				t.Errorf("half a reload: %s", line)
			}
		case strings.HasPrefix(codes, "live_"):
			if _, numbers, _ := strings.Cut(codes, "live_"); numbers != "" {
				rule, data, _ := strings.Cut(numbers, "_")
				generations["policy edits"]++
				if rule != data {
					t.Errorf("half an edited policy: %s", line)
				}
			}
		case entry.Source == "remote_ip":
			generations["inventory edits"]++
			if number := entry.Caller[len(entry.Caller)-12:]; number != entry.Project {
				t.Errorf("half an inventory: %s", line)
			}
		}
	}
	t.Logf("decisions by what they could be half of: %v", generations)
	for _, want := range []string{"403 gen_a", "404 gen_b", "policy edits", "inventory edits"} {
		if generations[want] == 0 {
			t.Errorf("no decision of %s", want)
		}
	}
}
