// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// clusterSite is one replica of the shipped cluster.Caddyfile, whose policy is
// the shipped one, and whose Redis is away. 127.0.0.2 and 127.0.0.3 are
// instances; balancers connect from 127.0.0.1.
func clusterSite(t *testing.T) (*clusterReplica, *policyServer, signer) {
	t.Helper()
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("name") })
	policies, release := newPolicyServer(t), newSigner(t)
	policies.publish("1", release.sign(t, shippedTeam(t)))
	r := newClusterReplica(t, 0, harness.FreePort(t), harness.FreePort(t), upstream, policies, release)
	r.Write("cluster/inventory.json", `[{"address": "127.0.0.2", "instance_id": "`+instance1+`", "project_id": "`+projectA+`"},
		{"address": "127.0.0.3", "instance_id": "`+instance2+`", "project_id": "`+projectA+`"}]`)
	r.Run(r.address)
	return r, policies, release
}

// shippedTeam is the policy beside cluster.Caddyfile.
func shippedTeam(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, name := range []string{".manifest", "data.json"} {
		files[name] = shippedFile(t, "cluster/team/"+name)
	}
	return files
}

func clusterGet(path, headers string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n" + headers + "\r\n"
}

// One of several replicas: who calls is what the balancer says, and what nobody
// else can say.
func TestClusterCaddyfile(t *testing.T) {
	t.Parallel()
	s, policies, release := clusterSite(t)
	const (
		proxied   = "PROXY TCP4 127.0.0.3 127.0.0.1 1 2\r\n"
		forwarded = "X-Forwarded-For: 127.0.0.3\r\n"
	)
	for name, test := range map[string]struct {
		from, to, preface, headers string
		want                       string // the instance that the server is told; empty: 401
	}{
		"a balancer of connections":           {"127.0.0.1", s.address, proxied, "", instance2},
		"a client around it":                  {"127.0.0.2", s.address, "", "", instance1},
		"a client that says it is a balancer": {"127.0.0.2", s.address, proxied, "", instance1},
		"a client's header behind it":         {"127.0.0.1", s.address, "PROXY TCP4 127.0.0.2 127.0.0.1 1 2\r\n", forwarded, instance1},
		"a balancer that knows nothing":       {"127.0.0.1", s.address, "PROXY UNKNOWN\r\n", forwarded, ""},
		"a balancer that says nothing":        {"127.0.0.1", s.address, "", forwarded, ""},
		"a client that is nobody":             {"127.0.0.1", s.address, "PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n", "", ""},
		"a balancer of requests":              {"127.0.0.1", s.httpAddress, "", forwarded, instance2},
		"its client's own header before it":   {"127.0.0.1", s.httpAddress, "", "X-Forwarded-For: 127.0.0.2, 127.0.0.3\r\n", instance2},
		"requests, a client around it":        {"127.0.0.2", s.httpAddress, "", forwarded, instance1},
		"requests, nothing is said":           {"127.0.0.1", s.httpAddress, "", "", ""},
	} {
		s.upstream.Forget()
		answer := harness.RawFrom(t, test.from, test.to, test.preface+clusterGet(metadataPath, test.headers))
		requests := s.upstream.Requests()
		switch {
		case test.want == "":
			if answer.Status != 401 || len(requests) != 0 {
				t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, requests)
			}
		case answer.Status != 200 || len(requests) != 1 || !strings.Contains(requests[0], "X-Instance-Id: "+test.want+"\r\n") || strings.Count(requests[0], "X-Forwarded-For: ") != 1:
			t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, requests)
		}
	}
	if answer := harness.Raw(t, s.address, proxied+"PROXY TCP4 127.0.0.2 127.0.0.1 1 2\r\n"+clusterGet(metadataPath, "")); answer.Status != 400 {
		t.Errorf("a client that says once more who it is: %d %q", answer.Status, answer.Body)
	}
	for site, says := range map[string]func(client string) (preface, headers string){
		s.address:     func(client string) (string, string) { return "PROXY TCP4 " + client + " 127.0.0.1 1 2\r\n", "" },
		s.httpAddress: func(client string) (string, string) { return "", "X-Forwarded-For: " + client + "\r\n" },
	} {
		ask := func(client string) int {
			preface, headers := says(client)
			return harness.Raw(t, site, preface+clusterGet(metadataPath, headers)).Status
		}
		s.Eventually("one client asks too often", func() bool { return ask("127.0.0.9") == 429 })
		if status := ask("127.0.0.8"); status != 401 {
			t.Errorf("another client of the balancer: %d", status)
		}
	}
	const wantsToken = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\nContent-Length: 0\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60\r\n"
	if answer := harness.Raw(t, s.address, proxied+wantsToken+"\r\n"); answer.Status != 200 {
		t.Errorf("a token behind a balancer of connections: %d %q", answer.Status, answer.Body)
	}
	if answer := harness.Raw(t, s.httpAddress, wantsToken+forwarded+"\r\n"); answer.Status == 200 {
		t.Errorf("a token behind a balancer of requests: %d", answer.Status)
	}

	// A bundle without the release's signature, or with another's, is not taken.
	before := s.stale(t)
	denying := shippedTeam(t)
	denying["team.rego"] = "package metaguard.team\n\ndeny contains \"all\" if input.version == 1\n"
	for _, bad := range [][]byte{bundleOf(t, denying), newSigner(t).sign(t, denying)} {
		policies.publish(fmt.Sprint("bad", len(bad)), bad)
		s.Eventually("the bundle is refused", func() bool { return s.stale(t) })
		if answer := harness.RawFrom(t, "127.0.0.2", s.address, clusterGet(metadataPath, "")); answer.Status != 200 || before {
			t.Errorf("a bundle that nobody released decides: %d %q", answer.Status, answer.Body)
		}
		policies.publish("good"+fmt.Sprint(len(bad)), release.sign(t, shippedTeam(t)))
		s.Eventually("a good one is taken", func() bool { return !s.stale(t) })
	}
	policies.publish("2", release.sign(t, denying))
	s.Eventually("a released one decides", func() bool {
		return harness.RawFrom(t, "127.0.0.2", s.address, clusterGet(metadataPath, "")).Status == 403
	})
	s.Eventually("events arrive", func() bool { return len(policies.received()) > 0 })
}

// The key that is shipped is nobody's: until it is replaced nothing is decided.
func TestClusterWithoutAKey(t *testing.T) {
	t.Parallel()
	s, policies, release := clusterSite(t)
	s.Stop()
	s.edit(t, "cluster/opa.yaml", indented(release.public, "      "), publicKey.FindString(shippedFile(t, "cluster/opa.yaml")))
	policies.publish("2", release.sign(t, shippedTeam(t)))
	s.edit(t, "Caddyfile", "ready_timeout 30s", "ready_timeout 1s")
	s.Run(s.address)
	if answer := harness.RawFrom(t, "127.0.0.2", s.address, clusterGet(metadataPath, "")); answer.Status != 503 || reason(answer) != "policy_not_ready" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}

// The shipped configuration of HAProxy, for connections and for requests.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	harness.NeedHAProxy(t)
	s, _, _ := clusterSite(t)
	tcp, requests := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	config := haproxyConfig(t, tcp, requests, []string{s.address, s.address, s.address}, []string{s.httpAddress, s.httpAddress, s.httpAddress})
	harness.StartHAProxy(t, config, tcp)
	for _, address := range []string{tcp, requests} {
		for from, want := range map[string]string{"127.0.0.2": instance1, "127.0.0.3": instance2, "127.0.0.9": ""} {
			for range 3 { // on a connection to the replica that another one was served on
				s.upstream.Forget()
				answer := harness.RawFrom(t, from, address, clusterGet(metadataPath, "X-Forwarded-For: 127.0.0.2\r\n"))
				seen := s.upstream.Requests()
				if want == "" {
					if answer.Status != http.StatusUnauthorized || len(seen) != 0 {
						t.Errorf("%s: %d %q", from, answer.Status, answer.Body)
					}
					continue
				}
				if answer.Status != 200 || len(seen) != 1 || !strings.Contains(seen[0], "X-Instance-Id: "+want+"\r\n") {
					t.Errorf("%s: %d %q, the server saw %q", from, answer.Status, answer.Body, seen)
				}
			}
		}
		status := harness.RawFrom(t, "127.0.0.2", address, "GET /openstack//../latest/password HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n")
		if reason(status) != "request_ambiguous" {
			t.Errorf("around a cleaned path: %d %q", status.Status, status.Body)
		}
	}
}
