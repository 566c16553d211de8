// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// partsServer lists the same under every directory, and has every path.
func partsServer(s *site, entries ...string) {
	s.upstream.Script(func(request string) string {
		if path, _, _ := strings.Cut(strings.TrimPrefix(request, "GET "), " "); strings.HasSuffix(path, "/") {
			return harness.OK(strings.Join(entries, "\n") + "\n")
		}
		return harness.OK("{}")
	})
}

// What a listing names is what the same caller can read, whatever rule says so.
func TestListingsNameWhatCanBeRead(t *testing.T) {
	t.Parallel()
	entries := []string{"meta_data.json", "user_data", "password", "vendor_data.json", "vendor_data2.json", "network_data.json", "future", "content/"}
	for name, rules := range map[string]string{
		"built-in":   "",
		"by kind":    "deny contains \"x\" if input.resource.kind == \"vendordata\"\n",
		"by path":    "deny contains \"x\" if input.request.path == \"/openstack/latest/user_data\"\n",
		"by segment": "deny contains \"x\" if input.request.segments[2] == \"network_data.json\"\n",
		"by key":     "deny contains \"x\" if input.resource.key == \"meta_data.json\"\n",
		"by version": "deny contains \"x\" if {\n\tinput.resource.version == \"2016-10-06\"\n\tinput.resource.key != \"\"\n}\n",
		"sensitive":  "allow contains \"x\" if {\n\tinput.resource.sensitive\n\tinput.caller.instance_id == \"" + instance1 + "\"\n}\n",
		"unknown":    "allow contains \"x\" if {\n\tinput.resource.kind == \"unknown\"\n\tstartswith(input.caller.address, \"127.\")\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, byAddress, map[string]string{"policy/team.rego": "package metaguard.team\n\n" + rules})
			s.Run(s.address)
			partsServer(s, entries...)
			for _, version := range []string{"latest", "2016-10-06", "2012-08-10"} {
				directory := "/openstack/" + version + "/"
				listing := s.get(t, directory)
				if listing.Status != 200 {
					t.Fatalf("%s: %d %q", directory, listing.Status, listing.Body)
				}
				for _, entry := range entries {
					before := len(s.upstream.Requests())
					s.get(t, directory+entry)
					asked := len(s.upstream.Requests()) > before // a password that may not be read is answered as empty
					if shown := strings.Contains("\n"+listing.Body, "\n"+entry+"\n"); shown != asked {
						t.Errorf("%s: %s is shown is %v, the server is asked for it is %v", directory, entry, shown, asked)
					}
				}
			}
		})
	}
}

// A listing of which a part cannot be judged, or with too many, does not pass; one
// that the policy refuses does in audit mode, as it is.
func TestListingsThatCannotBeJudged(t *testing.T) {
	t.Parallel()
	const directory = "/openstack/latest/"
	s := prepareSite(t, byAddress, map[string]string{"policy/team.rego": "package metaguard.team\n\ndeny contains \"x\" if {\n\tinput.resource.key == \"user_data\"\n\tto_number(input.resource.key) == 1\n}\n"})
	s.Run(s.address)
	partsServer(s, "meta_data.json", "user_data")
	if answer := s.get(t, directory); answer.Status != 503 || reason(answer) != "policy_error" {
		t.Errorf("a part in error: %d %q", answer.Status, answer.Body)
	}
	var many []string
	for i := range 4097 {
		many = append(many, fmt.Sprint("entry", i))
	}
	partsServer(s, many...)
	if answer := s.get(t, directory); answer.Status != 502 || reason(answer) != "response_too_large" {
		t.Errorf("4,097 entries: %d %q", answer.Status, answer.Body)
	}
	lines := s.decisions(t, 2)
	for i, code := range []string{"part", "entries_over_limit"} {
		if lines[i]["code"] != code || lines[i]["verdict"] != "allow" || lines[i]["outcome"] != "failed" {
			t.Errorf("the log says %v, want %s", lines[i], code)
		}
	}
}

func TestListingsInAuditMode(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress+"\nmode audit", map[string]string{"policy/team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.dialect == \"openstack\"\n"})
	s.Run(s.address)
	partsServer(s, "meta_data.json", "password", "future")
	if answer := s.get(t, "/openstack/latest/"); answer.Status != 200 || answer.Body != "meta_data.json\npassword\nfuture\n" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}
