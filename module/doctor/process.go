// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"debug/buildinfo"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// littleEndian is the order of this machine's bytes.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// process is the running server, as far as this user may see it.
type process struct {
	pid     int
	environ map[string]string // nil where it may not be seen
	build   *debug.BuildInfo  // nil where it may not be seen
}

// lookAt looks at a process under /proc.
func lookAt(pid int) *process {
	seen := &process{pid: pid}
	root := fmt.Sprintf("/proc/%d/", pid)
	if content, err := os.ReadFile(root + "environ"); err == nil {
		seen.environ = map[string]string{}
		for entry := range strings.SplitSeq(string(content), "\x00") {
			if name, value, found := strings.Cut(entry, "="); found {
				seen.environ[name] = value
			}
		}
	}
	if build, err := buildinfo.ReadFile(root + "exe"); err == nil {
		seen.build = build
	}
	return seen
}

// dataDirectory is Caddy's data directory, as the server's environment makes it.
func (x *examination) dataDirectory() string {
	if x.running == nil || x.running.environ == nil {
		return caddy.AppDataDir()
	}
	if base := x.running.environ["XDG_DATA_HOME"]; base != "" {
		return filepath.Join(base, "caddy")
	}
	if home := x.running.environ["HOME"]; home != "" {
		return filepath.Join(home, ".local", "share", "caddy")
	}
	return caddy.AppDataDir()
}
