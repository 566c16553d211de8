// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// soakCaddyfile is a site of every kind. Its generations, a and b, differ in two
// settings that show in one answer: a refusal of generation a has status 403 and
// comes from policy-a.
const soakCaddyfile = `{
	admin ADMIN
	persist_config off
	grace_period 30s
	log {
		level INFO
		format json
		exclude admin.api http.handlers.metaguard.event
		output file DIR/logs/metaguard.log {
			roll_size 1MiB
			roll_uncompressed
			roll_keep 1000
		}
	}
}
http://:NEUTRON {
	bind 127.0.0.1
	metaguard {
		upstream UPSTREAM {
			transport http {
				keepalive 2m
			}
		}
		dialect openstack
		identify neutron {
			secret {file.DIR/secret-1} {file.DIR/secret-2}
			trust 127.4.0.0/16
		}
		policy policy-GENERATION live/current {
			candidate candidate
			timeout 10m
		}
		deny_status STATUS
		password {
			write_once 10m
			latch LATCH
			fingerprint_key {file.DIR/fingerprint-1} {file.DIR/fingerprint-2}
		}
	}
}
http://:BUNDLES {
	bind 127.0.0.1
	metaguard {
		upstream UPSTREAM {
			transport http {
				keepalive 2m
			}
		}
		dialect openstack
		identify remote_ip inventory.json
		policy {
			opa opa.yaml
			ready_timeout 30s
			timeout 10m
		}
	}
}
http://:TOKENS {
	bind 127.0.0.1
	metaguard {
		upstream UPSTREAM
		dialect openstack
		identify jwt {
			issuer https://issuer.example
			audience metaguard
			jwks jwks.json
		}
		identify keystone {
			url KEYSTONE/v3
			cache off
		}
		identify remote_ip inventory.json
		policy {
			timeout 10m
		}
		session optional {
			key {file.DIR/session-1} {file.DIR/session-2}
		}
		deny_status STATUS
	}
}
http://:WAITS {
	bind 127.0.0.1
	metaguard {
		upstream GCE
		dialect gce
		identify remote_ip inventory.json
		policy {
			timeout 10m
		}
	}
}
http://:AUDIT {
	bind 127.0.0.1
	metaguard {
		upstream UPSTREAM
		dialect openstack
		identify remote_ip inventory.json
		policy policy-GENERATION live/current {
			timeout 10m
		}
		mode audit
	}
}
`

const soakGrants = `{"metaguard": {"grants": {"project_id": {"` + projectA + `": ["password:read"]}}}}`

// soak is a process with a site of every kind, in front of servers of the test.
type soak struct {
	*managed
	traffic
	addresses  map[string]string // by site
	legacy     *keepingServer
	control    *control
	gce        *harness.GCE
	tokens     *issuer
	replace    *strings.Replacer
	generation string
	numbers    map[string]int // how often each thing was rotated
	agent      atomic.Pointer[string]
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{
		legacy: newKeepingServer(t), control: newControl(t), gce: harness.NewGCE(t), tokens: newIssuer(t),
		addresses: make(map[string]string), numbers: make(map[string]int),
	}
	s.control.put(t, "r1", "userdata")
	s.managed = prepareManaged(t, byAddress, nil)
	pairs := []string{
		"ADMIN", s.admin.Listen, "DIR", s.Dir, "UPSTREAM", s.legacy.address, "GCE", s.gce.Address, "KEYSTONE", s.tokens.keystone, "LATCH", s.latch(t),
	}
	for _, site := range []string{"NEUTRON", "BUNDLES", "TOKENS", "WAITS", "AUDIT"} {
		port := harness.FreePort(t)
		s.addresses[site] = fmt.Sprint("127.0.0.1:", port)
		pairs = append(pairs, ":"+site, fmt.Sprint(":", port))
	}
	s.replace = strings.NewReplacer(pairs...)
	for name, content := range map[string]string{
		"opa.yaml": s.control.opa(""), "jwks.json": s.tokens.keys,
		"policy-a/team.rego": soakPolicy("a"), "policy-b/team.rego": soakPolicy("b"), "candidate/team.rego": denyMetadata,
		"policy-a/data.json": soakGrants, "policy-b/data.json": soakGrants,
		"session-1": strings.Repeat("0", 32), "session-2": strings.Repeat("1", 32),
		"fingerprint-1": strings.Repeat("0", 64), "fingerprint-2": strings.Repeat("1", 64),
		"secret-1": "agent-secret-0", "secret-2": "agent-secret-0",
		"broken/team.rego": brokenPolicy, "away.yaml": strings.ReplaceAll(s.control.opa(""), "team.tar.gz", "nothing.tar.gz"),
	} {
		s.Write(name, content)
	}
	first := "agent-secret-0"
	s.agent.Store(&first)
	s.editInventory()
	s.editLive(t)
	s.generation = "a"
	s.Write("Caddyfile", s.caddyfile("a"))
	t.Cleanup(func() {
		if t.Failed() {
			log := s.log(t)
			t.Logf("%s", log[max(0, len(log)-4000):])
		}
	})
	s.Run(s.addresses["NEUTRON"])
	return s
}

// latch is in Redis where there is one.
func (s *soak) latch(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil || os.Getenv("METAGUARD_REDIS") == "off" {
		return "file"
	}
	s.Write("redis-url", "redis://"+harness.StartRedis(t).Address)
	return "redis {file." + filepath.Join(s.Dir, "redis-url") + "}"
}

func (s *soak) caddyfile(generation string) string {
	status := map[string]string{"a": "403", "b": "404"}[generation]
	return strings.NewReplacer("GENERATION", generation, "STATUS", status).Replace(s.replace.Replace(soakCaddyfile))
}

func soakPolicy(generation string) string {
	return fmt.Sprintf("package metaguard.team\n\ndeny contains \"gen_%s\" if input.resource.kind == \"userdata\"\n", generation)
}

// log is all that was written, in however many files it lies.
func (s *soak) log(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.Dir, "logs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // renamed just now; who waits for it looks again
		}
		all.Write(content)
	}
	return all.String()
}

// keepingServer is a legacy server that keeps connections, and counts them.
type keepingServer struct {
	address string
	open    atomic.Int64

	mu    sync.Mutex
	taken map[string]string
}

func newKeepingServer(t *testing.T) *keepingServer {
	t.Helper()
	k := &keepingServer{taken: make(map[string]string)}
	server := httptest.NewUnstartedServer(k)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			k.open.Add(1)
		case http.StateClosed:
			k.open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	k.address = strings.TrimPrefix(server.URL, "http://")
	return k
}

func (k *keepingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	k.mu.Lock()
	defer k.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	instance := r.Header.Get("X-Instance-ID")
	switch {
	case !strings.HasSuffix(r.URL.Path, "/password"):
		_, _ = io.WriteString(w, r.URL.Path)
	case r.Method == http.MethodPost:
		k.taken[instance] = string(body)
	default:
		_, _ = io.WriteString(w, k.taken[instance])
	}
}
