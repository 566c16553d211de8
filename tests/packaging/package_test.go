// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	instance = "11111111-1111-4111-8111-111111111111"
	project  = "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"
	secret   = "s3cret-of-the-agent-and-nova"
)

// legacy is Nova's stand-in, a process of its own.
func legacy(t *testing.T, secret string) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	harness.Start(t, address, map[string]string{"Caddyfile": legacyCaddyfile(address)}, "SECRET="+secret)
	return address
}

func legacyCaddyfile(address string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
}
http://%s {
	bind 127.0.0.1
	metaguard_legacy {
		secret {env.SECRET}
		instance %s {
			project %s
		}
	}
}
`, strings.Replace(address, "127.0.0.1", "", 1), instance, project)
}

// ask sends a request as Neutron's agent does.
func ask(t *testing.T, address, method, path, body string) harness.Answer {
	t.Helper()
	return askWith(t, secret, address, method, path, body)
}

// askWith is ask of an agent that has another secret.
func askWith(t *testing.T, secret, address, method, path, body string) harness.Answer {
	t.Helper()
	return harness.Raw(t, address, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\nContent-Length: %d\r\n"+
		"X-Instance-ID: %s\r\nX-Tenant-ID: %s\r\nX-Forwarded-For: 10.0.0.11\r\nX-Instance-ID-Signature: %s\r\n\r\n%s",
		method, path, len(body), instance, project, signature(secret), body))
}

// signature is the agent's, of the instance.
func signature(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(instance))
	return hex.EncodeToString(mac.Sum(nil))
}

const (
	metadata = "/openstack/latest/meta_data.json"
	password = "/openstack/latest/password"
)

// later is the package once more as the next version, whose Caddyfile differs.
func later(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "package")
	r := &root{t: t, dir: dir}
	run(t, "dpkg-deb", "-R", debianPackage(), dir)
	r.edit("DEBIAN/control", "Version: "+version, "Version: "+version+".1")
	write(t, r.path("etc/metaguard/Caddyfile"), "# The next version.\n"+r.read("etc/metaguard/Caddyfile"))
	run(t, "dpkg-deb", "-b", "-Zgzip", "-z1", dir, dir+".deb")
	return dir + ".deb"
}

// The life of the package on a host: installed, refused without a secret, configured by
// two edits, used, reloaded, updated, removed and purged.
func TestPackage(t *testing.T) {
	needRoot(t)
	pack(t)
	r := newRoot(t)
	r.install(debianPackage())
	if output := r.dpkg("--verify", "metaguard"); output != "" {
		t.Errorf("what is installed is not what was packed:\n%s", output)
	}

	caddyfile := "etc/metaguard/Caddyfile"
	s := r.start()
	<-s.done
	if code := s.command.ProcessState.ExitCode(); fmt.Sprint(code) != r.setting("RestartPreventExitStatus")[0] {
		t.Errorf("without a secret it ends with %d, which systemd would try again", code)
	}
	if log := s.log.String(); !strings.Contains(log, "secrets/neutron}: it is not set, empty or cannot be read") {
		t.Errorf("without a secret it does not say so:\n%s", log)
	}

	// Two edits, were 8775 free on this machine.
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	r.secret("neutron", secret)
	r.edit(caddyfile, "upstream 127.0.0.1:8775", "upstream "+legacy(t, secret))
	r.edit(caddyfile, ":18775 {", ":"+strings.TrimPrefix(address, "127.0.0.1:")+" {")
	s = r.start()
	s.listens(address)
	if answer := ask(t, address, "GET", metadata, ""); answer.Status != 200 || !strings.Contains(answer.Body, instance) {
		t.Fatalf("an instance asked for itself: %+v\n%s", answer, s.log.String())
	}
	if answer := harness.Raw(t, address, "GET "+metadata+" HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n"); answer.Status != 403 {
		t.Errorf("nobody asked: %+v", answer)
	}
	if answer := ask(t, address, "POST", password, "hunter2"); answer.Status != 200 {
		t.Errorf("a first password: %+v", answer)
	}

	// A reload by the unit's line: another port, and a rule.
	old := address
	address = fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	r.edit(caddyfile, ":"+strings.TrimPrefix(old, "127.0.0.1:")+" {", ":"+strings.TrimPrefix(address, "127.0.0.1:")+" {")
	write(t, r.path("etc/metaguard/policy/team.rego"), "package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"metadata\"\n")
	if output, err := r.reload(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	s.listens(address)
	if answer := ask(t, address, "GET", metadata, ""); answer.Status != 403 {
		t.Errorf("after a rule against it: %+v", answer)
	}
	good := r.read(caddyfile)
	write(t, r.path(caddyfile), good+"\nhttp://:1 {\n\tmetaguard {\n\t}\n}\n")
	if output, err := r.reload(); err == nil {
		t.Errorf("a site without settings was loaded:\n%s", output)
	}
	write(t, r.path(caddyfile), good)
	if answer := ask(t, address, "GET", password, ""); answer.Status == 0 {
		t.Errorf("after a failed reload: %+v", answer)
	}

	// An update while it runs, and then what try-restart does.
	r.install(later(t))
	if r.read(caddyfile) != good || !strings.HasPrefix(r.read(caddyfile+".dpkg-dist"), "# The next") {
		t.Error("the operator's Caddyfile is not what it was, or the new one is not beside it")
	}
	s.stop()
	s = r.start()
	s.listens(address)
	if answer := ask(t, address, "POST", password, "other"); answer.Status != 409 {
		t.Errorf("a second password after an update: %+v", answer)
	}
	s.stop()

	state := "var/lib/private/metaguard/caddy/metaguard"
	kept := []string{state, "etc/metaguard/secrets/neutron", "etc/metaguard/policy/team.rego", caddyfile}
	gone := []string{"usr/bin/metaguard", "usr/lib/systemd/system/metaguard.service", "usr/share/doc/metaguard"}
	r.dpkg("--remove", "metaguard")
	for _, name := range kept {
		if !r.exists(name) {
			t.Errorf("%s went when the package was removed", name)
		}
	}
	r.dpkg("--purge", "metaguard")
	kept, gone = kept[2:3], append(gone, "var/lib/private/metaguard", "var/lib/metaguard", "etc/metaguard/secrets", caddyfile)
	for _, name := range gone {
		if r.exists(name) {
			t.Errorf("%s stayed after a purge", name)
		}
	}
	for _, name := range kept { // a team's own work
		if !r.exists(name) {
			t.Errorf("%s went in a purge", name)
		}
	}
}
