// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const caddyfiles = "../caddyfiles"

// ownLines is the logger of Metaguard's lines about requests.
var ownLines = []string{"http.handlers.metaguard"}

// shipped lists the Caddyfiles that come with the repository.
func shipped(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(caddyfiles, "*.Caddyfile"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%q %v", files, err)
	}
	return files
}

// Every shipped Caddyfile is valid where it lies, formatted, host-less, keeps
// secrets out of its logs and its admin API off the network.
func TestShippedCaddyfiles(t *testing.T) {
	t.Parallel()
	for _, file := range shipped(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			p := newShipped(t, nil)
			if output, err := p.Command("validate", "--config", file); err != nil || strings.Contains(output, secret) {
				t.Errorf("%v\n%s", err, output)
			}
			isFormatted(t, p, file)
			config := decode(t, p, file)
			quickstart := strings.HasPrefix(filepath.Base(file), "quickstart.")
			if listen := config.Admin.Listen; !strings.HasPrefix(listen, "unix/") && !config.Admin.Disabled && !quickstart {
				t.Errorf("the admin API listens on %q", listen)
			} else if strings.HasPrefix(listen, "unix/") && !strings.HasSuffix(listen, "|0600") {
				t.Errorf("others may reach the admin API: %q", listen)
			} else if quickstart && listen != "localhost:2019" {
				t.Errorf("the admin API listens on %q", listen)
			}
			if own, others := config.Logging.Logs["metaguard"], config.Logging.Logs["default"]; !slices.Equal(own.Include, ownLines) ||
				!slices.Equal(others.Exclude, append(ownLines, "metaguard.reverse_proxy")) {
				t.Errorf("it does not import loggers.caddy: %v %v", own, others)
			}
			for name, log := range config.Logging.Logs {
				if slices.Equal(log.Include, ownLines) {
					continue // whose lines hold no secret: TestNoSecretInAnyLog
				}
				if !strings.Contains(string(log.Encoder), `"request\u003eheaders":{"filter":"delete"}`) && !strings.Contains(string(log.Encoder), `"request>headers":{"filter":"delete"}`) {
					t.Errorf("log %s does not import logging.caddy: %s", name, log.Encoder)
				}
			}
			for name, server := range config.Apps.HTTP.Servers {
				for _, route := range server.Routes {
					if route.Match != nil {
						t.Errorf("%s answers some requests only: %s", name, route.Match)
					}
				}
			}
		})
	}
	for _, imported := range []string{"loggers.caddy", "logging.caddy"} {
		t.Run(imported, func(t *testing.T) {
			isFormatted(t, harness.New(t, nil), filepath.Join(harness.Root(t), "caddyfiles", imported))
		})
	}
}

// isFormatted holds a file against what `fmt` makes of it.
func isFormatted(t *testing.T, p *harness.Process, file string) {
	t.Helper()
	if output, err := p.Command("fmt", "--diff", file); err != nil {
		t.Errorf("not formatted: %v\n%s", err, output)
	}
}

// adaptedConfig is what these tests look at in an adapted Caddyfile.
type adaptedConfig struct {
	Admin struct {
		Disabled bool
		Listen   string
	}
	Logging struct {
		Logs map[string]struct {
			Include, Exclude []string
			Encoder          json.RawMessage
		}
	}
	Apps struct {
		HTTP struct {
			Servers map[string]struct {
				Routes []struct{ Match json.RawMessage }
			}
		}
	}
}

func decode(t *testing.T, p *harness.Process, file string) (config adaptedConfig) {
	t.Helper()
	output, err := p.Command("adapt", "--config", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for line := range strings.Lines(output) { // the rest are log lines
		if strings.HasPrefix(line, `{"admin"`) {
			if err := json.Unmarshal([]byte(line), &config); err != nil {
				t.Fatal(err)
			}
			return config
		}
	}
	t.Fatalf("nothing was adapted:\n%s", output)
	return config
}

// newShipped is a process that has what shipped Caddyfiles ask of an operator.
func newShipped(t *testing.T, files map[string]string) *harness.Process {
	t.Helper()
	authority := harness.NewAuthority(t)
	certificate, key := authority.Server()
	all := map[string]string{"tls.pem": certificate, "tls.key": key, "ca.pem": authority.PEM()}
	maps.Copy(all, files)
	p := harness.New(t, all, "METAGUARD_NEUTRON_SECRET="+secret)
	for name, file := range map[string]string{"TLS_CERTIFICATE": "tls.pem", "TLS_KEY": "tls.key", "CLIENT_CA": "ca.pem", "JWKS_CA": "ca.pem"} {
		p.Setenv("METAGUARD_"+name, filepath.Join(p.Dir, file))
	}
	for name, value := range map[string]string{
		"POLICY_URL": "http://127.0.0.1:1", "POLICY_TOKEN": policyToken, "REPLICA": "a", "REDIS_URL": "redis://127.0.0.1:1",
		"FINGERPRINT_KEY": sharedKey, "SESSION_KEY": sharedKey,
	} {
		p.Setenv("METAGUARD_"+name, value)
	}
	return p
}

// shippedSite is a shipped Caddyfile in a folder of its own, with what lies
// beside it, after replacing what must differ in a test.
func shippedSite(t *testing.T, name, address string, upstream *harness.Upstream, replace map[string]string) *managed {
	t.Helper()
	files := make(map[string]string)
	root := os.DirFS(caddyfiles)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &managed{admin: harness.NewAdmin(t), site: &site{
		Process: newShipped(t, files), address: address, upstream: upstream,
	}}
	if upstream != nil {
		m.Setenv("METAGUARD_UPSTREAM", upstream.Address)
	}
	m.Write("Caddyfile", files[name])
	for old, replacement := range replace {
		m.edit(t, "Caddyfile", old, replacement)
	}
	if strings.Contains(files[name], "unix//run/metaguard/admin.sock|0600") {
		m.edit(t, "Caddyfile", "unix//run/metaguard/admin.sock|0600", m.admin.Listen)
	}
	return m
}

// The quickstart, as a new user would go through it.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	guard, server, api := harness.FreePort(t), harness.FreePort(t), harness.FreePort(t)
	s := shippedSite(t, "quickstart.Caddyfile", fmt.Sprintf("127.0.0.1:%d", guard), nil, map[string]string{
		":8080": fmt.Sprint(":", guard), ":8775": fmt.Sprint(":", server), "localhost:2019": fmt.Sprint("localhost:", api),
	})
	s.Run(s.address)
	const passwordPath = "/openstack/latest/password"
	expect := func(what string, answer harness.Answer, status int, body string) {
		t.Helper()
		if answer.Status != status || answer.Body != body {
			t.Errorf("%s: %d %q %v, want %d %q", what, answer.Status, answer.Body, answer.Err, status, body)
		}
	}
	direct := func(path string) harness.Answer {
		return harness.Raw(t, fmt.Sprint("127.0.0.1:", server), "GET "+path+" HTTP/1.1\r\nHost: m\r\nX-Forwarded-For: 10.0.0.33\r\n\r\n")
	}
	if answer := direct(passwordPath); answer.Status != 200 || answer.Body == "" {
		t.Errorf("the server gives anyone another's password: %d %q", answer.Status, answer.Body)
	}
	expect("versions", s.get(t, "/openstack"), 200, direct("/openstack").Body)
	if listing := s.get(t, "/openstack/latest/"); listing.Status != 200 || !strings.Contains(listing.Body, "meta_data.json") || strings.Contains(listing.Body, "password") {
		t.Errorf("listing: %d %q", listing.Status, listing.Body)
	}
	var document struct{ UUID, Name string }
	answer := s.get(t, "/openstack/latest/meta_data.json")
	if err := json.Unmarshal([]byte(answer.Body), &document); err != nil || document.UUID != instance1 {
		t.Errorf("meta_data.json: %d %q %v", answer.Status, answer.Body, err)
	}
	expect("a password that may not be read", s.get(t, passwordPath), 200, "")
	expect("the first password", s.post(t, "", "first"), 200, "")
	if second := s.post(t, "", "second"); second.Status != 409 || reason(second) != "password_already_set" {
		t.Errorf("the second password: %d %q", second.Status, second.Body)
	}
	if around := s.get(t, "/openstack//../latest/password"); around.Status != 400 || reason(around) != "request_ambiguous" {
		t.Errorf("around a cleaned path: %d %q", around.Status, around.Body)
	}
	expect("a password that was written and may not be read", s.get(t, passwordPath), 200, "")

	commented := shippedFile(t, "quickstart/policy/team.rego")
	var rule strings.Builder
	for line := range strings.Lines(commented) {
		if code, found := strings.CutPrefix(line, "# "); found && strings.Contains(rule.String(), "package ") {
			line = code
		}
		rule.WriteString(line)
	}
	if rule.String() == commented {
		t.Fatal("no rule to uncomment")
	}
	readable := func() bool { return s.get(t, passwordPath).Body == "first" }
	s.Write("quickstart/policy/team.rego", rule.String())
	s.Eventually("the uncommented rule lets the password be read", readable)
	if listing := s.get(t, "/openstack/latest/"); !strings.Contains(listing.Body, "password") {
		t.Errorf("the listing still hides what may be read: %q", listing.Body)
	}
	s.Write("quickstart/policy/team.rego", rule.String()+"\nallow contains \"oops\" if {\n")
	s.Eventually("the log names the broken line", func() bool {
		return strings.Contains(s.Log(), fmt.Sprint("team.rego:", strings.Count(rule.String(), "\n")+3)) // where the file ends
	})
	if !readable() {
		t.Error("a broken edit does not keep the last good policy")
	}
	s.Write("quickstart/policy/team.rego", commented)
	s.Eventually("the rule is gone", func() bool { return !readable() })
}

// Between Neutron's agent and Nova.
func TestNeutronCaddyfile(t *testing.T) {
	t.Parallel()
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("name") })
	port := harness.FreePort(t)
	s := shippedSite(t, "neutron.Caddyfile", fmt.Sprint("127.0.0.1:", port), upstream, map[string]string{":8775 {": fmt.Sprint(":", port, " {")})
	s.Run(s.address)
	ask := func(path, headers string) harness.Answer {
		return harness.Raw(t, s.address, "GET "+path+" HTTP/1.1\r\nHost: m\r\n"+headers+"\r\n")
	}
	if answer := ask(metadataPath, agentHeaders(instance1, sign(instance1))); answer.Status != 200 || answer.Body != "name" {
		t.Errorf("signed: %d %q", answer.Status, answer.Body)
	}
	requests := upstream.Requests()
	if len(requests) != 1 {
		t.Fatalf("%d requests", len(requests))
	}
	for _, header := range []string{"X-Instance-Id: " + instance1, "X-Tenant-Id: " + projectA, "X-Instance-Id-Signature: " + sign(instance1), "X-Forwarded-For: 10.0.0.11"} {
		if strings.Count(requests[0], header+"\r\n") != 1 {
			t.Errorf("the server saw not exactly one %.24s… in %d bytes", header, len(requests[0]))
		}
	}
	for name, headers := range map[string]string{
		"unsigned":     "",
		"wrongly":      agentHeaders(instance1, sign(instance2)),
		"two tenants":  agentHeaders(instance1, sign(instance1)) + "X-Tenant-ID: other\r\n",
		"a provider's": agentHeaders(instance1, sign(instance1)) + "X-Metadata-Provider: x\r\n",
	} {
		if answer := ask(metadataPath, headers); answer.Status != 403 && answer.Status != 400 {
			t.Errorf("%s: %d %q", name, answer.Status, answer.Body)
		}
	}
	if answer := ask("/openstack/latest/password", agentHeaders(instance1, sign(instance1))); answer.Status != 200 || answer.Body != "" {
		t.Errorf("password: %d %q", answer.Status, answer.Body)
	}
	if requests := upstream.Requests(); len(requests) != 1 {
		t.Errorf("the server saw %q", requests[1:])
	}
	s.Stop()
	s.Setenv("METAGUARD_AGENT_NETWORK", "127.0.0.2/32")
	s.Run(s.address)
	if answer := ask(metadataPath, agentHeaders(instance1, sign(instance1))); answer.Status != 401 {
		t.Errorf("from elsewhere than METAGUARD_AGENT_NETWORK: %d %q", answer.Status, answer.Body)
	}
}

// A flat network, where callers are known by their address.
func TestStandaloneCaddyfile(t *testing.T) {
	t.Parallel()
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("name") })
	port := harness.FreePort(t)
	s := shippedSite(t, "standalone.Caddyfile", fmt.Sprint("127.0.0.1:", port), upstream, map[string]string{":80 {": fmt.Sprint(":", port, " {")})
	s.Write("standalone/inventory.json", inventory)
	s.Run(s.address)
	for _, test := range []struct {
		from, host, headers string
		status              int
		reason              string
	}{
		{"127.0.0.1", "169.254.169.254", "", 200, ""},
		{"127.0.0.2", "[fe80::a9fe:a9fe%25eth0]", "", 200, ""},
		{"127.0.0.9", "169.254.169.254", "", 401, "identity_missing"},
		{"127.0.0.1", "rebound.example", "", 400, "host_refused"},
		{"127.0.0.1", "169.254.169.254", "X-Forwarded-For: 127.0.0.2\r\nX-Instance-ID: " + instance2 + "\r\n", 200, ""},
	} {
		upstream.Forget()
		answer := harness.RawFrom(t, test.from, s.address, "GET "+metadataPath+" HTTP/1.1\r\nHost: "+test.host+"\r\n"+test.headers+"\r\n")
		if answer.Status != test.status || (test.reason != "" && reason(answer) != test.reason) {
			t.Errorf("%+v: %d %q", test, answer.Status, answer.Body)
		}
		requests := upstream.Requests()
		if test.status != 200 {
			if len(requests) != 0 {
				t.Errorf("%+v: the server saw %q", test, requests)
			}
			continue
		}
		instance := map[string]string{"127.0.0.1": instance1, "127.0.0.2": instance2}[test.from]
		if len(requests) != 1 || strings.Count(requests[0], "X-Instance-Id: "+instance+"\r\n") != 1 || strings.Count(requests[0], "X-Instance-Id-Signature: "+sign(instance)+"\r\n") != 1 {
			t.Errorf("%+v: the server was not told of %s", test, instance)
		}
	}
}
