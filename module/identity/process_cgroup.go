// SPDX-License-Identifier: Apache-2.0

package identity

import "strings"

// cgroupPath finds the path in the text of /proc/<pid>/cgroup: the unified
// hierarchy's, or systemd's own where the unified one is not in use.
func cgroupPath(text string) string {
	path := ""
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, found, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "" && found != "/" && found != "":
			return found
		case controllers == "" && path == "", controllers == "name=systemd":
			path = found
		}
	}
	return path
}

// cgroupUnit is the innermost service or scope of systemd in a path, or empty.
func cgroupUnit(path string) string {
	for path != "" {
		at := strings.LastIndexByte(path, '/')
		name := path[at+1:]
		if len(name) > len(".service") && strings.HasSuffix(name, ".service") || len(name) > len(".scope") && strings.HasSuffix(name, ".scope") {
			return name
		}
		path = path[:max(at, 0)]
	}
	return ""
}

// cgroupContainer is the innermost id of a container in a path, or empty:
// `<id>`, or `docker-<id>.scope` and the like with another word before the id. A
// container's monitor (`libpod-conmon-<id>.scope`) is not in the container.
func cgroupContainer(path string) string {
	for path != "" {
		at := strings.LastIndexByte(path, '/')
		name := strings.TrimSuffix(path[at+1:], ".scope")
		path = path[:max(at, 0)]
		prefix, id := "", name
		if dash := strings.LastIndexByte(name, '-'); dash >= 0 {
			prefix, id = name[:dash], name[dash+1:]
		}
		if isContainerID(id) && prefix != "conmon" && !strings.HasSuffix(prefix, "-conmon") {
			return id
		}
	}
	return ""
}

func isContainerID(text string) bool {
	if len(text) != 64 {
		return false
	}
	for i := range len(text) {
		if !lowerHex(text[i]) {
			return false
		}
	}
	return true
}
