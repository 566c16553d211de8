// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestCgroup(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for text, want := range map[string][3]string{
		"0::/system.slice/nginx.service\n":                                               {"/system.slice/nginx.service", "nginx.service", ""},
		"0::/\n1:name=systemd:/user.slice/a.scope\n":                                     {"/user.slice/a.scope", "a.scope", ""},
		"1:name=systemd:/old.slice\n0::/new.slice/x.service/sub\n":                       {"/new.slice/x.service/sub", "x.service", ""},
		"0::/system.slice/docker-" + id + ".scope\n":                                     {"/system.slice/docker-" + id + ".scope", "docker-" + id + ".scope", id},
		"0::/kubepods.slice/pod1.slice/cri-containerd-" + id + ".scope\n":                {"/kubepods.slice/pod1.slice/cri-containerd-" + id + ".scope", "cri-containerd-" + id + ".scope", id},
		"0::/docker/" + id + "\n":                                                        {"/docker/" + id, "", id},
		"0::/machine.slice/libpod-" + id + ".scope/container\n":                          {"/machine.slice/libpod-" + id + ".scope/container", "libpod-" + id + ".scope", id},
		"0::/machine.slice/libpod-conmon-" + id + ".scope\n":                             {"/machine.slice/libpod-conmon-" + id + ".scope", "libpod-conmon-" + id + ".scope", ""},
		"0::/x/" + id + "0\n":                                                            {"/x/" + id + "0", "", ""},
		"4:memory:/somewhere\n0::/\n":                                                    {"/", "", ""},
		"0::/a:b/.service\n":                                                             {"/a:b/.service", "", ""},
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/trusted.service/y\n": {"/user.slice/user-1000.slice/user@1000.service/app.slice/trusted.service/y", "trusted.service", ""},
		"": {"", "", ""},
	} {
		path := cgroupPath(text)
		if got := [3]string{path, cgroupUnit(path), cgroupContainer(path)}; got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	names := &namesFile{path: path}
	if got, err := names.lookup(0); err != nil || len(got) != 0 {
		t.Errorf("no file: %v, %v", got, err)
	}
	write := func(text string, at time.Time) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write("root:x:0:0::/:/bin/sh\n+nis::1:1\ntoor:x:0:0\n:x:2:\nbad\nann:x:1000:1000\nbob:x:4294967296:\nend:x:7", now)
	if got, err := names.lookup(1000, 0, 1, 2, 7); err != nil || !slices.Equal(got, []string{"ann", "root"}) {
		t.Errorf("%v, %v", got, err)
	}
	write("eve:x:1000:1000\n", now.Add(time.Second))
	if got, err := names.lookup(1000); err != nil || !slices.Equal(got, []string{"eve"}) {
		t.Errorf("after a change: %v, %v", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := names.lookup(1000); err == nil {
		t.Errorf("what cannot be read has names: %v", got)
	}
}

func TestProcessCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"process":                      "",
		"process {\n}":                 "",
		"process {\ntarget claim x\n}": "",
		"process x":                    "takes a block",
		"process {\nuser root\n}":      `unknown setting "user"`,
		"process {\ntarget claim\n}":   "target claim <name>",
		"process {\ntarget claim x\ntarget claim y\n}": "target of identify process is given twice",
	} {
		p := new(Process)
		err := p.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v", text, err)
		case err != nil && !strings.Contains(err.Error(), "Testfile:"):
			t.Errorf("%q: no place in %v", text, err)
		}
		if want == "" && strings.Contains(text, "target") != (p.TargetRule() != nil) {
			t.Errorf("%q: target %v", text, p.TargetRule())
		}
		p.Stop()
		if err := p.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzProcessText feeds what processes can write themselves.
func FuzzProcessText(f *testing.F) {
	f.Add("0::/system.slice/a.service\n")
	f.Add("root:x:0:0::/:/bin/sh\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := cgroupPath(text)
		if unit := cgroupUnit(path); !strings.Contains(path, unit) {
			t.Errorf("unit %q of %q", unit, path)
		}
		if id := cgroupContainer(path); id != "" && (len(id) != 64 || !strings.Contains(path, id)) {
			t.Errorf("container %q of %q", id, path)
		}
		parseNames([]byte(text))
	})
}
