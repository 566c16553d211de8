// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// strictNova is a server that believes one secret only.
func strictNova(t *testing.T, secret string) *harness.Upstream {
	t.Helper()
	return harness.NewUpstream(t, func(request string) string {
		for line := range strings.SplitSeq(request, "\r\n") {
			if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "X-Instance-ID-Signature") && value == signWith(secret, instance1) {
				return harness.OK("of a Nova with " + secret)
			}
		}
		return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
	})
}

func (m *managed) reloads(t *testing.T) {
	t.Helper()
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// The README's steps for the secret of Neutron and Nova, under agents that have the
// old one, the new one, and change.
func TestRotateNeutronSecret(t *testing.T) {
	t.Parallel()
	const older, newer = "older-secret", "newer-secret"
	before, after := strictNova(t, older), strictNova(t, newer)
	m := prepareManaged(t, "SOURCE\npolicy policy {\n\ttimeout 10m\n}", map[string]string{"older": older, "newer": newer})
	file := func(name string) string { return "{file." + filepath.Join(m.Dir, name) + "}" }
	source := func(secrets ...string) string {
		return "identify neutron {\n\tsecret " + strings.Join(secrets, " ") + "\n\ttrust 127.5.0.0/16\n}"
	}
	m.edit(t, "Caddyfile", "SOURCE", source(file("older")))
	m.edit(t, "Caddyfile", m.upstream.Address, before.Address)
	m.Run(m.address)

	tr := new(traffic)
	agents := make([]atomic.Bool, 4) // which have the newer secret
	for i := range agents {
		tr.begin(newVisitor(fmt.Sprint("127.5.0.", i+1), i%2 == 0), func(v *visitor, _ int) {
			has := older
			if agents[i].Load() {
				has = newer
			}
			v.expect(200, "of a Nova with ", "GET", "http://"+m.address+metadataPath, "",
				"X-Instance-ID", instance1, "X-Tenant-ID", projectA, "X-Forwarded-For", "10.0.0.9", "X-Instance-ID-Signature", signWith(has, instance1))
		})
	}
	tr.goesOn(m.Process, 3)
	m.edit(t, "Caddyfile", source(file("older")), source(file("older"), file("newer")))
	m.reloads(t)
	for i := range agents {
		agents[i].Store(true)
		tr.goesOn(m.Process, 3)
	}
	m.edit(t, "Caddyfile", source(file("older"), file("newer")), source(file("newer"), file("older")))
	m.edit(t, "Caddyfile", before.Address, after.Address)
	m.reloads(t)
	tr.goesOn(m.Process, 3)
	m.edit(t, "Caddyfile", source(file("newer"), file("older")), source(file("newer")))
	m.reloads(t)
	tr.goesOn(m.Process, 3)
	tr.end(t, m.Process, m.Log)
	if len(before.Requests()) == 0 || len(after.Requests()) == 0 {
		t.Error("a Nova was never asked")
	}
	old := newVisitor("127.5.0.9", false)
	old.expect(403, "Forbidden: identity_invalid", "GET", "http://"+m.address+metadataPath, "",
		"X-Instance-ID", instance1, "X-Tenant-ID", projectA, "X-Forwarded-For", "10.0.0.9", "X-Instance-ID-Signature", signWith(older, instance1))
	for _, problem := range old.wrong {
		t.Errorf("the older secret: %s", problem)
	}
}

// The steps for session and fingerprint keys: nothing that was made under the key
// before is lost while that is still among them.
func TestRotateKeys(t *testing.T) {
	t.Parallel()
	server := newPasswordServer(t)
	m := prepareManaged(t, "identify remote_ip inventory.json\nassert neutron {env.METAGUARD_NEUTRON_SECRET}\npolicy policy {\n\ttimeout 10m\n}\nSESSION\npassword {\n\tFINGERPRINT\n}", map[string]string{
		"policy/data.json": grant(instance1, "password:read"),
		"session-a":        strings.Repeat("a", 32), "session-b": strings.Repeat("b", 32),
		"fingerprint-a": strings.Repeat("a", 64), "fingerprint-b": strings.Repeat("b", 64),
	})
	keys := func(order ...string) (session, fingerprint string) {
		session, fingerprint = "session required {\n\tkey", "fingerprint_key"
		for _, key := range order {
			session += " {file." + filepath.Join(m.Dir, "session-"+key) + "}"
			fingerprint += " {file." + filepath.Join(m.Dir, "fingerprint-"+key) + "}"
		}
		return session + "\n}", fingerprint
	}
	m.edit(t, "Caddyfile", m.upstream.Address, server.Address)
	template := m.read(t, "Caddyfile")
	use := func(order ...string) {
		session, fingerprint := keys(order...)
		m.Write("Caddyfile", strings.NewReplacer("SESSION", session, "FINGERPRINT", fingerprint).Replace(template))
	}
	use("a")
	m.Run(m.address)
	token := m.token(t, "")
	reads := func(token string, status int, body string) {
		t.Helper()
		var answer harness.Answer
		m.Eventually("an answer", func() bool {
			answer = m.site.ask(t, "", "GET "+guestPath, tokenHeader+": "+token)
			return answer.Err == nil
		})
		if answer.Status != status || !strings.Contains(answer.Body, body) {
			t.Errorf("%d %q, want %d %q", answer.Status, answer.Body, status, body)
		}
	}
	if answer := harness.Raw(t, m.address, "POST "+guestPath+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+tokenHeader+": "+token+"\r\nContent-Length: 5\r\n\r\nunder"); answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	for _, order := range [][]string{{"a"}, {"a", "b"}, {"b", "a"}} {
		use(order...)
		m.reloads(t)
		reads(token, 200, "under")
	}
	var fresh string
	m.Eventually("a token under the new key", func() bool {
		answer := m.site.ask(t, "", "PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60")
		fresh = answer.Body
		return answer.Status == 200
	})
	use("b")
	m.reloads(t)
	reads(token, 401, "session_invalid")
	reads(fresh, 502, "password_mismatch") // which is why the old one stays until passwords are rewritten
}

// The steps for the authorities of client certificates.
func TestRotateClientAuthority(t *testing.T) {
	t.Parallel()
	s, older := secureSite(t, "identify mtls\npolicy policy {\n\ttimeout 10m\n}", map[string]string{
		"policy/data.json": `{"metaguard": {"grants": {"caller_id": {"subject:CN=worker": ["userdata:read"]}}}}`,
	})
	m := &managed{site: s, admin: harness.NewAdmin(t)}
	m.edit(t, "Caddyfile", "admin off", "admin "+m.admin.Listen+"\n\tauto_https disable_redirects")
	m.Run(m.address)
	newer := harness.NewAuthority(t)
	certificates := map[*harness.Authority]tls.Certificate{older: older.Issue(named("worker")), newer: newer.Issue(named("worker"))}
	reads := func(authority *harness.Authority) bool {
		answer, err := send("127.0.0.1", m.address, &tls.Config{RootCAs: older.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{certificates[authority]}},
			"GET "+userdataPath+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		return err == nil && answer.Status == 200
	}
	for _, step := range []struct {
		pool         string
		older, newer bool
	}{{older.PEM(), true, false}, {older.PEM() + newer.PEM(), true, true}, {newer.PEM(), false, true}} {
		m.Write("ca.pem", step.pool)
		m.reloads(t)
		m.Eventually("who is verified is in force", func() bool { return reads(older) == step.older && reads(newer) == step.newer })
	}
}

// The steps for the password of Redis: its user has both for a time.
func TestRotateRedisPassword(t *testing.T) {
	t.Parallel()
	redis := harness.StartRedis(t)
	admin := func(command string) {
		t.Helper()
		conn, err := net.Dial("tcp", redis.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(conn, command+"\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "+OK\r\n" {
			t.Fatalf("%s: %q %v", command, line, err)
		}
	}
	admin("ACL SETUSER metaguard on >older ~metaguard:* +get +set +strlen +eval +evalsha +info")
	server := newPasswordServer(t)
	m := prepareManaged(t, "", map[string]string{"url": "redis://metaguard:older@" + redis.Address})
	m.edit(t, "Caddyfile", "dialect openstack", "dialect openstack\n"+neutronFrom("127.0.0.0/8")+"\npolicy policy {\n\ttimeout 10m\n}\npassword {\n\tlatch redis {file."+filepath.Join(m.Dir, "url")+"}\n}")
	m.edit(t, "Caddyfile", m.upstream.Address, server.Address)
	m.Run(m.address)
	tr := new(traffic)
	for i := range 2 {
		tr.begin(newVisitor(fmt.Sprint("127.6.0.", i+1), i == 0), func(v *visitor, n int) {
			instance := fmt.Sprintf("%08d-0000-4000-8000-%012d", i, n)
			v.expect(200, "", "POST", "http://"+m.address+guestPath, "password",
				"X-Instance-ID", instance, "X-Tenant-ID", projectA, "X-Forwarded-For", "10.0.0.9", "X-Instance-ID-Signature", sign(instance))
		})
	}
	tr.goesOn(m.Process, 3)
	admin("ACL SETUSER metaguard >newer")
	m.Write("url", "redis://metaguard:newer@"+redis.Address)
	m.reloads(t)
	tr.goesOn(m.Process, 3)
	admin("ACL SETUSER metaguard <older")
	tr.goesOn(m.Process, 3)
	tr.end(t, m.Process, m.Log)
}
