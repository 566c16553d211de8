// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// ec2Crawl gives the answer to everything that listings name, by path.
func ec2Crawl(t *testing.T, get func(path string) harness.Answer, path string, found map[string]string) {
	t.Helper()
	answer := get(path)
	if answer.Status != 200 {
		found[path] = fmt.Sprintf("%d %s", answer.Status, reason(answer))
		return
	}
	found[path] = answer.Body
	if !strings.HasSuffix(path, "/") {
		return
	}
	for _, entry := range strings.Fields(answer.Body) {
		name, _, key := strings.Cut(entry, "=")
		if key && strings.HasSuffix(path, "/public-keys/") {
			entry = name + "/"
		}
		ec2Crawl(t, get, path+entry, found)
	}
}

// nothing that is listed is refused, and nothing that is refused is listed.
func TestEC2Crawl(t *testing.T) {
	t.Parallel()
	values := harness.EC2Values()
	values["meta-data/password"] = "unlisted anywhere"
	values["meta-data/tags/instance/blank tag"] = "no request can ask for it"
	values["meta-data/tags/instance/Secret"] = "the team's"
	service := harness.NewEC2(t, values, false)
	team := map[string]string{"policy/team.rego": `package metaguard.team

deny contains "secret_tag" if input.resource.key == "meta-data/tags/instance/Secret"

deny contains "no_spot" if startswith(input.resource.key, "meta-data/spot")
`}
	s := ec2Site(t, service.Address, byAddress+"\nsession optional", team)
	own := tokenHeader + ": " + s.token(t, "127.0.0.1")
	hidden := []string{"/latest/meta-data/password", "/latest/meta-data/spot/", "/latest/meta-data/tags/instance/Secret", "/latest/meta-data/tags/instance/blank", "/latest/meta-data/tags/instance/tag"}
	credentials := []string{
		ec2Role, "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", ec2Document,
		"/latest/dynamic/instance-identity/pkcs7", "/latest/dynamic/instance-identity/rsa2048", "/latest/dynamic/instance-identity/signature",
	}
	for name, test := range map[string]struct {
		header string
		hidden []string
	}{
		"in a session":      {own, hidden},
		"without a session": {"Accept: */*", append(credentials, hidden...)},
	} {
		direct, guarded := make(map[string]string), make(map[string]string)
		for _, path := range []string{"/latest/meta-data/", "/latest/dynamic/"} {
			ec2Crawl(t, func(path string) harness.Answer {
				return harness.Raw(t, service.Address, "GET "+path+" HTTP/1.1\r\nHost: m\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n")
			}, path, direct)
			ec2Crawl(t, func(path string) harness.Answer { return s.ask(t, "", "GET "+path, test.header) }, path, guarded)
		}
		for path, body := range guarded {
			listing := strings.HasSuffix(path, "/")
			if !listing && body != direct[path] {
				t.Errorf("%s: %s: %q, directly %q", name, path, body, direct[path])
			}
			if listing && !ec2Subset(body, direct[path]) {
				t.Errorf("%s: %s lists %q, directly %q", name, path, body, direct[path])
			}
		}
		for path := range direct {
			_, there := guarded[path]
			expected := true
			for _, prefix := range test.hidden {
				expected = expected && !strings.HasPrefix(path, prefix)
			}
			if there != expected {
				t.Errorf("%s: %s is found: %t", name, path, there)
			}
		}
	}
	// Versions are listed as they are known.
	if answer := s.get(t, "/"); answer.Body != "1.0\n2009-04-04\n2018-09-24\n2021-03-23\nlatest" {
		t.Errorf("versions: %q", answer.Body)
	}
}

// ec2Subset tells whether every line is one of another listing.
func ec2Subset(listing, of string) bool {
	for line := range strings.Lines(listing) {
		if !strings.Contains("\n"+of+"\n", "\n"+strings.TrimSuffix(line, "\n")+"\n") {
			return false
		}
	}
	return true
}
