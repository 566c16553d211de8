// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// What the archive holds runs from anywhere, as a user who may do nothing.
func TestArchive(t *testing.T) {
	needRoot(t) // to become such a user
	pack(t)
	dir, err := os.MkdirTemp("", "metaguard-archive-") // the test's own folder is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	run(t, "tar", "-C", dir, "-xzf", archive(), "--strip-components=1")
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	r := &root{t: t, dir: dir}
	write(t, r.path("secret"), secret)
	r.edit("etc/Caddyfile", "unix//run/metaguard/admin.sock|0600", "off")
	r.edit("etc/Caddyfile", "{file./etc/metaguard/secrets/neutron}", "{file."+r.path("secret")+"}")
	r.edit("etc/Caddyfile", "127.0.0.1:8775", legacy(t, secret))
	r.edit("etc/Caddyfile", ":18775 {", ":"+strings.TrimPrefix(address, "127.0.0.1:")+" {")
	run(t, "chown", "-R", fmt.Sprintf("%d:%d", user, user), dir)

	command := exec.Command(filepath.Join(dir, "metaguard"), "run", "--config", "etc/Caddyfile")
	command.Dir = dir
	command.Env = []string{"HOME=" + dir}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	serve(t, command).listens(address)
	if answer := ask(t, address, "GET", metadata, ""); answer.Status != 200 || !strings.Contains(answer.Body, instance) {
		t.Errorf("an instance asked for itself: %+v", answer)
	}
}
