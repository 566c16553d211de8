// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// ec2Site is a guarded site in front of a metadata service of EC2's kind.
func ec2Site(t *testing.T, service string, settings string, files map[string]string) *site {
	t.Helper()
	s := prepareSite(t, settings, files)
	s.edit(t, "Caddyfile", "dialect openstack", "dialect ec2")
	s.edit(t, "Caddyfile", s.upstream.Address, service)
	s.Run(s.address)
	return s
}

// ec2Guarded is one in front of a scripted service.
func ec2Guarded(t *testing.T, settings string, files map[string]string, requireToken bool) *site {
	t.Helper()
	service := harness.NewEC2(t, harness.EC2Values(), requireToken)
	s := ec2Site(t, service.Address, settings, files)
	s.upstream = service.Upstream
	return s
}

const (
	ec2Role     = "/latest/meta-data/iam/security-credentials/web+role,a=b.c@d_e"
	ec2Document = "/latest/dynamic/instance-identity/document"
	ec2MAC      = "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d"
	ec2Put      = "PUT /latest/api/token"
)

var ec2Grant = map[string]string{"policy/data.json": grant(instance1, "credentials:read")}

// Every kind of resource, as an instance gets it without a session.
func TestEC2Kinds(t *testing.T) {
	t.Parallel()
	s := ec2Guarded(t, byAddress+"\nsession optional", nil, false)
	for _, test := range []struct {
		path   string
		kind   string
		status int
		holds  string
	}{
		{"/", "listing", 200, "latest"},
		{"/latest/", "listing", 200, "dynamic\nmeta-data\nuser-data"},
		{"/2009-04-04/", "listing", 200, "user-data"},
		{"/2009-04-04/meta-data/ami-id", "metadata", 200, "ami-0abcdef1234567890"},
		{"/latest/user-data", "userdata", 200, "#cloud-config\n{}\n"},
		{"/latest/dynamic/fws/instance-monitoring", "metadata", 200, "disabled"},
		{"/latest/meta-data/public-keys/", "listing", 200, "0=my-public-key"},
		{"/latest/meta-data/public-keys/0/", "listing", 200, "openssh-key"},
		{"/latest/meta-data/public-keys/0/openssh-key", "metadata", 200, "ssh-rsa AAAA my-public-key"},
		{"/latest/meta-data/managed-ssh-keys/active-keys/ubuntu/", "metadata", 200, "temporary"},
		{"/latest/meta-data/spot/instance-action", "metadata", 200, `"stop"`},
		{"/latest/meta-data/tags/instance/team:cost,center@x+y", "metadata", 200, "42"},
		{"/latest/meta-data/security-groups", "metadata", 200, "default\nweb servers"},
		{ec2MAC + "/local-ipv4s", "network", 200, "10.251.50.12\n10.251.50.13"},
		{ec2MAC + "/ipv4-associations/192.0.2.54", "network", 200, "10.251.50.12"},
		{"/latest/meta-data/iam/info", "metadata", 200, "instance-profile/web"},
		{"/latest/meta-data/identity-credentials/ec2/info", "metadata", 200, "AccountId"},
		{"/latest/meta-data/kernel-id", "metadata", 404, ""}, // the service's own word
		{ec2Role, "credentials", 404, "policy_deny"},
		{"/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", "credentials", 404, "policy_deny"},
		{ec2Document, "credentials", 404, "policy_deny"},
		{"/latest/dynamic/instance-identity/pkcs7", "credentials", 404, "policy_deny"},
		{"/latest/dynamic/instance-identity/rsa2048", "credentials", 404, "policy_deny"},
		{"/latest/dynamic/instance-identity/signature", "credentials", 404, "policy_deny"},
		{"/latest/meta-data/nothing", "unknown", 404, "policy_deny"},
		{"/2099-01-01/meta-data/ami-id", "unknown", 404, "policy_deny"},
	} {
		s.upstream.Forget()
		answer := s.get(t, test.path)
		if answer.Status != test.status || !strings.Contains(answer.Body, test.holds) {
			t.Errorf("%s: %d %q", test.path, answer.Status, answer.Body)
		}
		if line := s.decisionOf(t, answer); line["resource"] != test.kind {
			t.Errorf("%s: resource %v", test.path, line["resource"])
		}
		refused := strings.Contains(answer.Body, "policy_deny")
		requests := s.upstream.Requests()
		if refused {
			if len(requests) != 0 {
				t.Errorf("%s: reached the server: %q", test.path, requests)
			}
			continue
		}
		if len(requests) != 1 || !strings.HasPrefix(requests[0], "GET "+test.path+" HTTP/1.1\r\n") ||
			strings.Count(requests[0], "X-Forwarded-For: 127.0.0.1\r\n") != 1 {
			t.Errorf("%s: the server saw %q", test.path, requests)
		}
	}
}

// Nothing but a token has another method than GET and HEAD, whoever asks.
func TestEC2Methods(t *testing.T) {
	t.Parallel()
	s := ec2Guarded(t, byAddress, ec2Grant, false)
	for _, path := range []string{"/", "/latest/meta-data/instance-id", "/latest/user-data", ec2Role, ec2Document, "/latest/meta-data/tags/instance/"} {
		for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			if answer := s.ask(t, "", method+" "+path); answer.Status != 405 || answer.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d %v", method, path, answer.Status, answer.Header)
			}
		}
	}
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS"} {
		if answer := s.ask(t, "", method+" /latest/api/token", ttlHeader+": 60"); answer.Status != 405 || answer.Header.Get("Allow") != "PUT" {
			t.Errorf("%s of a token: %d %v", method, answer.Status, answer.Header)
		}
	}
	if requests := s.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
	if answer := s.ask(t, "", "HEAD "+ec2Role); answer.Status != 200 || answer.Body != "" {
		t.Errorf("HEAD: %+v", answer)
	}
}

// Credentials and identity documents are for the instance itself in a session, or
// A crawl through Metaguard is one without it, but for what the policy hides:
// One path has one reading.
func TestEC2Spellings(t *testing.T) {
	t.Parallel()
	s := ec2Guarded(t, byAddress, nil, false)
	for _, test := range []struct {
		path, forwarded, reason string
	}{
		{"/latest/meta-data/instance-id", "/latest/meta-data/instance-id", ""},
		{"//latest///meta-data/instance-id", "/latest/meta-data/instance-id", ""},
		{"/latest/meta-data/instance%2Did?", "/latest/meta-data/instance-id", ""},
		{strings.ReplaceAll(ec2MAC, ":", "%3A") + "/mac", ec2MAC + "/mac", ""},
		{"/latest/meta-data/tags/instance/team%3acost%2Ccenter%40x%2By", "/latest/meta-data/tags/instance/team:cost,center@x+y", ""},
		{"/latest/meta-data/x/../iam/security-credentials/web", "", "request_ambiguous"},
		{"/latest/meta-data/%2e%2e/dynamic/instance-identity/document", "", "request_ambiguous"},
		{"/latest/meta-data/iam%2Fsecurity-credentials/web", "", "request_ambiguous"},
		{"/latest/meta-data/iam/security%252Dcredentials/web", "", "request_ambiguous"},
		{"/latest/meta-data/instance-id;x", "", "request_ambiguous"},
		{"/latest/meta-data/instance-id%00", "", "request_ambiguous"},
		{"/latest/meta-data/instance-id?a=b", "", "request_ambiguous"},
		{"/latest/meta-data/instance-id?recursive=true", "", "request_ambiguous"},
		{"/latest/meta-data/tags/instance/a%20b", "", "request_ambiguous"},
		{"/LATEST/meta-data/instance-id", "", "policy_deny"},
		{"/latest/Dynamic/instance-identity/document", "", "policy_deny"},
		{"/latest/dynamic/Instance-Identity/document", "", "policy_deny"},
	} {
		s.upstream.Forget()
		answer := s.get(t, test.path)
		requests := s.upstream.Requests()
		switch {
		case test.reason != "":
			if reason(answer) != test.reason || len(requests) != 0 {
				t.Errorf("%s: %d %q, the server saw %q", test.path, answer.Status, answer.Body, requests)
			}
		case answer.Status != 200 || len(requests) != 1 || !strings.HasPrefix(requests[0], "GET "+test.forwarded+" HTTP/1.1\r\n"):
			t.Errorf("%s: %d %q, the server saw %q", test.path, answer.Status, answer.Body, requests)
		}
	}
}

// A directory without its slash is one, as in EC2; the place is Metaguard's own
// word.
func TestEC2Directories(t *testing.T) {
	t.Parallel()
	s := ec2Guarded(t, byAddress, nil, false)
	for _, path := range []string{"/latest", "/latest/meta-data", "/latest/meta-data/placement", ec2MAC} {
		if answer := s.get(t, path); answer.Status != 301 || answer.Header.Get("Location") != path+"/" {
			t.Errorf("%s: %d %v", path, answer.Status, answer.Header)
		}
	}
	s.upstream.Script(func(string) string {
		return "HTTP/1.1 301 Moved Permanently\r\nLocation: http://169.254.169.254" + ec2Role + "\r\nContent-Length: 0\r\n\r\n"
	})
	if answer := s.get(t, "/latest/meta-data"); answer.Status != 502 || answer.Header.Get("Location") != "" {
		t.Errorf("elsewhere: %d %v", answer.Status, answer.Header)
	}
}

// What a decision hides of a document is hidden in it, and in no other.
func TestEC2Redaction(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"policy/data.json": ec2Grant["policy/data.json"],
		"policy/team.rego": `package metaguard.team

redact_keys contains "accountId" if input.resource.kind == "credentials"

redact_json contains "/InstanceProfileId" if input.resource.key == "meta-data/iam/info"
`,
	}
	s := ec2Guarded(t, byAddress, files, false)
	if answer := s.get(t, ec2Document); answer.Status != 200 || strings.Contains(answer.Body, "123456789012") || !strings.Contains(answer.Body, "us-west-2") {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if answer := s.get(t, "/latest/meta-data/iam/info"); answer.Status != 200 || strings.Contains(answer.Body, "AIPA") || !strings.Contains(answer.Body, "123456789012") {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	// Half a document passes nobody.
	s.upstream.Script(func(string) string { return harness.OK(`{"Code":"Success","SecretAccessKey":"secret-key`) })
	if answer := s.get(t, ec2Role); answer.Status != 502 || strings.Contains(answer.Body, "secret-key") {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}

// With sessions off the server's own tokens pass, and EC2's rules hold that
// The shipped Caddyfile answers those in its inventory, in a session.
func TestEC2Caddyfile(t *testing.T) {
	t.Parallel()
	service := harness.NewEC2(t, harness.EC2Values(), false)
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	_, port, _ := net.SplitHostPort(address)
	m := shippedSite(t, "ec2.Caddyfile", address, service.Upstream, map[string]string{"http://:80 ": "http://:" + port + " "})
	m.edit(t, "ec2/inventory.json", "192.0.2.5", "127.0.0.1")
	m.Run(address)
	ask := func(from, first, line string) harness.Answer {
		return harness.RawFrom(t, from, address, first+" HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n"+line+"\r\n\r\n")
	}
	token := ask("", ec2Put, ttlHeader+": 60")
	if token.Status != 200 {
		t.Fatalf("%+v", token)
	}
	for _, test := range []struct {
		from, path, token string
		status            int
		reason            string
	}{
		{"", "/latest/meta-data/instance-id", token.Body, 200, ""},
		{"", ec2Role, token.Body, 200, ""},
		{"", "/latest/meta-data/nothing", token.Body, 404, "policy_deny"},
		{"", "/latest/meta-data/instance-id", "", 401, "session_missing"},
		{"", ec2Role, "", 401, "session_missing"},
		{"127.0.0.2", "/latest/meta-data/instance-id", token.Body, 401, "identity_missing"},
	} {
		line := "Accept: */*"
		if test.token != "" {
			line = tokenHeader + ": " + test.token
		}
		if answer := ask(test.from, "GET "+test.path, line); answer.Status != test.status || test.reason != "" && reason(answer) != test.reason {
			t.Errorf("%+v: %d %q", test, answer.Status, answer.Body)
		}
	}
	if answer := harness.Raw(t, address, "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"); reason(answer) != "host_refused" {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
}
