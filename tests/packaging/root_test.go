// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// user is one of those that systemd gives to DynamicUser=.
const user = 61200

// root is a Debian to install the package in. There is no systemd in it: enter does what
// the unit says, as far as that goes without.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T) *root {
	t.Helper()
	return unpack(t, rootArchive("root"))
}

// unpack makes a root of an archive.
func unpack(t *testing.T, archive string) *root {
	t.Helper()
	r := &root{t: t, dir: filepath.Join(t.TempDir(), "root")}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "-C", r.dir, "-xf", archive)
	return r
}

// run runs a program of this machine, which must succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, output)
	}
}

func (r *root) path(name string) string { return filepath.Join(r.dir, name) }

func (r *root) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// exists also finds a symbolic link that leads nowhere.
func (r *root) exists(name string) bool {
	_, err := os.Lstat(r.path(name))
	return err == nil
}

// edit replaces text in a file, as an operator would.
func (r *root) edit(name, before, after string) {
	r.t.Helper()
	text := r.read(name)
	if strings.Count(text, before) != 1 {
		r.t.Fatalf("%s: %q is not there once", name, before)
	}
	write(r.t, r.path(name), strings.Replace(text, before, after, 1))
}

// dpkg runs dpkg in the root and gives what it says.
func (r *root) dpkg(args ...string) string {
	r.t.Helper()
	command := exec.Command("chroot", append([]string{r.dir, "dpkg"}, args...)...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	output, err := command.CombinedOutput()
	if err != nil {
		r.t.Fatalf("dpkg %q: %v\n%s", args, err, output)
	}
	return string(output)
}

// install installs or updates a package; an operator's edits stay.
func (r *root) install(path string) {
	r.t.Helper()
	run(r.t, "cp", path, r.path("package.deb"))
	r.dpkg("--install", "--force-confdef", "--force-confold", "/package.deb")
}

// setting gives the values of a setting of the installed unit.
func (r *root) setting(name string) []string {
	r.t.Helper()
	var values []string
	for line := range strings.Lines(r.read("usr/lib/systemd/system/metaguard.service")) {
		if value, found := strings.CutPrefix(line, name+"="); found {
			values = append(values, strings.Fields(value)...)
		}
	}
	if len(values) == 0 {
		r.t.Fatalf("the unit has no %s", name)
	}
	return values
}

// prepare makes the directories that systemd makes before it starts the process.
func (r *root) prepare() {
	r.t.Helper()
	for _, dir := range []string{"run/metaguard", "var/lib/private", "var/lib/private/metaguard"} {
		if err := os.MkdirAll(r.path(dir), 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	if !r.exists("var/lib/metaguard") {
		if err := os.Symlink("private/metaguard", r.path("var/lib/metaguard")); err != nil {
			r.t.Fatal(err)
		}
	}
	run(r.t, "chmod", "755", r.path("var/lib/private"))
	run(r.t, "chown", "-R", fmt.Sprintf("%d:%d", user, user), r.path("run/metaguard"), r.path("var/lib/private/metaguard"))
}

// groups gives the numbers of the groups that the unit adds to the process.
func (r *root) groups() string {
	r.t.Helper()
	var numbers []string
	for _, name := range r.setting("SupplementaryGroups") {
		for line := range strings.Lines(r.read("etc/group")) {
			if fields := strings.Split(line, ":"); fields[0] == name {
				numbers = append(numbers, fields[2])
			}
		}
	}
	if len(numbers) != len(r.setting("SupplementaryGroups")) {
		r.t.Fatalf("the package has not made the unit's groups: %v", numbers)
	}
	return strings.Join(numbers, ",")
}

// secret writes a secret as the README says: root's, and by the directory the group's.
func (r *root) secret(name, content string) {
	r.t.Helper()
	path := r.path("etc/metaguard/secrets/" + name)
	command := exec.Command("install", "-m", "640", "/dev/stdin", path)
	command.Stdin = strings.NewReader(content + "\n")
	if output, err := command.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, output)
	}
}

// confined enters the root as the unit's process is confined: it sees a file system that
// it may read only, but for its two directories; it is nobody in particular, has the unit's
// capabilities, may not get more, and has the unit's environment. Each step replaces the
// one before it, so that signals reach the process.
const confined = `
root=$1 user=$2 groups=$3 capabilities=$4; shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for dir in run/metaguard var/lib/private/metaguard; do
	mount --bind "$root/$dir" "$root/$dir"
	mount -o remount,bind,rw "$root/$dir"
done
mount -t proc proc "$root/proc"
umask 077
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --groups "$groups" --no-new-privs \
	--inh-caps "-all,$capabilities" --ambient-caps "-all,$capabilities" --bounding-set "-all,$capabilities" \
	env -i PATH=/usr/bin:/bin "$@"
`

func (r *root) enter(args ...string) *exec.Cmd {
	r.t.Helper()
	var capabilities []string
	for _, name := range r.setting("AmbientCapabilities") {
		capabilities = append(capabilities, "+"+strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return exec.Command("unshare", append(append([]string{
		"--mount", "sh", "-ec", confined, "confined", r.dir, fmt.Sprint(user), r.groups(), strings.Join(capabilities, ","),
	}, r.setting("Environment")...), args...)...)
}

// start does what `systemctl start` does, as far as that goes.
func (r *root) start() *service {
	r.t.Helper()
	r.prepare()
	return serve(r.t, r.enter(r.setting("ExecStart")...))
}

// reload runs ExecReload=, but for what tells systemd, which is not there.
func (r *root) reload() (string, error) {
	r.t.Helper()
	command := r.setting("ExecReload")
	command = command[:slices.Index(command, "-/bin/systemd-notify")]
	output, err := r.enter(command...).CombinedOutput()
	return string(output), err
}
