// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// needNova leaves a test out where tests/nova/nova.sh has not unpacked Nova.
func needNova(t *testing.T) {
	t.Helper()
	setting := os.Getenv("METAGUARD_NOVA")
	home := os.Getenv("NOVA_HOME")
	if home == "" {
		home = filepath.Join(os.TempDir(), "metaguard-nova")
	}
	_, err := os.Stat(filepath.Join(home, "root", ".done"))
	switch {
	case setting == "off":
		t.Skip("left out: METAGUARD_NOVA is off")
	case err != nil && setting == "required":
		t.Fatal(err)
	case err != nil:
		t.Skipf("left out: %v; `tests/nova/nova.sh install` unpacks it", err)
	}
}

// novaScript runs nova.sh in a state of its own, which ends with the test, and gives that.
func novaScript(t *testing.T, environment []string, args ...string) string {
	t.Helper()
	state := t.TempDir()
	script := func(args ...string) error {
		command := exec.Command("../nova/nova.sh", args...)
		command.Env = append(os.Environ(), append([]string{"NOVA_STATE=" + state, "SECRET=" + secret, "LIMIT=1200"}, environment...)...)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("nova.sh %s: %w\n%s", args, err, output)
		}
		return nil
	}
	t.Cleanup(func() {
		if err := script("stop"); err != nil {
			t.Error(err)
		}
	})
	if err := script(args...); err != nil {
		t.Fatal(err)
	}
	return state
}

// agent starts Neutron's haproxy and metadata agent, which find Nova at a port, and asks
// them as instance 2, which has a password.
func agent(t *testing.T, novaPort int) func(path string) harness.Answer {
	t.Helper()
	port := harness.FreePort(t)
	novaScript(t, []string{fmt.Sprint("AGENT_PORT=", port), fmt.Sprint("AGENT_NOVA_PORT=", novaPort)}, "agent")
	return func(path string) harness.Answer {
		t.Helper()
		return harness.RawFrom(t, "127.0.0.22", fmt.Sprint("127.0.0.1:", port), "GET "+path+" HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n")
	}
}

// From the package to a protected Nova, as openstack.md says it, with the real Nova and the
// real agent; and back. The firewall of its last step is left out.
func TestOpenStackStepByStep(t *testing.T) {
	needRoot(t)
	needNova(t)
	pack(t)
	howTo := filepath.Join(folder, "openstack.md")
	novaPort, port := harness.FreePort(t), harness.FreePort(t)
	nova := novaScript(t, []string{fmt.Sprint("PORT=", novaPort), fmt.Sprint("NEUTRON_PORT=", harness.FreePort(t))}, "start", "proxy", "uwsgi")
	before := agent(t, novaPort)
	if answer := before(password); answer.Status != 200 || answer.Body == "" {
		t.Fatalf("without Metaguard a password is not for everybody: %+v", answer)
	}

	// Step 2, by its own words, and step 3.
	r := newRoot(t)
	r.install(debianPackage())
	_, line, found := strings.Cut(strings.TrimSpace(fenced(t, howTo, "sh")[1]), "\n")
	if !found {
		t.Fatal("the second step of the how-to is another one")
	}
	run(t, "bash", "-c", strings.NewReplacer("/etc/nova/", nova+"/", "/etc/metaguard/", r.dir+"/etc/metaguard/").Replace(line))
	caddyfile := "etc/metaguard/Caddyfile"
	options, _, _ := strings.Cut(r.read(caddyfile), "http://:18775 {")
	write(t, r.path(caddyfile), options+fenced(t, howTo, "caddyfile")[0])
	r.edit(caddyfile, "127.0.0.1:8775", fmt.Sprint("127.0.0.1:", novaPort))
	r.edit(caddyfile, ":18775 {", fmt.Sprintf(":%d {", port))
	r.edit(caddyfile, "192.0.2.0/24", "127.0.0.0/8")

	// Step 4: audit mode is all that is wrong.
	metaguard := func(code int, args ...string) string {
		t.Helper()
		output, err := r.enter(append([]string{"/usr/bin/metaguard"}, args...)...).CombinedOutput()
		got := 0
		if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
			got = failed.ExitCode()
		}
		if got != code {
			t.Errorf("metaguard %s: %v\n%s", args, err, output)
		}
		return string(output)
	}
	r.prepare()
	write(t, r.path("etc/hosts"), "127.0.0.1 localhost\n")
	metaguard(0, "validate", "--config", "/"+caddyfile)
	s := r.start()
	s.listens(fmt.Sprint("127.0.0.1:", port))
	status := []string{"status", "--address", "unix//run/metaguard/admin.sock"}
	if output := metaguard(1, status...); strings.Count(output, "PROBLEM") != 1 || !strings.Contains(output, "audit_mode") {
		t.Errorf("more or less than audit mode is wrong:\n%s", output)
	}
	doctor := []string{"doctor", "--config", "/" + caddyfile, "--live", "--skip", "clock_off"}
	if output := metaguard(1, doctor...); !strings.Contains(output, "mode_audit") || strings.Contains(output, "PROBLEM guard") {
		t.Errorf("doctor does not say what it should:\n%s", output)
	}

	// Step 5.
	after := agent(t, port)
	if answer := after(metadata); answer.Status != 200 || !strings.Contains(answer.Body, "22222222-2222-4222-8222-222222222222") {
		t.Errorf("through Metaguard: %+v\n%s", answer, s.log.String())
	}
	r.edit(caddyfile, "\t\tmode audit\n", "")
	if output, err := r.reload(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if answer := after(password); answer.Status != 200 || answer.Body != "" {
		t.Errorf("a password is given to who may not read it: %+v", answer)
	}
	metaguard(0, status...)
	metaguard(0, doctor...) // this Nova listens on loopback alone, as after step 6

	// Back out: the agent that calls Nova is served as ever.
	s.stop()
	if answer := before(metadata); answer.Status != 200 {
		t.Errorf("after backing out: %+v", answer)
	}
}
