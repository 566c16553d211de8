// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const ec2Instance = "5f1c0000-0000-4000-8000-000000000005"

// ec2Guard is Metaguard before a metadata service of EC2's kind.
func ec2Guard(t *testing.T, service, settings string) (*harness.Process, string) {
	t.Helper()
	port := harness.FreePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	return harness.Start(t, address, map[string]string{
		"policy/team.rego": "package metaguard.team\n",
		"inventory.json":   `[{"address": "127.0.0.1", "instance_id": "` + ec2Instance + `", "project_id": "123456789012"}]`,
		"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
}
http://:%d {
	bind 127.0.0.1
	metaguard {
		upstream %s
		dialect ec2
		identify remote_ip inventory.json
		%s
	}
}
`, port, service, settings),
	}), address
}

// ec2Dated gives Amazon's mock, which has the version "latest" only, the dated ones
// that cloud-init asks for.
func ec2Dated(t *testing.T, mock string) string {
	t.Helper()
	dated := regexp.MustCompile(`^/\d{4}-\d\d-\d\d/`)
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: mock})
		r.Out.URL.Path = dated.ReplaceAllString(r.Out.URL.Path, "/latest/")
	}})
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// ec2Found is what cloud-init found.
type ec2Found struct {
	Token bool
	Found map[string]any
}

// ec2Times are those at which Amazon's mock answers.
var ec2Times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d+ \w{3} \d{4} \d\d:\d\d:\d\d GMT`)

func ec2CloudInit(t *testing.T, address, platform string) (crawled ec2Found) {
	t.Helper()
	output := run(t, "ec2.py", "http://"+address, platform)
	if err := json.Unmarshal(ec2Times.ReplaceAll([]byte(output), []byte("then")), &crawled); err != nil {
		t.Fatalf("%v in %s", err, output)
	}
	return crawled
}

// cloud-init boots through Metaguard as it does without it, as on Amazon's own
// cloud and as on one that resembles it.
func TestEC2CloudInit(t *testing.T) {
	need(t)
	for name, service := range map[string]func() string{
		"Amazon's mock":      func() string { return ec2Dated(t, harness.EC2Mock(t)) },
		"a scripted service": func() string { return harness.NewEC2(t, harness.EC2Values(), false).Address },
	} {
		t.Run(name, func(t *testing.T) {
			address := service()
			found := map[string]ec2Found{"aws": ec2CloudInit(t, address, "aws"), "unknown": ec2CloudInit(t, address, "unknown")}
			for _, test := range []struct {
				platform, settings string
				token, identity    bool
			}{
				{"aws", "session required", true, true},
				{"aws", "session optional", true, true},
				{"aws", "session off", true, false}, // no session of Metaguard's, so no identity documents
				{"unknown", "session optional", false, false},
				{"unknown", "session off", false, false},
			} {
				direct := found[test.platform]
				if len(direct.Found["meta-data"].(map[string]any)) < 20 {
					t.Fatalf("%s: directly only %v", test.platform, direct)
				}
				// The service puts the caller's address into what it answers, and Metaguard
				// says whose it is.
				text, _ := json.Marshal(direct.Found)
				var want map[string]any
				if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), `"privateIp":""`, `"privateIp":"127.0.0.1"`)), &want); err != nil {
					t.Fatal(err)
				}
				if test.platform == "aws" && !test.identity {
					want["dynamic"] = map[string]any{"instance-identity": map[string]any{}}
				}
				guard, at := ec2Guard(t, address, test.settings)
				got := ec2CloudInit(t, at, test.platform)
				if got.Token != test.token || !reflect.DeepEqual(got.Found, want) {
					t.Errorf("%s, %s: token %t, found\n%v\ndirectly\n%v", test.platform, test.settings, got.Token, got.Found, want)
				}
				guard.Stop()
			}
		})
	}
}

// Where every request needs a session, a data source that asks for none finds
// nothing, and says so soon.
func TestEC2CloudInitWithoutSession(t *testing.T) {
	need(t)
	service := harness.NewEC2(t, harness.EC2Values(), false)
	_, at := ec2Guard(t, service.Address, "session required")
	if got := ec2CloudInit(t, at, "unknown"); len(got.Found) > 0 || len(service.Requests()) > 0 {
		t.Errorf("found %v, the service saw %q", got.Found, service.Requests())
	}
}

// cloud-init loses a whole tree to one entry that is listed and refused. So what a
// team denies is not listed, and the rest is found as before.
func TestEC2CloudInitWithRefusals(t *testing.T) {
	need(t)
	service := harness.NewEC2(t, harness.EC2Values(), false)
	guard, at := ec2Guard(t, service.Address, "session required\n\t\tpolicy policy")
	want := ec2CloudInit(t, at, "aws")
	guard.Write("policy/team.rego", `package metaguard.team

deny contains "no_spot" if startswith(input.resource.key, "meta-data/spot")

deny contains "no_region" if input.resource.key == "meta-data/placement/region"

deny contains "no_userdata" if input.resource.kind == "userdata"
`)
	metadata := want.Found["meta-data"].(map[string]any)
	delete(metadata, "spot")
	delete(metadata["placement"].(map[string]any), "region")
	want.Found["user-data"] = ""
	var got ec2Found
	guard.Eventually("the policy is live", func() bool {
		got = ec2CloudInit(t, at, "aws")
		return got.Found["user-data"] == ""
	})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
