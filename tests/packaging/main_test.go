// SPDX-License-Identifier: Apache-2.0

// Package packaging_test proves what is under cmd/metaguard/packaging: the systemd unit by
// systemd's own words and by a systemd that runs it, the Debian package in a Debian that
// root.sh makes, where it is installed, used, updated and removed, and the archive as a plain
// user.
package packaging_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	_ "github.com/metaguard/metaguard/module" // what the binary is made of: an edit there makes earlier results stale
	"github.com/metaguard/metaguard/tests/harness"
)

const (
	// packagingVariable set to "required" makes a machine fail the tests that need what
	// it lacks; "off" leaves them out.
	packagingVariable = "METAGUARD_PACKAGING"
	homeVariable      = "PACKAGING_HOME"
	// packagesVariable names a directory that `package.sh 0.0.1 <directory>` has filled.
	// Without it that is done here.
	packagesVariable = "PACKAGING_PACKAGES"

	folder  = "../../cmd/metaguard/packaging"
	version = "0.0.1"
)

// packed is the directory that the packages were made in, if they were.
var packed string

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(packed)
	harness.RemoveBinary()
	os.Exit(code)
}

// leaveOut skips a test for want of something, or fails it.
func leaveOut(tb testing.TB, err error) {
	tb.Helper()
	switch setting := os.Getenv(packagingVariable); {
	case setting == "off":
		tb.Skipf("left out: %s is off", packagingVariable)
	case err != nil && setting == "required":
		tb.Fatal(err)
	case err != nil:
		tb.Skipf("left out (%s=required makes this a failure): %v", packagingVariable, err)
	}
}

// rootArchive is one of the Debians that root.sh made: root, or booting, which has systemd.
func rootArchive(name string) string {
	home := os.Getenv(homeVariable)
	if home == "" {
		home = filepath.Join(os.TempDir(), "metaguard-packaging")
	}
	return filepath.Join(home, name+".tar")
}

// needRoot leaves a test out where it cannot install a package.
func needRoot(tb testing.TB) {
	tb.Helper()
	leaveOut(tb, func() error {
		if os.Getuid() != 0 {
			return errors.New("only root can install a package")
		}
		if _, err := os.Stat(rootArchive("root")); err != nil {
			return fmt.Errorf("no Debian to install it in: %w; `tests/packaging/root.sh install` makes it", err)
		}
		for _, program := range []string{"dpkg-deb", "unshare", "chroot"} {
			if _, err := exec.LookPath(program); err != nil {
				return err
			}
		}
		if output, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
			return fmt.Errorf("this machine forbids mount namespaces: %w: %s", err, output)
		}
		return nil
	}())
}

// archive and debianPackage are where pack leaves what it makes.
func archive() string {
	return filepath.Join(packed, "metaguard-"+version+"-linux-"+runtime.GOARCH+".tar.gz")
}

func debianPackage() string {
	return filepath.Join(packed, "metaguard_"+version+"_"+runtime.GOARCH+".deb")
}

var packOnce = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "metaguard-packages-")
	if err != nil {
		return err
	}
	packed = dir
	fill := exec.Command(filepath.Join(folder, "package.sh"), version, dir)
	if ready := os.Getenv(packagesVariable); ready != "" {
		fill = exec.Command("cp", "-r", ready+"/.", dir)
	}
	for _, command := range []*exec.Cmd{
		fill,
		exec.Command("tar", "-C", dir, "-xzf", archive(), "--strip-components=1", "--wildcards", "*-"+runtime.GOARCH+"/metaguard"),
	} {
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", command, err, output)
		}
	}
	return nil
})

// pack makes package and archive, once, and has the harness run what is in them.
func pack(t *testing.T) {
	t.Helper()
	if err := packOnce(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(harness.BinaryVariable, filepath.Join(packed, "metaguard"))
}
