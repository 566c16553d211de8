// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestCloudInit lets cloud-init's OpenStack data source boot through Neutron's agent, with
// Metaguard before Nova and without. It finds the same, but for what the
// policy hides.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	g := guardBefore(t, nova.address, setup{})
	granted := guardBefore(t, nova.address, setup{grants: map[rune][]string{withAdmin: {"admin_pass:read"}}})
	agent := agentBefore(t, nova.address)

	plain := crawl(t, agent.address, withPassword)
	open := crawl(t, agent.address, withAdmin)
	hidden := crawl(t, agent.address, withAdmin)
	delete(hidden["metadata"].(map[string]any)["meta"].(map[string]any), "admin_pass")
	if text(hidden) == text(open) {
		t.Fatalf("there is no admin_pass to hide:\n%s", text(open))
	}

	agent.tap.pointTo(g.address)
	same(t, crawl(t, agent.address, withPassword), plain)
	if requests := g.upstream.take(t); len(requests) < 20 {
		t.Errorf("only %d of the crawler's requests came through Metaguard", len(requests))
	}
	same(t, crawl(t, agent.address, withAdmin), hidden)
	agent.tap.pointTo(granted.address)
	same(t, crawl(t, agent.address, withAdmin), open)

	// What cloud-init does not look at: listings leave out what the caller
	// could not read.
	for _, listing := range []string{"/openstack/latest/", "/openstack/2013-04-04"} {
		all := get(t, nova.address, listing, withPassword)
		rest := get(t, g.address, listing, withPassword)
		want := slices.DeleteFunc(strings.Fields(all.body), func(name string) bool { return name == "password" })
		if !slices.Equal(strings.Fields(rest.body), want) || len(want) == len(strings.Fields(all.body)) {
			t.Errorf("%s lists %q, and %q without Metaguard", listing, rest.body, all.body)
		}
	}
}

// TestCloudInitStandalone lets it boot on a network without Neutron's agent:
// Metaguard tells the caller by its address and vouches for it.
func TestCloudInitStandalone(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			g := guardBefore(t, nova.address, byAddress(map[string]rune{address(withPassword): withPassword}))
			same(t, crawl(t, g.address, withPassword), crawl(t, nova.address, withPassword, signed(withPassword)...))
		})
	}
}

// crawl is what cloud-init finds at an address, asking from an instance's.
func crawl(t *testing.T, at string, as rune, header ...string) (found map[string]any) {
	t.Helper()
	output, err := novaScript(t.TempDir(), nil, append([]string{"crawl", "http://" + at, address(as)}, header...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{instanceID(as), `"random_seed": true`, "#cloud-config", "public-keys", "networkdata", "vendordata"} {
		if !strings.Contains(output, want) {
			t.Fatalf("the crawler did not find %s:\n%s", want, output)
		}
	}
	if err := json.Unmarshal([]byte(output), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func same(t *testing.T, got, want map[string]any) {
	t.Helper()
	if text(got) != text(want) {
		t.Errorf("through Metaguard the crawler finds\n%s\nand should find\n%s", text(got), text(want))
	}
}

func text(document map[string]any) string {
	all, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		panic(err)
	}
	return string(all)
}
