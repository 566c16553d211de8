// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestCloudInitWithTokens lets cloud-init's EC2 data source boot where every
// request needs a session token. Nova itself knows of none.
func TestCloudInitWithTokens(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	for _, test := range []struct {
		session string
		token   bool
	}{
		{"session required", true},
		{"session optional", true},
		{"session off", false},
	} {
		g := guardBefore(t, nova.address, setup{
			identify: "identify remote_ip inventory.json\n\t\tassert neutron {env.METAGUARD_NEUTRON_SECRET}\n\t\t" + test.session,
			files: map[string]string{"inventory.json": fmt.Sprintf(`[{"address": %q, "instance_id": %q, "project_id": %q}]`,
				address(withPassword), instanceID(withPassword), projectID(withPassword))},
		})
		output, err := novaScript(t.TempDir(), nil, "crawl_ec2", "http://"+g.address, address(withPassword))
		if err != nil {
			t.Fatal(err)
		}
		var crawled struct {
			Token bool
			Found map[string]any
		}
		if err := json.Unmarshal([]byte(output), &crawled); err != nil {
			t.Fatalf("%v in %s", err, output)
		}
		if crawled.Token != test.token || len(crawled.Found) > 0 != test.token {
			t.Errorf("%s: token %t, found %s", test.session, crawled.Token, output)
		}
		if !test.token {
			continue
		}
		for _, want := range []string{"#cloud-config", "public-keys", "local-hostname", "instance-id"} {
			if !strings.Contains(output, want) {
				t.Errorf("%s: no %s in\n%s", test.session, want, output)
			}
		}
		for _, request := range g.upstream.take(t) {
			if text := strings.ToLower(fmt.Sprint(request)); strings.Contains(text, "/api/token") || strings.Contains(text, "x-aws-ec2") {
				t.Errorf("Nova saw %v", request)
			}
		}
	}
}
