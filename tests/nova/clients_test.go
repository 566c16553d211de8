// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nova_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// inMachine has addresses here that it has in no other test, and Nova remembers
// them for them all.
const inMachine = lostByAgent

// localAddress is what Nova says of the address it saw first in its cache time.
var localAddress = regexp.MustCompile(`local-ipv4(": "|: )[0-9.]+`)

// TestUnmodifiedClients runs Debian's ec2metadata and cloud-init's data source
// as they are in a machine: nothing of them is replaced, nothing is told to
// them, and Metaguard is at the metadata server's address. They find what they
// find at Nova, but for the token that ec2metadata wants first.
//
// ec2metadata asks for 27 names, also for some that Nova does not have and
// Metaguard does not know. It takes 404 and 500 for "unavailable" and dies of
// any other status (EC2Metadata._get); hence what no dialect knows is refused with 404.
func TestUnmodifiedClients(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	likeAMachine(t)

	// EC2Metadata._imdsv2_ensure_token asks the fixed address for a token, whatever
	// --url says, and does not catch the error of Nova, which has none.
	end := novaInMachine(t, nova, inMachine, false)
	for _, options := range [][]string{nil, {"--url", "http://127.0.0.1/latest"}, {"--instance-id"}} {
		if output, err := novaScript(t.TempDir(), nil, append([]string{"ec2metadata"}, options...)...); err == nil ||
			!strings.Contains(err.Error(), "HTTP Error 404") || output != "" {
			t.Errorf("at Nova alone, %q: %s, %v; want that it dies of 404", options, output, err)
		}
	}
	end()

	end = novaInMachine(t, nova, inMachine, true)
	want := asInMachine(t)
	end()
	for _, text := range []string{"ami-launch-index: 0", "instance-id: i-", "availability-zone: nova", "local-hostname: vm-f", "public-keys: ['ssh-rsa ", "#cloud-config", "region: unavailable", "mac: unavailable"} {
		if !strings.Contains(want["ec2metadata"], text) {
			t.Errorf("no %s in what ec2metadata finds at Nova:\n%s", text, want["ec2metadata"])
		}
	}

	for _, session := range []string{"session optional", "session required"} {
		with := byAddress(map[string]rune{metadataAddress: inMachine, "127.0.0.1": inMachine}, session)
		with.at = metadataAddress + ":80"
		g := guardBefore(t, nova.address, with)
		for client, found := range asInMachine(t) {
			if client == "cloud-init" && session == "session required" {
				continue // it asks for no token, see TestCloudInitWithTokens
			}
			if found != want[client] {
				t.Errorf("%s: %s finds\n%s\nand should find\n%s", session, client, found, want[client])
			}
		}
		requests := g.upstream.take(t)
		if len(requests) < 30 {
			t.Errorf("only %d requests came through Metaguard", len(requests))
		}
		for _, request := range requests {
			if text := strings.ToLower(fmt.Sprint(request)); strings.Contains(text, "/api/token") || strings.Contains(text, "x-aws-ec2") {
				t.Errorf("Nova saw %v", request)
			}
		}
		g.Stop()
	}
}

// asInMachine is what the clients find, by name.
func asInMachine(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for client, command := range map[string][]string{
		"ec2metadata":               {"ec2metadata"},
		"ec2metadata --url":         {"ec2metadata", "--url", "http://127.0.0.1/latest"},
		"ec2metadata --instance-id": {"ec2metadata", "--instance-id"},
		"cloud-init":                {"crawl"},
	} {
		output, err := novaScript(t.TempDir(), nil, command...)
		if err != nil {
			output = err.Error()
		}
		if client == "cloud-init" {
			var document map[string]any
			if err := json.Unmarshal([]byte(output), &document); err == nil {
				output = text(document)
			}
		}
		all[client] = localAddress.ReplaceAllString(output, "local-ipv4$1")
	}
	return all
}
