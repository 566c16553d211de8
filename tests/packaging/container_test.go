// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// image is what an engine would make of the Containerfile.
type image struct {
	root                string
	environment         []string
	user                string
	volumes             []string
	entrypoint, command []string
}

// assemble carries out the Containerfile's instructions, each of which it must know, in an
// empty directory, with the archive as context.
func assemble(t *testing.T) *image {
	t.Helper()
	dir := t.TempDir()
	run(t, "chmod", "755", dir)
	context, i := filepath.Join(dir, "context"), &image{root: filepath.Join(dir, "root")}
	for _, name := range []string{context, i.root} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "tar", "-C", context, "-xzf", archive(), "--strip-components=1")
	for line := range strings.Lines(string(contents(t, filepath.Join(context, "container", "Containerfile")))) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch fields := strings.Fields(rest); {
		case name == "" || strings.HasPrefix(name, "#"):
		case name == "FROM" && rest == "scratch":
		case name == "COPY":
			owner := "0:0"
			if value, found := strings.CutPrefix(fields[0], "--chown="); found {
				owner, fields = value, fields[1:]
			}
			if len(fields) != 2 {
				t.Fatal(line)
			}
			from, to := filepath.Join(context, fields[0]), filepath.Join(i.root, fields[1])
			info, err := os.Stat(from)
			if err != nil {
				t.Fatal(err)
			}
			parent := filepath.Dir(to)
			if info.IsDir() {
				parent, from = to, from+"/."
			}
			run(t, "mkdir", "-p", parent)
			run(t, "cp", "-r", from, to)
			run(t, "chown", "-R", owner, to)
		case name == "ENV":
			i.environment = append(i.environment, fields...)
		case name == "USER":
			i.user = rest
		case name == "VOLUME":
			i.volumes = append(i.volumes, rest)
		case name == "EXPOSE":
		case name == "ENTRYPOINT", name == "CMD":
			var words []string
			if err := json.Unmarshal([]byte(rest), &words); err != nil {
				t.Fatalf("%s: %v: without a shell it must be a list", line, err)
			}
			if name == "CMD" {
				i.command = words
			} else {
				i.entrypoint = words
			}
		default:
			t.Fatalf("no engine was asked what this does: %s", line)
		}
	}
	return i
}

// contained runs a program in an image as `--read-only --cap-drop all --security-opt
// no-new-privileges --tmpfs /run/metaguard:…` does: with its volume, and nothing else to
// write to.
const contained = `
root=$1 user=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$root/var/lib/metaguard" "$root/var/lib/metaguard"
mount -o remount,bind,rw "$root/var/lib/metaguard"
mount -t tmpfs -o "uid=${user%:*},gid=${user#*:},mode=0700" tmpfs "$root/run/metaguard"
exec setpriv --no-new-privs chroot --userspec "$user" --groups "" "$root" "$@"
`

func (i *image) run(args ...string) *exec.Cmd {
	command := exec.Command("unshare", append([]string{"--mount", "sh", "-ec", contained, "contained", i.root, i.user},
		append(slices.Clone(i.entrypoint), args...)...)...)
	command.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, i.environment...)
	return command
}

// The image holds Metaguard and nothing else, is nobody's, and serves on a file system that
// cannot be written to.
func TestContainer(t *testing.T) {
	needRoot(t)
	pack(t)
	i := assemble(t)
	if uid, gid, found := strings.Cut(i.user, ":"); !found || uid == "0" || gid == "0" || strings.Trim(uid+gid, "0123456789") != "" {
		t.Errorf("the user is %q: Kubernetes' runAsNonRoot needs a number", i.user)
	}
	if !slices.Equal(i.volumes, []string{"/var/lib/metaguard"}) {
		t.Errorf("the volumes are %v", i.volumes)
	}
	programs, err := exec.Command("find", i.root, "-type", "f", "-perm", "/111", "-printf", "%P\n").Output()
	if err != nil || string(programs) != "usr/bin/metaguard\n" {
		t.Errorf("the programs in it: %v\n%s", err, programs)
	}

	r := &root{t: t, dir: i.root}
	if output, err := i.run("validate", "--config", "/etc/metaguard/Caddyfile").CombinedOutput(); err == nil || !strings.Contains(string(output), "secrets/neutron") {
		t.Errorf("without a secret: %v\n%s", err, output)
	}
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	write(t, r.path("etc/metaguard/secrets/neutron"), secret)
	r.edit("etc/metaguard/Caddyfile", "upstream 127.0.0.1:8775", "upstream "+legacy(t, secret))
	r.edit("etc/metaguard/Caddyfile", ":18775 {", ":"+strings.TrimPrefix(address, "127.0.0.1:")+" {")
	if output, err := i.run("validate", "--config", "/etc/metaguard/Caddyfile").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	s := serve(t, i.run(i.command...))
	s.listens(address)
	if answer := ask(t, address, "GET", metadata, ""); answer.Status != 200 || !strings.Contains(answer.Body, instance) {
		t.Errorf("an instance asked for itself: %+v\n%s", answer, s.log.String())
	}
	if answer := ask(t, address, "POST", password, "hunter2"); answer.Status != 200 {
		t.Errorf("a first password: %+v\n%s", answer, s.log.String())
	}
	if answer := harness.Raw(t, address, "GET /metaguard/probe HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"); answer.Status != 200 {
		t.Errorf("the probe: %+v", answer)
	}
}
