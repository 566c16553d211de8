// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// analyze runs systemd-analyze, or leaves the test out.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	_, err := exec.LookPath("systemd-analyze")
	if err != nil {
		err = fmt.Errorf("%w; it is in Debian's package systemd", err)
	}
	leaveOut(t, err)
	output, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	return string(output), err
}

// unit is a copy of the unit for a machine where Metaguard is not installed, with
// drop-ins.
func unit(t *testing.T, dropIns ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "metaguard.service"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "metaguard.service")
	write(t, path, strings.ReplaceAll(string(text), "/usr/bin/metaguard ", "/bin/true "))
	for _, name := range dropIns {
		text, err := os.ReadFile(filepath.Join(folder, "drop-ins", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(path+".d", name), string(text))
	}
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A sandbox that systemd calls tight: below 2.0, in its tenths.
func TestUnitIsHardened(t *testing.T) {
	if output, err := analyze(t, "security", "--offline=true", "--threshold=20", unit(t)); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// systemd knows every setting, also with each drop-in.
func TestUnitIsValid(t *testing.T) {
	dropIns, err := filepath.Glob(filepath.Join(folder, "drop-ins", "*.conf"))
	if err != nil || len(dropIns) == 0 {
		t.Fatal(err, dropIns)
	}
	units := map[string]string{"alone": unit(t)}
	for _, path := range dropIns {
		units[filepath.Base(path)] = unit(t, filepath.Base(path))
	}
	for name, path := range units {
		t.Run(name, func(t *testing.T) {
			output, err := analyze(t, "verify", "--man=no", path)
			// What it says of other units of this machine is not ours.
			if err != nil || strings.Contains(output, "metaguard") {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// A drop-in adds to the unit what it is for and takes nothing away.
func TestDropIns(t *testing.T) {
	for dropIn, wanted := range map[string][]string{
		"assert-address.conf": {"✗ CapabilityBoundingSet=~CAP_NET_ADMIN"},
		"process.conf":        {"✗ RestrictAddressFamilies=~AF_NETLINK", "✗ CapabilityBoundingSet=~CAP_SYS_PTRACE", "✗ ProtectProc="},
	} {
		t.Run(dropIn, func(t *testing.T) {
			before, err := analyze(t, "security", "--offline=true", unit(t))
			if err != nil {
				t.Fatalf("%v\n%s", err, before)
			}
			after, err := analyze(t, "security", "--offline=true", unit(t, dropIn))
			if err != nil {
				t.Fatalf("%v\n%s", err, after)
			}
			for _, line := range wanted {
				if strings.Contains(before, line) || !strings.Contains(after, line) {
					t.Errorf("%q: before %t, after %t", line, strings.Contains(before, line), strings.Contains(after, line))
				}
			}
			if !strings.Contains(after, "✗ CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE") || !strings.Contains(after, "✓ NoNewPrivileges=") {
				t.Errorf("something is lost:\n%s", after)
			}
		})
	}
}
