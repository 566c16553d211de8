// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	caddyfile  = "etc/metaguard/Caddyfile"
	dropIns    = "etc/systemd/system/metaguard.service.d"
	documents  = "usr/share/doc/metaguard"
	secretFile = "etc/metaguard/secrets/neutron"
)

// What README's "Installing" and openstack.md promise, where a real systemd runs the unit and
// whoever installs it types the README's own lines.
func TestSystemd(t *testing.T) {
	needLong(t)
	needRoot(t)
	pack(t)
	m := boot(t)
	run(t, "cp", filepath.Join(packed, "metaguard"), m.path("root/legacy"))
	write(t, m.path("root/legacy.Caddyfile"), legacyCaddyfile("127.0.0.1:8775"))
	m.must("systemd-run", "--unit=legacy", "--setenv=SECRET="+secret, "--setenv=HOME=/root", "/root/legacy", "run", "--config", "/root/legacy.Caddyfile")
	run(t, "cp", debianPackage(), m.path("root/"))

	for _, part := range []struct {
		name string
		run  func(*machine, *testing.T)
	}{
		{"installing", (*machine).installs},
		{"confined", (*machine).isConfined},
		{"reload", (*machine).reloads},
		{"a start that fails", (*machine).failsToStart},
		{"killed", (*machine).survivesKill},
		{"restart under load", (*machine).restartsUnderLoad},
		{"identify process", (*machine).identifiesProcesses},
		{"assert address", (*machine).assertsAddresses},
		{"update", (*machine).updates},
		{"removal", (*machine).isRemoved},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			m.t = t
			part.run(m, t)
		}) {
			break // each goes on where the one before it ended
		}
	}
	m.t = t
}

// installs types what the README says, with a start too early.
func (m *machine) installs(t *testing.T) {
	var typed []string
	for _, block := range fenced(t, "../../README.md", "console") {
		if strings.Contains(block, "dpkg -i metaguard_") {
			for line := range strings.Lines(block) {
				line, _, _ = strings.Cut(strings.TrimPrefix(line, "# "), "  # ")
				typed = append(typed, strings.TrimSpace(line))
			}
		}
	}
	if len(typed) < 5 {
		t.Fatalf("the README says no more than %q", typed)
	}
	for _, line := range typed {
		words := strings.Fields(line)
		switch words[0] {
		case "dpkg":
			m.must("dpkg", "-i", "/root/"+filepath.Base(debianPackage()))
			if state := m.property("ActiveState"); state != "inactive" {
				t.Errorf("after the installation it is %s", state)
			}
			m.mustFail("systemctl", "start", "metaguard")
		case "install":
			m.secret("neutron", secret)
		case "editor": // upstream and port are right
		default:
			m.must(words...)
		}
	}
	// When systemctl is back, it listens.
	if status := m.ask(secret, "18775", metadata); status != "200" {
		t.Errorf("an instance asked for itself: %s", status)
	}
	if status := m.ask("another", "18775", metadata); status != "403" {
		t.Errorf("an agent with another secret: %s", status)
	}
	if status := m.ask(secret, "18775", password, "-d", "hunter2"); status != "200" {
		t.Errorf("a first password: %s", status)
	}
	if state := m.must("systemctl", "is-enabled", "metaguard"); state != "enabled" {
		t.Errorf("it is %s", state)
	}
}

// isConfined asks the kernel who the process is and what it may.
func (m *machine) isConfined(t *testing.T) {
	status := m.must("cat", "/proc/"+m.property("MainPID")+"/status") + "\n"
	field := func(name string) string {
		match := regexp.MustCompile(`(?m)^` + name + `:\s+(.*?)\s*$`).FindStringSubmatch(status)
		if match == nil {
			t.Fatalf("no %s in %s", name, status)
		}
		return match[1]
	}
	if uid, _ := strconv.Atoi(strings.Fields(field("Uid"))[0]); uid < 61184 || uid > 65519 {
		t.Errorf("its user is %d, who is not dynamic", uid)
	}
	for _, name := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if value := field(name); value != "0000000000000400" {
			t.Errorf("%s is %s, and not CAP_NET_BIND_SERVICE", name, value)
		}
	}
	if field("NoNewPrivs") != "1" || field("Seccomp") != "2" {
		t.Errorf("it may get privileges, or make any system call:\n%s", status)
	}
	m.must("systemd-analyze", "security", "--threshold=20", "metaguard") // in tenths

	m.edit(caddyfile, ":18775 {", ":80 {")
	m.must("systemctl", "reload", "metaguard")
	if status := m.ask(secret, "80", metadata); status != "200" {
		t.Errorf("on port 80: %s", status)
	}
	m.edit(caddyfile, ":80 {", ":18775 {")
	m.must("systemctl", "reload", "metaguard")
}

// reloads good and bad configurations, with the same process.
func (m *machine) reloads(t *testing.T) {
	process, good := m.property("MainPID"), m.read(caddyfile)
	write(t, m.path(caddyfile), good+"\nhttp://:1 {\n\tmetaguard {\n\t}\n}\n")
	m.mustFail("systemctl", "reload", "metaguard")
	if log := m.journal(5); !strings.Contains(log, "metaguard needs upstream") {
		t.Errorf("the journal does not say what is wrong:\n%s", log)
	}
	write(t, m.path(caddyfile), good)

	const next = "the-next-secret-of-agent-and-nova"
	m.must("mv", "/"+secretFile, "/root/secret")
	m.mustFail("systemctl", "reload", "metaguard")
	if status := m.property("StatusText"); !strings.Contains(status, "secrets/neutron}: it is not set") {
		t.Errorf("after a failed reload systemctl status says %q", status)
	}
	if status := m.ask(secret, "18775", metadata); status != "200" || m.property("ActiveState") != "active" {
		t.Errorf("after failed reloads: %s", status)
	}
	m.secret("neutron", next)
	m.must("systemctl", "reload", "metaguard")
	if status := m.ask(secret, "18775", "/openstack/latest/"); status != "403" {
		t.Errorf("the old secret after its rotation: %s", status)
	}
	m.must("mv", "/root/secret", "/"+secretFile)
	m.must("systemctl", "reload", "metaguard")
	if status := m.ask(secret, "18775", metadata); status != "200" {
		t.Errorf("with the secret that is Nova's again: %s", status)
	}
	if status := m.property("StatusText"); status != "" {
		t.Errorf("after a reload that succeeded systemctl status says %q", status)
	}
	if m.property("MainPID") != process {
		t.Error("a reload changed the process")
	}
}

// failsToStart where a start cannot succeed: systemctl says so, one line of the journal says
// why, also in a log that is written in batches, and systemd does not try again.
func (m *machine) failsToStart(t *testing.T) {
	good := m.read(caddyfile)
	const direct, batches = "loggers.caddy stderr", "loggers.caddy metaguard_buffered"
	for _, test := range []struct{ name, before, after, want string }{
		{"a secret that is not there", "secrets/neutron", "secrets/nowhere", "secrets/nowhere}: it is not set"},
		{"a port in use", ":18775 {", ":8775 {", "address already in use"},
		{"a bad setting", "dialect openstack", "dialect nobody", "nobody"},
	} {
		for _, log := range []string{direct, batches} {
			write(t, m.path(caddyfile), strings.NewReplacer("{file./etc/metaguard/"+test.before+"}", "{file./etc/metaguard/"+test.after+"}", test.before, test.after, direct, log).Replace(good))
			m.mustFail("systemctl", "restart", "metaguard")
			if state, restarts := m.property("ActiveState"), m.property("NRestarts"); state != "failed" || restarts != "0" {
				t.Errorf("%s: it is %s after %s restarts", test.name, state, restarts)
			}
			said := m.must("journalctl", "--output=cat", "_SYSTEMD_INVOCATION_ID="+m.property("InvocationID"))
			why := slices.DeleteFunc(strings.Split(said, "\n"), func(line string) bool {
				return !strings.Contains(line, `"level":"error"`) || strings.Contains(line, "placeholder: failed to read file")
			})
			if len(why) != 1 || !strings.Contains(why[0], test.want) {
				t.Errorf("%s, %q: the journal has\n%s", test.name, log, said)
			}
		}
	}
	write(t, m.path(caddyfile), good)
	m.must("systemctl", "start", "metaguard")
}

// survivesKill and remembers what was written once.
func (m *machine) survivesKill(t *testing.T) {
	process := m.property("MainPID")
	m.must("systemctl", "kill", "--signal=KILL", "metaguard")
	m.service.eventually("another process", func() bool {
		return m.property("ActiveState") == "active" && m.property("MainPID") != process
	})
	if status := m.ask(secret, "18775", password, "-d", "other"); status != "409" {
		t.Errorf("a second password after a crash: %s", status)
	}
}

// restartsUnderLoad gives whole answers or none, and ends in time and in order.
func (m *machine) restartsUnderLoad(t *testing.T) {
	const load = `while [ ! -e /run/enough ]; do curl -s -o /dev/null -w '%{http_code} %{exitcode}\n' -H "$1" -H "$2" -H "$3" -H "$4" "$5"; done`
	var answers safeBuffer
	command := m.command("sh", "-c", load, "load", "X-Instance-ID: "+instance, "X-Tenant-ID: "+project, "X-Forwarded-For: 10.0.0.11",
		"X-Instance-ID-Signature: "+signature(secret), "http://127.0.0.1:18775"+metadata)
	command.Stdout = &answers
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	more := func(what string) {
		before := strings.Count(answers.String(), "200 0\n")
		m.service.eventually(what, func() bool { return strings.Count(answers.String(), "200 0\n") > before+2 })
	}
	more("answers")
	m.must("systemctl", "reload", "metaguard")
	more("answers after a reload")
	m.must("systemctl", "restart", "metaguard")
	more("answers after a restart")
	m.must("systemctl", "stop", "metaguard")
	if result, state := m.property("Result"), m.property("ActiveState"); result != "success" || state != "inactive" {
		t.Errorf("after a stop it is %s, with %s", state, result)
	}
	m.must("systemctl", "start", "metaguard")
	more("answers after a start")
	write(t, m.path("root/enough"), "")
	m.must("mv", "/root/enough", "/run/enough")
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(answers.String()) {
		if line != "200 0\n" && !strings.HasPrefix(line, "000 ") {
			t.Errorf("an answer was %s", line)
		}
	}
}

// with runs a part with a drop-in and a Caddyfile that the package documents.
func (m *machine) with(dropIn, name string, part func()) {
	m.t.Helper()
	good := m.read(caddyfile)
	m.must("cp", "-r", "/"+documents+"/caddyfiles/"+name, "/etc/metaguard/")
	m.must("cp", "/"+documents+"/caddyfiles/"+name+".Caddyfile", "/"+caddyfile)
	m.must("systemctl", "stop", "metaguard")
	m.mustFail("systemctl", "start", "metaguard") // without it
	m.must("mkdir", "-p", "/"+dropIns)
	m.must("cp", "/"+documents+"/drop-ins/"+dropIn, "/"+dropIns)
	m.must("systemctl", "daemon-reload")
	m.must("systemctl", "start", "metaguard")
	part()
	m.must("rm", "-r", "/"+dropIns, "/etc/metaguard/"+name)
	m.must("systemctl", "daemon-reload")
	write(m.t, m.path(caddyfile), good)
	m.must("systemctl", "restart", "metaguard")
}

// identifiesProcesses by the units that they are of.
func (m *machine) identifiesProcesses(t *testing.T) {
	ask := []string{"curl", "-s", "http://127.0.0.1:8169" + metadata}
	m.with("process.conf", "process", func() {
		if output := m.must(ask...); !strings.Contains(output, "policy_deny") {
			t.Errorf("nobody's process: %s", output)
		}
		m.must(append([]string{"systemd-run", "--quiet", "--wait", "--pipe", "--unit=node-exporter"}, ask...)...)
		m.service.eventually("the node exporter's metadata", func() bool {
			return strings.Contains(m.journal(10), `"codes":["node_exporter"]`)
		})
	})
}

// assertsAddresses with a capability that the unit alone does not give.
func (m *machine) assertsAddresses(t *testing.T) {
	m.with("assert-address.conf", "cloudstack", func() {
		if output := m.must("curl", "-s", "http://127.0.0.1:80/latest/meta-data/"); !strings.Contains(output, "identity_missing") {
			t.Errorf("nobody asked: %s", output)
		}
	})
}

// updates restarts what ran, and says if that failed.
func (m *machine) updates(t *testing.T) {
	process, next := m.property("MainPID"), later(t)
	run(t, "cp", next, m.path("root/next.deb"))
	install := []string{"dpkg", "-i", "--force-confold", "/root/next.deb"}
	if output := m.must(install...); strings.Contains(output, "did not start") || m.property("MainPID") == process {
		t.Errorf("after an update: %s", output)
	}
	if status := m.ask(secret, "18775", password, "-d", "other"); status != "409" {
		t.Errorf("a second password after an update: %s", status)
	}
	m.must("mv", "/"+secretFile, "/root/secret")
	if output := m.must(install...); !strings.Contains(output, "did not start again") {
		t.Errorf("after an update with a configuration that cannot work: %s", output)
	}
	m.must("mv", "/root/secret", "/"+secretFile)
	m.must("systemctl", "start", "metaguard")
}

// isRemoved: stopped, and with a purge forgotten.
func (m *machine) isRemoved(t *testing.T) {
	m.must("dpkg", "--remove", "metaguard")
	if status := m.ask(secret, "18775", metadata); status != "000" {
		t.Errorf("after a removal something answers: %s", status)
	}
	if !m.exists("var/lib/private/metaguard/caddy/metaguard") || !m.exists(secretFile) {
		t.Error("a removal takes state or secret away")
	}
	m.must("dpkg", "--purge", "metaguard")
	for _, name := range []string{
		"etc/metaguard/secrets", caddyfile, "var/lib/metaguard", "var/lib/private/metaguard",
		"etc/systemd/system/multi-user.target.wants/metaguard.service",
	} {
		if m.exists(name) {
			t.Errorf("%s stayed after a purge", name)
		}
	}
	m.mustFail("getent", "group", "metaguard-secrets")
	if failed := m.must("systemctl", "list-units", "--failed", "--no-legend", "--plain"); failed != "" {
		t.Errorf("units failed: %s", failed)
	}
}
