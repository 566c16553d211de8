// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestCloudInitWithTokens lets cloud-init's EC2 data source boot where every
// request needs a session token. Nova itself knows of none. It finds what it
// finds at Nova without a token, since it takes that one for nobody it knows.
func TestCloudInitWithTokens(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	agent := agentBefore(t, nova.address)
	plain := crawlEC2(t, agent.address)
	if plain.Token || len(plain.Found) == 0 {
		t.Fatalf("at Nova alone: %+v", plain)
	}
	// Amazon's has an identity document, for which it asks there only; nobody
	// else's is made up.
	plain.Found["dynamic"] = map[string]any{"instance-identity": map[string]any{}}
	for _, test := range []struct {
		session string
		token   bool
	}{
		{"session required", true},
		{"session optional", true},
		{"session off", false},
	} {
		g := guardBefore(t, nova.address, byAddress(map[string]rune{address(withPassword): withPassword}, test.session))
		crawled := crawlEC2(t, g.address, "aws")
		if crawled.Token != test.token || len(crawled.Found) > 0 != test.token {
			t.Errorf("%s: token %t, found %s", test.session, crawled.Token, text(crawled.Found))
		}
		if !test.token {
			continue
		}
		same(t, crawled.Found, plain.Found)
		for _, request := range g.upstream.take(t) {
			if text := strings.ToLower(fmt.Sprint(request)); strings.Contains(text, "/api/token") || strings.Contains(text, "x-aws-ec2") {
				t.Errorf("Nova saw %v", request)
			}
		}
	}
}

// crawledEC2 is what cloud-init's EC2 data source finds.
type crawledEC2 struct {
	Token bool
	Found map[string]any
}

// crawlEC2 lets it crawl from the address of withPassword.
func crawlEC2(t *testing.T, at string, platform ...string) (crawled crawledEC2) {
	t.Helper()
	output, err := novaScript(t.TempDir(), nil, append([]string{"crawl_ec2", "http://" + at, address(withPassword)}, platform...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(output), &crawled); err != nil {
		t.Fatalf("%v in %s", err, output)
	}
	return crawled
}
