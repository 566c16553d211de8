// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// cloudStackMetadata is what a router keeps for an instance.
func cloudStackMetadata(instance, address string) map[string]string {
	return map[string]string{
		"service-offering": "Small Instance", "availability-zone": "zone-1", "local-ipv4": address, "local-hostname": "vm-1",
		"public-ipv4": "192.0.2.80", "public-hostname": "192.0.2.80", "instance-id": instance, "vm-id": instance,
		"public-keys": "ssh-ed25519 AAAAC3 one\nssh-ed25519 AAAAC3 two\n", "cloud-identifier": "CloudStack-{1f2e}",
		"hypervisor-host-name": "kvm-1", "role": "database",
	}
}

// The metadata tree: what each path is, and that no listing names what is refused.
func TestCloudStackMetadata(t *testing.T) {
	t.Parallel()
	s := newCloudStack(t, "", true, true)
	for address, instance := range map[string]string{"127.0.0.1": instance1, "127.0.0.2": instance2} {
		s.router.SetMetadata(address, "#cloud-config\n", cloudStackMetadata(instance, address))
	}
	for path, want := range map[string]struct{ kind, body string }{
		"/latest/user-data":                      {"userdata", "#cloud-config\n"},
		"/latest/user-data/":                     {"userdata", "#cloud-config\n"},
		"/latest/meta-data/instance-id":          {"metadata", instance1},
		"/latest/instance-id":                    {"metadata", instance1},
		"/latest/meta-data/local-ipv4/":          {"metadata", "127.0.0.1"},
		"/latest/meta-data/public-keys":          {"metadata", "ssh-ed25519 AAAAC3 one\nssh-ed25519 AAAAC3 two\n"},
		"/latest/meta-data/role":                 {"userdata", "database"},
		"/latest/meta-data":                      {"listing", strings.Join(harness.CloudStackNames, "\n") + "\nrole\n"},
		"/latest/meta-data/":                     {"listing", strings.Join(harness.CloudStackNames, "\n") + "\nrole\n"},
		"/latest//meta-data/instance-id":         {"metadata", instance1},
		"/latest/meta-data/hypervisor-host-name": {"metadata", "kvm-1"},
	} {
		answer, _ := s.sends(t, "127.0.0.1", "GET", path, "")
		if answer.Status != 200 || answer.Body != want.body {
			t.Errorf("%s: %d %q", path, answer.Status, answer.Body)
		}
		if head, _ := s.sends(t, "127.0.0.1", "HEAD", path, ""); head.Status != 200 || head.Body != "" {
			t.Errorf("HEAD %s: %d %q", path, head.Status, head.Body)
		}
		if post, seen := s.sends(t, "127.0.0.1", "POST", path, "Content-Length: 0\r\n"); post.Status != 405 || post.Header.Get("Allow") != "GET, HEAD" || len(seen) != 0 {
			t.Errorf("POST %s: %d %v", path, post.Status, post.Header)
		}
		for _, line := range s.decisions(t, 1) {
			if line["path"] == path && line["resource"] != want.kind {
				t.Errorf("%s: %v, want %s", path, line["resource"], want.kind)
			}
		}
	}
	for path, want := range map[string]int{
		"/": 404, "/latest": 404, "/latest/": 404, "/latest/role": 404, "/latest/meta-data/meta-data": 404, "/latest/META-DATA/": 404,
		"/latest/meta-data/a/b": 404, "/1.0/meta-data/": 404, "/metadata/127.0.0.2/instance-id": 404, "/userdata/127.0.0.2/user-data": 404,
		"/doc/": 404, "/cgi-bin/x": 404, "/latest/meta-data/../../metadata/127.0.0.2/vm-id": 400, "/latest/meta-data/%2e%2e/x": 400,
		"/latest/user-data?x=1": 400,
	} {
		if answer, seen := s.sends(t, "127.0.0.1", "GET", path, ""); answer.Status != want || len(seen) != 0 {
			t.Errorf("%s: %d %q, the server saw %q", path, answer.Status, answer.Body, seen)
		}
	}
	if answer, seen := s.sends(t, "127.0.0.9", "GET", "/latest/user-data", "X-Forwarded-For: 127.0.0.1\r\n"); answer.Status != 401 || len(seen) != 0 {
		t.Errorf("nobody: %d", answer.Status)
	}
	if answer, _ := s.sends(t, "127.0.0.2", "GET", "/latest/vm-id", "X-Forwarded-For: 127.0.0.1\r\n"); answer.Body != instance2 {
		t.Errorf("another's: %d %q", answer.Status, answer.Body)
	}
	s.Write("policy/team.rego", "package metaguard.team\n\ndeny contains \"no_keys\" if input.resource.key == \"meta-data/public-keys\"\n\ndeny contains \"no_userdata\" if input.resource.kind == \"userdata\"\n")
	hidden := strings.Replace(strings.Join(harness.CloudStackNames, "\n")+"\n", "public-keys\n", "", 1)
	s.Eventually("what is refused is not listed", func() bool {
		answer, _ := s.sends(t, "127.0.0.1", "GET", "/latest/meta-data/", "")
		return answer.Body == hidden
	})
	for _, path := range []string{"/latest/meta-data/public-keys", "/latest/user-data"} { // which clients take for none
		if answer, seen := s.sends(t, "127.0.0.1", "GET", path, ""); answer.Status != 404 || reason(answer) != "policy_deny" || len(seen) != 0 {
			t.Errorf("%s: %d %q, the server saw %q", path, answer.Status, answer.Body, seen)
		}
	}
}
