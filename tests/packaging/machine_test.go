// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is a Debian that a real systemd runs, in a container with a network of its own.
type machine struct {
	*root
	service *service // systemd-nspawn
	leader  string   // the number of the container's systemd here
}

// container boots a directory, in a cgroup of its own. Only its own mount namespace sees
// cgroups as they are on machines of today, whatever this one has.
const container = `
mount --make-rprivate /
mount -t tmpfs tmpfs /run # where nspawn leaves things
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo $$ > "/sys/fs/cgroup/$2/cgroup.procs"
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
	--machine=metaguard --boot --directory="$1"
`

// leaveNoCgroup removes what container made, once it is empty.
const leaveNoCgroup = `
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -delete
`

// boot leaves a test out where no systemd can run.
func boot(t *testing.T) *machine {
	t.Helper()
	leaveOut(t, func() error {
		if _, err := os.Stat(rootArchive("booting")); err != nil {
			return fmt.Errorf("no Debian that boots: %w; `tests/packaging/root.sh install` makes it", err)
		}
		for _, program := range []string{"systemd-nspawn", "nsenter"} {
			if _, err := exec.LookPath(program); err != nil {
				return fmt.Errorf("%w; it is in Debian's package systemd-container or util-linux", err)
			}
		}
		if output, err := exec.Command("unshare", "--mount", "mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup").CombinedOutput(); err != nil {
			return fmt.Errorf("systemd needs cgroups: %w: %s", err, output)
		}
		return nil
	}())
	m := &machine{root: unpack(t, rootArchive("booting"))}
	write(t, m.path("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")
	group := fmt.Sprintf("metaguard-packaging-%d", os.Getpid())
	t.Cleanup(func() { run(t, "unshare", "--mount", "sh", "-ec", leaveNoCgroup, "cgroup", group) })
	m.service = serve(t, exec.Command("unshare", "--mount", "sh", "-ec", container, "container", m.dir, group))
	leaveOut(t, m.booted())
	return m
}

// booted awaits the end of the boot.
func (m *machine) booted() error {
	state := "nothing"
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-m.service.done:
			return fmt.Errorf("systemd cannot boot in a container here: %s", m.service.log.String())
		default:
		}
		if m.leader == "" && !m.findLeader() {
			continue
		}
		output, _ := m.command("systemctl", "is-system-running").CombinedOutput()
		if state = strings.TrimSpace(string(output)); state == "running" {
			return nil
		}
	}
	return fmt.Errorf("systemd did not boot in a container here, the last that it said is %q: %s", state, m.service.log.String())
}

// findLeader finds the process that is the first one in the container.
func (m *machine) findLeader() bool {
	pid := m.service.command.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return false
	}
	for child := range strings.FieldsSeq(string(children)) {
		status, err := os.ReadFile(filepath.Join("/proc", child, "status"))
		if err == nil && strings.HasPrefix(string(status), "Name:\tsystemd\n") && strings.Contains(string(status), "\nNSpid:\t"+child+"\t1\n") {
			m.leader = child
			return true
		}
	}
	return false
}

// command is one that root types in the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{
		"--target", m.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive",
	}, args...)...)
}

// may runs a command and tells whether it succeeded, and all that it said.
func (m *machine) may(args ...string) (output string, succeeded bool) {
	m.t.Helper()
	text, err := m.command(args...).CombinedOutput()
	return strings.TrimSpace(string(text)), err == nil
}

// must runs a command that succeeds.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	output, succeeded := m.may(args...)
	if !succeeded {
		m.t.Fatalf("%q failed: %s\n%s", args, output, m.journal(20))
	}
	return output
}

// mustFail runs one that does not.
func (m *machine) mustFail(args ...string) string {
	m.t.Helper()
	output, succeeded := m.may(args...)
	if succeeded {
		m.t.Errorf("%q succeeded: %s\n%s", args, output, m.journal(20))
	}
	return output
}

// property is one of the unit's.
func (m *machine) property(name string) string {
	m.t.Helper()
	return m.must("systemctl", "show", "--value", "--property", name, "metaguard")
}

// journal is the end of what `journalctl -u metaguard` shows.
func (m *machine) journal(lines int) string {
	m.t.Helper()
	output, _ := m.may("journalctl", "--unit", "metaguard", "--no-pager", "--output", "cat", "--lines", fmt.Sprint(lines))
	return output
}

// secret writes a secret as the README says.
func (m *machine) secret(name, content string) {
	m.t.Helper()
	command := m.command("install", "-m", "640", "/dev/stdin", "/etc/metaguard/secrets/"+name)
	command.Stdin = strings.NewReader(content + "\n")
	if output, err := command.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, output)
	}
}

// ask gives the status of an answer to an agent that has a secret.
func (m *machine) ask(secret, port, path string, more ...string) string {
	m.t.Helper()
	output, _ := m.may(append([]string{
		"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Instance-ID: " + instance,
		"-H", "X-Tenant-ID: " + project, "-H", "X-Forwarded-For: 10.0.0.11", "-H", "X-Instance-ID-Signature: " + signature(secret),
		"http://127.0.0.1:" + port + path,
	}, more...)...)
	return output
}
