// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// find says where the programs are that a variant needs, or which is missing. OPA is
// built in the version that Metaguard has in it, where there is none.
func (b *bench) find(ctx context.Context, v *variant) (missing string, err error) {
	for _, name := range v.needs {
		if b.programs[name] != "" {
			continue
		}
		path, err := exec.LookPath(name)
		if err == nil {
			b.programs[name] = path
			continue
		}
		if name != "opa" {
			return name, nil
		}
		say("building opa")
		if b.programs[name], err = b.buildOPA(ctx); err != nil {
			return "", err
		}
	}
	return "", nil
}

// buildOPA builds OPA's own command, by its own go.mod: it needs modules that nothing
// else here does.
func (b *bench) buildOPA(ctx context.Context) (string, error) {
	const module = "github.com/open-policy-agent/opa"
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("finding OPA's version: %w", err)
	}
	install := exec.CommandContext(ctx, "go", "install", module+"@"+strings.TrimSpace(string(version)))
	install.Env = append(os.Environ(), "GOBIN="+b.dir)
	if output, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building OPA (give one with --opa, or leave these variants out with --only): %w\n%s", err, output)
	}
	return filepath.Join(b.dir, "opa"), nil
}

// startOPA starts an OPA server for a subject. Its own authorization policy decides:
// that way it says no with a status, which is what nginx and Caddy look at.
func (b *bench) startOPA(ctx context.Context, s *subject) (err error) {
	if s.opa, err = freeAddress(ctx); err != nil {
		return err
	}
	if err := s.write(map[string]string{"opa.rego": opaPolicy()}); err != nil {
		return err
	}
	server, err := startProcess(ctx, s.dir, b.programs["opa"], "run", "--server", "--addr", s.opa,
		"--authorization", "basic", "--log-level", "error", "--disable-telemetry", "opa.rego")
	if err != nil {
		return err
	}
	s.processes = append(s.processes, server)
	return server.waitFor(ctx, s.opa)
}

// opaPolicy verifies the agent's signature and lets instances read what is theirs.
func opaPolicy() string {
	return fmt.Sprintf(`package system.authz

default allow := false

allow if {
	input.method == "GET"
	identified
	readable
}

identified if {
	[id] := input.headers["X-Instance-Id"]
	[signature] := input.headers["X-Instance-Id-Signature"]
	crypto.hmac.equal(signature, crypto.hmac.sha256(id, %q))
}

readable if {
	[path] := input.headers["X-Forwarded-Uri"]
	some prefix in ["/openstack/", "/latest/"]
	startswith(path, prefix)
	not endswith(path, "/password")
}
`, neutronSecret)
}

// startNginx starts nginx with as many workers as there are processors and without a log.
func (b *bench) startNginx(ctx context.Context, s *subject) error {
	authorize, location := "", ""
	if s.opa != "" {
		authorize = "auth_request /_opa;"
		location = fmt.Sprintf(`
		location = /_opa {
			internal;
			proxy_pass http://opa/health;
			proxy_pass_request_body off;
			proxy_set_header Content-Length "";
			proxy_set_header Connection "";
			proxy_set_header X-Forwarded-Uri $request_uri;
		}
	}
	upstream opa {
		server %s;
		keepalive 128;
`, s.opa)
	}
	config := fmt.Sprintf(`daemon off;
worker_processes auto;
pid nginx.pid;
error_log error.log;
events { worker_connections 8192; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	proxy_http_version 1.1;
	upstream server {
		server %s;
		keepalive 128;
		keepalive_requests 1000000000;
	}
	server {
		listen %s;
		location / {
			%s
			proxy_pass http://server;
			proxy_set_header Connection "";
		}%s
	}
}
`, s.upstream, s.address, authorize, location)
	if err := s.write(map[string]string{"nginx.conf": config}); err != nil {
		return err
	}
	server, err := startProcess(ctx, s.dir, b.programs["nginx"], "-p", s.dir+"/", "-c", "nginx.conf", "-e", "error.log")
	if err != nil {
		return err
	}
	s.processes = append(s.processes, server)
	return server.waitFor(ctx, s.address)
}
