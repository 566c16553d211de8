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

// Neutron's secret is rotated with reloads alone, in the README's order, by a process that
// is confined as the unit says; and nobody else on the host can read secrets.
func TestSecretRotation(t *testing.T) {
	needRoot(t)
	pack(t)
	r := newRoot(t)
	r.install(debianPackage())
	const next = "the-next-secret-of-agent-and-nova"
	caddyfile, placeholder := "etc/metaguard/Caddyfile", "{file./etc/metaguard/secrets/neutron}"
	r.secret("neutron", secret)
	port := harness.FreePort(t)
	address, nova := fmt.Sprintf("127.0.0.1:%d", port), legacy(t, secret)
	r.edit(caddyfile, "upstream 127.0.0.1:8775", "upstream "+nova)
	r.edit(caddyfile, ":18775 {", fmt.Sprintf(":%d {", port))

	for name, mode := range map[string]os.FileMode{"": 0o750 | os.ModeDir | os.ModeSetgid, "neutron": 0o640} {
		info, err := os.Stat(r.path(filepath.Join("etc/metaguard/secrets", name)))
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || owner.Uid != 0 || fmt.Sprint(owner.Gid) != r.groups() {
			t.Errorf("secrets/%s has mode %s and belongs to %d:%d", name, info.Mode(), owner.Uid, owner.Gid)
		}
	}
	stranger := []string{"setpriv", "--clear-groups", "--reuid", "nobody", "--regid", "nogroup", "cat", "/etc/metaguard/secrets/neutron"}
	if output, err := exec.Command("chroot", append([]string{r.dir}, stranger...)...).CombinedOutput(); err == nil || !strings.Contains(string(output), "Permission denied") {
		t.Errorf("somebody else reads a secret: %v\n%s", err, output)
	}

	s := r.start()
	s.listens(address)
	expect := func(step string, ofOld, ofNext int) {
		t.Helper()
		for value, status := range map[string]int{secret: ofOld, next: ofNext} {
			if answer := askWith(t, value, address, "GET", metadata, ""); answer.Status != status {
				t.Errorf("%s: an agent with %q got %+v\n%s", step, value, answer, s.log.String())
			}
		}
	}
	reload := func(step string, edits ...string) {
		t.Helper()
		for n := 0; n < len(edits); n += 2 {
			r.edit(caddyfile, edits[n], edits[n+1])
		}
		if output, err := r.reload(); err != nil {
			t.Fatalf("%s: %v\n%s", step, err, output)
		}
	}
	both, other := placeholder+" {file./etc/metaguard/secrets/neutron-next}", "{file./etc/metaguard/secrets/neutron-next}"
	expect("before", 200, 403)
	r.secret("neutron-next", next)
	reload("both are believed", "secret "+placeholder, "secret "+both)
	expect("both are believed", 200, 200)
	reload("a second Nova", "secret "+both, "secret "+other+" "+placeholder, "upstream "+nova, "upstream "+legacy(t, next))
	expect("a second Nova", 200, 200)
	reload("only the next", "secret "+other+" "+placeholder, "secret "+other)
	expect("only the next", 403, 200)

	// The Caddyfile as it was, by a file of the old name: an edit of the file alone is noticed.
	r.secret("neutron", next)
	reload("the old name", "secret "+other, "secret "+placeholder)
	expect("the old name", 403, 200)
	r.secret("neutron", "neither of them, of a mistake")
	reload("an edit of the file alone")
	expect("an edit of the file alone", 403, 403)
}
