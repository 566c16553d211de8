// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/azureserver"
	"github.com/metaguard/metaguard/tests/harness"
)

// azureCrawl is what azure.py prints.
type azureCrawl struct {
	Metadata                     map[string]any
	Network                      map[string]any
	Keys                         []string
	Username, Hostname, Userdata string
	PPS                          string
	Seconds                      float64
}

func azureRun(t *testing.T, address string, retries int) (found azureCrawl) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	output := run(t, "azure.py", host, port, fmt.Sprint(retries))
	if err := json.Unmarshal([]byte(output), &found); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return found
}

// azureGuard runs Metaguard in front of a scripted service.
func azureGuard(t *testing.T, upstream *harness.Upstream, rego string) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	harness.Start(t, address, map[string]string{
		"inventory.json":   `[{"address": "127.0.0.1", "instance_id": "11111111-1111-4111-8111-111111111111", "project_id": "p"}]`,
		"policy/team.rego": "package metaguard.team\n\n" + rego,
		"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
}
http://%s {
	metaguard {
		upstream %s
		dialect azure
		identify remote_ip inventory.json
		require_host 169.254.169.254
		policy policy
	}
}
`, strings.Replace(address, "127.0.0.1", "", 1), upstream.Address),
	})
	return address
}

// An Azure instance boots behind Metaguard as it does without.
func TestAzureCloudInit(t *testing.T) {
	t.Parallel()
	need(t)
	upstream := harness.NewUpstream(t, azureserver.Answer)
	direct := azureRun(t, upstream.Address, 0)
	if len(direct.Metadata) != 3 || direct.Username != "azureuser" || len(direct.Keys) != 2 || direct.Userdata == "" || len(direct.Network) != 2 {
		t.Fatalf("without Metaguard: %+v", direct)
	}
	guarded := azureRun(t, azureGuard(t, upstream, ""), 0)
	direct.Seconds, guarded.Seconds = 0, 0
	if !reflect.DeepEqual(guarded, direct) {
		t.Errorf("got\n%+v\nwant\n%+v", guarded, direct)
	}
}

// What a policy hides is missing, and nothing else.
func TestAzureCloudInitHidden(t *testing.T) {
	t.Parallel()
	need(t)
	upstream := harness.NewUpstream(t, azureserver.Answer)
	want := azureRun(t, upstream.Address, 0)
	got := azureRun(t, azureGuard(t, upstream, `deny contains "no_user_data" if {
	input.resource.kind == "userdata"
	startswith(input.caller.address, "127.")
}
`), 0)
	compute := want.Metadata["compute"].(map[string]any)
	delete(compute, "userData")
	delete(compute, "customData")
	want.Userdata, want.Seconds, got.Seconds = "", 0, 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// A refusal is final for cloud-init, which goes on without, and an older version
// is asked for where the server does not know the newer one.
func TestAzureCloudInitStatuses(t *testing.T) {
	t.Parallel()
	need(t)
	upstream := harness.NewUpstream(t, azureserver.Answer)
	refused := azureRun(t, azureGuard(t, upstream, `deny contains "nothing" if startswith(input.caller.address, "127.")
`), 10)
	if len(refused.Metadata) != 0 || refused.Seconds > 20 || len(upstream.Requests()) != 0 {
		t.Errorf("refused: %+v, %d requests", refused, len(upstream.Requests()))
	}
	old := func(request string) string {
		return azureserver.Answer(strings.Replace(request, "2021-08-01", "2099-01-01", 1))
	}
	upstream.Script(old)
	if found := azureRun(t, azureGuard(t, upstream, ""), 0); len(found.Metadata) != 2 || found.Username != "azureuser" {
		t.Errorf("an older service: %+v", found)
	}
	versions := ""
	for _, request := range upstream.Requests() {
		line, _, _ := strings.Cut(request, " HTTP/")
		versions += line + "\n"
	}
	if want := "GET /metadata/instance?api-version=2021-08-01&extended=true\nGET /metadata/instance?api-version=2019-06-01\n"; versions != want {
		t.Errorf("asked\n%swant\n%s", versions, want)
	}
	for status, asked := range map[int]int{401: 1, 403: 1, 404: 2, 405: 1, 429: 2, 500: 2, 503: 1} {
		upstream.Forget()
		upstream.Script(func(string) string {
			return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", status)
		})
		found := azureRun(t, azureGuard(t, upstream, ""), 1)
		if got := len(upstream.Requests()); got != asked || len(found.Metadata) != 0 {
			t.Errorf("%d: asked %d times, want %d: %+v", status, got, asked, found.Metadata)
		}
	}
}
