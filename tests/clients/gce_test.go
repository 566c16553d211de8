// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// Debian's cloud-init crawls through Metaguard what it crawls without: ids, keys of
// both places, user-data. Its write of host keys is refused, and it goes on.
func TestGCECloudInit(t *testing.T) {
	need(t)
	t.Parallel()
	server := harness.NewGCE(t)
	address := fmt.Sprint("127.0.0.1:", harness.FreePort(t))
	p := harness.Start(t, address, map[string]string{
		"inventory.json": `[{"address": "127.0.0.1", "instance_id": "11111111-1111-4111-8111-111111111111", "project_id": "p"}]`,
		"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
}
http://:%s {
	bind 127.0.0.1
	metaguard {
		upstream %s
		dialect gce
		identify remote_ip inventory.json
	}
}
`, strings.TrimPrefix(address, "127.0.0.1:"), server.Address),
	})
	without := run(t, "gce.py", "http://"+server.Address+"/computeMetadata/v1/")
	with := run(t, "gce.py", "http://"+address+"/computeMetadata/v1/")
	if with != without {
		t.Errorf("with Metaguard\n%s\nwithout\n%s", with, without)
	}
	var said struct {
		Success  bool
		MetaData map[string]any `json:"meta-data"`
		UserData string         `json:"user-data"`
	}
	if err := json.Unmarshal([]byte(with), &said); err != nil || !said.Success || said.UserData != "#cloud-config\n{}" || len(said.MetaData["public-keys-data"].([]any)) != 2 {
		t.Errorf("%v %s", err, with)
	}
	if strings.Contains(p.Log(), "alice") {
		t.Error("a key is in the log")
	}
}
