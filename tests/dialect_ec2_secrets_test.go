// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// with a grant, and for nobody else.
func TestEC2Credentials(t *testing.T) {
	t.Parallel()
	secrets := []string{
		ec2Role, ec2Role + "/", "/2012-01-12" + strings.TrimPrefix(ec2Role, "/latest"), ec2Document, "/latest/dynamic/instance-identity/rsa2048",
		"/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
	}
	for _, mode := range []string{"optional", "required"} {
		s := ec2Guarded(t, byAddress+"\nsession "+mode, nil, false)
		one, two := tokenHeader+": "+s.token(t, "127.0.0.1"), tokenHeader+": "+s.token(t, "127.0.0.2")
		without := "policy_deny"
		if mode == "required" {
			without = "session_missing"
		}
		for _, path := range secrets {
			for name, test := range map[string]struct {
				from, token string
				reason      string
			}{
				"no session":                   {"127.0.0.1", "Accept: */*", without},
				"the session of another":       {"127.0.0.1", two, "session_invalid"},
				"another's, of its own":        {"127.0.0.2", one, "session_invalid"},
				"an invented session":          {"127.0.0.1", tokenHeader + ": " + harness.EC2Token, "session_invalid"},
				"an unidentified caller":       {"127.0.0.9", "Accept: */*", "identity_missing"},
				"an unidentified one with it":  {"127.0.0.9", one, "identity_missing"},
				"who says to be another":       {"127.0.0.9", one + "\r\nX-Forwarded-For: 127.0.0.1", "identity_missing"},
				"a session in a query":         {"127.0.0.1", "", "request_ambiguous"},
				"one header under another's":   {"127.0.0.1", one + "\r\n" + tokenHeader + ": x", "header_refused"},
				"a token with an underscore":   {"127.0.0.1", strings.ReplaceAll(one, "-Ec2-", "_Ec2_"), without},
				"another instance's by target": {"127.0.0.2", "X-Metaguard-Target: " + instance1, without},
			} {
				first := "GET " + path
				if test.token == "" {
					first, test.token = first+"?"+tokenHeader+"=x", "Accept: */*"
				}
				if answer := s.ask(t, test.from, first, test.token); reason(answer) != test.reason || strings.Contains(answer.Body, "secret-key") {
					t.Errorf("%s, %s, %s: %d %q", mode, path, name, answer.Status, answer.Body)
				}
			}
		}
		if requests := s.upstream.Requests(); len(requests) != 0 {
			t.Errorf("%s: the server saw %q", mode, requests)
		}
		// Each gets its own, whatever it says of itself.
		for from, token := range map[string]string{"127.0.0.1": one, "127.0.0.2": two} {
			answer := s.ask(t, from, "GET "+ec2Role, token, "X-Forwarded-For: 127.0.0.3", "Forwarded: for=127.0.0.3")
			if answer.Status != 200 || !strings.Contains(answer.Body, "secret-key-of-"+from+`"`) {
				t.Errorf("%s, %s: %d %q", mode, from, answer.Status, answer.Body)
			}
		}
		for _, request := range s.upstream.Requests() {
			if strings.Contains(strings.ToLower(request), "x-aws-ec2") {
				t.Errorf("%s: the server saw %q", mode, request)
			}
		}
		if log := s.Log(); strings.Contains(log, "secret-key") || strings.Contains(log, strings.TrimPrefix(one, tokenHeader+": ")) {
			t.Errorf("%s: a secret stands in the log", mode)
		}
	}

	granted := ec2Guarded(t, byAddress, ec2Grant, false)
	for from, status := range map[string]int{"127.0.0.1": 200, "127.0.0.2": 404, "127.0.0.9": 401} {
		for _, path := range secrets {
			if answer := granted.ask(t, from, "GET "+path); answer.Status != status {
				t.Errorf("a grant for 127.0.0.1: %s, %s: %d %q", from, path, answer.Status, answer.Body)
			}
		}
	}
}

// A caller that is no instance gets what was granted it, of what it may reach.
func TestEC2CredentialsOfAnotherInstance(t *testing.T) {
	t.Parallel()
	s, authority := secureSite(t, "identify mtls {\n\ttarget request inventory.json\n}\n"+policyDirectory, map[string]string{
		"policy/data.json": `{"metaguard": {"grants": {"caller_id": {"subject:CN=all": ["credentials:read", "target:any"], "subject:CN=own": ["credentials:read"], "subject:CN=other": ["metadata:read", "target:any"]}}}}`,
	})
	service := harness.NewEC2(t, harness.EC2Values(), false)
	s.edit(t, "Caddyfile", "dialect openstack", "dialect ec2")
	s.edit(t, "Caddyfile", s.upstream.Address, service.Address)
	s.Run(s.address)
	for name, status := range map[string]int{"all": 200, "own": 404, "other": 404, "nobody": 404} {
		service.Forget()
		certificate := authority.Issue(named(name))
		answer := s.over(t, authority, &certificate, "GET "+ec2Role+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Metaguard-Target: "+instance1+"\r\n\r\n")
		if answer.Status != status || (len(service.Requests()) == 1) != (status == 200) {
			t.Errorf("%s: %d %q, the server saw %q", name, answer.Status, answer.Body, service.Requests())
		}
	}
}

// Metaguard would hide from it.
func TestEC2OwnTokens(t *testing.T) {
	t.Parallel()
	s := ec2Guarded(t, byAddress, ec2Grant, true)
	s.Stop()
	s.Write("logging.caddy", shippedFile(t, "logging.caddy"))
	s.edit(t, "Caddyfile", "format json", "import logging.caddy")
	s.Run(s.address)
	const ttl = ttlHeader + ": 60"
	token := s.ask(t, "", ec2Put, ttl, "Content-Length: 0")
	if token.Status != 200 || token.Body != harness.EC2Token || token.Header.Get(ttlHeader) != "60" {
		t.Fatalf("%+v", token)
	}
	requests := s.upstream.Requests()
	if len(requests) != 1 || !strings.HasPrefix(requests[0], ec2Put+" HTTP/1.1\r\n") || !strings.Contains(requests[0], ttl+"\r\n") || strings.Contains(strings.ToLower(requests[0]), "forwarded") {
		t.Errorf("the server saw %q", requests)
	}
	for _, test := range []struct {
		name, first, line string
		from              string
		status            int
		reason            string
	}{
		{"with it", "GET /latest/meta-data/ami-id", tokenHeader + ": " + harness.EC2Token, "", 200, ""},
		{"credentials with it and a grant", "GET " + ec2Role, tokenHeader + ": " + harness.EC2Token, "", 200, ""},
		{"credentials with it alone", "GET " + ec2Role, tokenHeader + ": " + harness.EC2Token, "127.0.0.2", 404, "policy_deny"},
		{"without it", "GET /latest/meta-data/ami-id", "Accept: */*", "", 401, ""},
		{"with another", "GET /latest/meta-data/ami-id", tokenHeader + ": x", "", 401, ""},
		{"a life that is none", ec2Put, ttlHeader + ": 0", "", 400, ""},
		{"through a proxy", ec2Put, ttl + "\r\nX-Forwarded-For: 192.0.2.1", "", 403, "header_refused"},
		{"through a proxy of nobody", ec2Put, ttl + "\r\nX-Forwarded-For:", "", 403, "header_refused"},
		{"through another", ec2Put, ttl + "\r\nForwarded: for=192.0.2.1", "", 403, "header_refused"},
		{"with a body", ec2Put, ttl + "\r\nContent-Length: 1\r\n\r\nx", "", 400, "body_unexpected"},
		{"of nobody", ec2Put, ttl, "127.0.0.9", 401, "identity_missing"},
		{"with a slash", ec2Put + "/", ttl, "", 405, "method_not_allowed"},
		{"in a version", "PUT /2021-07-15/api/token", ttl, "", 405, "method_not_allowed"},
	} {
		answer := s.ask(t, test.from, test.first, test.line)
		if answer.Status != test.status || test.reason != "" && reason(answer) != test.reason || strings.Contains(answer.Body, "<html>") {
			t.Errorf("%s: %d %q", test.name, answer.Status, answer.Body)
		}
	}
	if strings.Contains(s.Log(), harness.EC2Token) {
		t.Error("the server's token stands in the log")
	}

	// With sessions on, Metaguard's stand in front, and the server sees of them
	// nothing at all.
	for _, mode := range []string{"optional", "required"} {
		s := ec2Guarded(t, byAddress+"\nsession "+mode, nil, false)
		own := s.token(t, "")
		for _, test := range []struct {
			first, line string
			status      int
		}{
			{"GET /latest/meta-data/ami-id", tokenHeader + ": " + own, 200},
			{"GET /latest/meta-data/ami-id", tokenHeader + ": " + own + "\r\n" + ttlHeader + ": 60", 200},
			{"GET /latest/meta-data/ami-id", tokenHeader + ": " + harness.EC2Token, 401},
			{ec2Put, ttl + "\r\nX-Forwarded-For: 192.0.2.1", 403},
			{ec2Put, "Accept: */*", 400},
			{ec2Put + "/", ttl + "\r\n" + tokenHeader + ": " + own, 405},
			{"PUT /2021-07-15/api/token", ttl + "\r\n" + tokenHeader + ": " + own, 405},
		} {
			if answer := s.ask(t, "", test.first, test.line); answer.Status != test.status {
				t.Errorf("%s: %s, %s: %d %q", mode, test.first, test.line, answer.Status, answer.Body)
			}
		}
		for _, request := range s.upstream.Requests() {
			if lower := strings.ToLower(request); strings.Contains(lower, "x-aws-ec2") || strings.Contains(lower, "/api/token") {
				t.Errorf("%s: the server saw %q", mode, request)
			}
		}
	}
}
