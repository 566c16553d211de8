// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	_ "github.com/metaguard/metaguard/module/dialect"
)

// examineTree makes one check of a configuration in JSON, and gives what was
// found.
func examineTree(t *testing.T, id, config string, change func(*examination)) []string {
	t.Helper()
	tree, err := decodeTree([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	x := &examination{
		config: &configuration{name: "test", tree: tree}, report: new(Report), skipped: map[string]bool{}, resolved: map[string][]string{},
		asked: options{live: true},
	}
	if x.guards, err = findGuards(tree); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(x)
	}
	for i := range checks {
		if checks[i].id == id {
			checks[i].run(t.Context(), x, &finder{x, &checks[i]})
		}
	}
	found := []string{}
	for _, f := range x.report.Findings {
		found = append(found, f.Where+": "+f.What)
	}
	return found
}

// guarded is a configuration with one guard, to which something is added.
func guarded(dialect, dial, admin, apps string) string {
	return `{"admin":` + admin + `,"apps":{` + apps + `"http":{"servers":{"srv0":{"listen":[":8775"],"routes":[{"handle":[{"handler":"metaguard",
		"dialect":{"name":"` + dialect + `"},"upstream":{"upstreams":[{"dial":"` + dial + `"}]}}]}]}}}}}`
}

func TestAdminRemote(t *testing.T) {
	for remote, want := range map[string]int{
		`{}`: 1, `{"access_control":[]}`: 1, `{"access_control":[{"public_keys":["x"]}]}`: 1,
		`{"access_control":[{"public_keys":["x"],"permissions":[{"paths":["/metaguard/"],"methods":["GET"]}]}]}`: 0,
	} {
		if found := examineTree(t, "admin_remote", guarded("openstack", "127.0.0.1:1", `{"remote":`+remote+`}`, ""), nil); len(found) != want {
			t.Errorf("%s: %q", remote, found)
		}
	}
	if found := examineTree(t, "admin_remote", guarded("openstack", "127.0.0.1:1", `{}`, ""), nil); len(found) != 0 {
		t.Errorf("without: %q", found)
	}
}

func TestUpstreamRemote(t *testing.T) {
	for dial, want := range map[string]int{"127.0.0.1:8774": 0, "unix//run/x.sock": 0, "192.0.2.7:8774": 1, "nova.internal:8774": 1} {
		if found := examineTree(t, "upstream_remote", guarded("openstack", dial, `{}`, ""), nil); len(found) != want {
			t.Errorf("%s: %q", dial, found)
		}
	}
}

func TestLogReadable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing on this system")
	}
	path := filepath.Join(t.TempDir(), "x.log")
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		config := `{"logging":{"logs":{"x":{"writer":{"output":"file","filename":` + strings.ReplaceAll(`"`+path+`"`, `\`, `\\`) + `}}}}}`
		if found := examineTree(t, "log_readable", config, nil); len(found) != want {
			t.Errorf("%o: %q", mode, found)
		}
	}
}

// A process that runs an old Caddy is found, whatever this program has.
func TestVulnerableProcess(t *testing.T) {
	old := &process{pid: 7, build: &debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{{Path: caddyModule, Version: "v2.11.2"}, {Path: opaModule, Version: "v1.22.2"}}}}
	found := examineTree(t, "known_vulnerability", guarded("openstack", "127.0.0.1:1", `{}`, ""), func(x *examination) { x.running = old })
	if len(found) < 4 || !strings.Contains(found[0], "the running process 7: ") || !slices.ContainsFunc(found, func(text string) bool {
		return strings.Contains(text, "GHSA-gx7w-56w6-g48x") && strings.Contains(text, "fixed in 2.11.3") && strings.Contains(text, "https://pkg.go.dev/vuln/GO-2026-5408")
	}) {
		t.Errorf("%q", found)
	}
}

// Requests that wait need files, in dialects that have such requests.
func TestOpenFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it can be looked at on Linux only")
	}
	self := func(x *examination) { x.running = &process{pid: os.Getpid()} }
	if found := examineTree(t, "open_files", guarded("openstack", "127.0.0.1:1", `{}`, ""), self); len(found) != 0 {
		t.Errorf("%q", found)
	}
	var limits [2]uint64
	for i, running := range []*process{nil, {pid: os.Getpid()}} {
		var err error
		if limits[i], _, err = (&examination{running: running}).fileLimit(); err != nil {
			t.Fatal(err)
		}
	}
	if limits[0] != limits[1] || limits[0] == 0 {
		t.Errorf("%d here, and %d in /proc", limits[0], limits[1])
	}
	found := examineTree(t, "open_files", guarded("gce", "127.0.0.1:1", `{}`, ""), self)
	if (len(found) == 1) != (limits[0] < filesPerWait*waits+otherFiles) {
		t.Errorf("%d files: %q", limits[0], found)
	}
}

// Only what is Go's own word for an address is taken for one.
func TestWithoutCredentials(t *testing.T) {
	for text, want := range map[string]string{
		"redis://u:secret@127.0.0.1:1/0?password=secret": "redis://127.0.0.1:1", "http://127.0.0.1:1/x": "http://127.0.0.1:1",
		"127.0.0.1:1": "127.0.0.1:1", "u:secret@127.0.0.1:1": "127.0.0.1:1", "unix//run/x.sock": "unix//run/x.sock",
	} {
		if got := withoutCredentials(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}
