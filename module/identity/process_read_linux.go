// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/metaguard/metaguard/module/decision"
)

// The bounds of what is read about a process, in bytes.
const (
	maxProcessFile = 1 << 20 // status holds up to 65,536 groups
	maxCommandLine = 2 << 20
)

// seenProcess is a process as it was for one moment.
type seenProcess struct {
	process decision.Process
	started uint64 // in clock ticks since the boot
	link    string // of the executable, as the kernel writes it
}

// describe reads what a policy sees of a process that holds a socket. The open
// directory stays that process's: when it ends, reading fails, whoever has its
// number then. All that another program or user would change is read twice.
func (f *processFinder) describe(at place, s socket) (*seenProcess, error) {
	dir, err := unix.Open(f.proc+"/"+strconv.Itoa(at.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, processError(err)
	}
	defer unix.Close(dir) //nolint:errcheck // read only
	seen := &seenProcess{process: decision.Process{PID: at.pid}}
	before, err := readVital(dir, at.fd, s)
	if err != nil {
		return nil, err
	}
	if before.userID != s.uid || before.groups[0] != before.socketGroup {
		return nil, errProcessUser
	}
	if f.partial && before.userID == overflowID {
		return nil, fmt.Errorf("%w: its user is not in our user namespace", errProcessUnreadable)
	}
	seen.started, seen.link = before.started, before.link
	seen.process.UserID, seen.process.GroupIDs = int(before.userID), before.groupIDs()
	seen.process.Executable = executable(dir, before.link)
	if seen.process.CommandLineSHA256, err = commandLine(dir); err != nil {
		return nil, err
	}
	text, err := readAt(dir, "cgroup", maxProcessFile)
	if err != nil {
		return nil, err
	}
	path := cgroupPath(string(text))
	seen.process.Cgroup, seen.process.Unit, seen.process.ContainerID = path, cgroupUnit(path), cgroupContainer(path)
	after, err := readVital(dir, at.fd, s)
	if err != nil {
		return nil, err
	}
	if !before.same(after) {
		return nil, errProcessGone
	}
	return seen, nil
}

// vital is what must be the same before and after.
type vital struct {
	started     uint64
	userID      uint32
	groups      []uint32 // the effective one first
	socketGroup uint32   // under which the socket was made
	link        string
}

func (v *vital) same(other *vital) bool {
	return v.started == other.started && v.userID == other.userID && v.socketGroup == other.socketGroup &&
		v.link == other.link && slices.Equal(v.groups, other.groups)
}

func (v *vital) groupIDs() []int {
	rest := slices.Clone(v.groups[1:])
	slices.Sort(rest)
	ids := make([]int, 1, len(v.groups))
	ids[0] = int(v.groups[0])
	for i, id := range rest {
		if id != v.groups[0] && (i == 0 || id != rest[i-1]) {
			ids = append(ids, int(id))
		}
	}
	return ids
}

// readVital reads it, if the process still holds the socket.
func readVital(dir int, fd string, s socket) (*vital, error) {
	v := new(vital)
	text, err := readAt(dir, "stat", maxProcessFile)
	if err != nil {
		return nil, err
	}
	if v.started, err = startTime(text); err != nil {
		return nil, err
	}
	if v.link, err = linkAt(dir, "fd/"+fd); err != nil {
		return nil, err
	}
	if v.link != socketName(s.inode) {
		return nil, errProcessGone
	}
	if v.socketGroup = s.gid; s.pid == 0 {
		var stat unix.Stat_t
		if err := unix.Fstatat(dir, "fd/"+fd, &stat, 0); err != nil {
			return nil, processError(err)
		}
		v.socketGroup = stat.Gid
	}
	if text, err = readAt(dir, "status", maxProcessFile); err != nil {
		return nil, err
	}
	if v.userID, v.groups, err = credentials(text); err != nil {
		return nil, err
	}
	v.link, err = linkAt(dir, "exe")
	return v, err
}

// startTime is field 22 of stat. The second field, the name in parentheses, is
// what the process likes.
func startTime(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, errors.New("reading when the process started: too few fields")
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return 0, errProcessGone
	}
	started, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading when the process started: %w", err)
	}
	return started, nil
}

// credentials reads the effective user and group and the other groups. The name
// of the process stands in the same file, with its line ends escaped.
func credentials(status []byte) (user uint32, groups []uint32, err error) {
	const effective = 1
	var users, own, others []uint32
	for line := range bytes.Lines(status) {
		name, values, _ := bytes.Cut(line, []byte(":"))
		switch string(name) {
		case "Uid":
			users, err = numbers(values)
		case "Gid":
			own, err = numbers(values)
		case "Groups":
			others, err = numbers(values)
		}
		if err != nil {
			return 0, nil, fmt.Errorf("reading the process's user and groups: %w", err)
		}
	}
	if len(users) != 4 || len(own) != 4 {
		return 0, nil, errors.New("reading the process's user and groups: there are none")
	}
	return users[effective], append(own[effective:effective+1:effective+1], others...), nil
}

func numbers(text []byte) ([]uint32, error) {
	var list []uint32
	for field := range bytes.FieldsSeq(text) {
		number, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return nil, err
		}
		list = append(list, uint32(number))
	}
	return list, nil
}

// executable is the path of the running file, if it is that file's for us too: a
// process can have any file under any name in a file system of its own.
func executable(dir int, link string) string {
	var running, ours unix.Statx_t
	const flags, mask = unix.AT_STATX_DONT_SYNC, unix.STATX_INO
	if !strings.HasPrefix(link, "/") ||
		unix.Statx(dir, "exe", flags, mask, &running) != nil ||
		unix.Statx(unix.AT_FDCWD, link, flags|unix.AT_SYMLINK_NOFOLLOW, mask, &ours) != nil ||
		running.Ino != ours.Ino || running.Dev_major != ours.Dev_major || running.Dev_minor != ours.Dev_minor {
		return ""
	}
	return link
}

// commandLine is the SHA-256 of the arguments, or empty where they are too long.
func commandLine(dir int) (string, error) {
	text, err := readAt(dir, "cmdline", maxCommandLine+1)
	if err != nil || len(text) > maxCommandLine {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// readAt reads a file of a process, up to a limit.
func readAt(dir int, name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, processError(err)
	}
	defer unix.Close(fd) //nolint:errcheck // read only
	text := make([]byte, 0, 2048)
	for len(text) < limit {
		if len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
		n, err := unix.Read(fd, text[len(text):min(cap(text), limit)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, processError(err)
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

func linkAt(dir int, name string) (string, error) {
	var link [4096]byte
	n, err := unix.Readlinkat(dir, name, link[:])
	if err != nil {
		return "", processError(err)
	}
	return string(link[:n]), nil
}

// processError says what an error of /proc means.
func processError(err error) error {
	switch {
	case isGone(err):
		return errProcessGone
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", errProcessUnreadable, err)
	}
	return fmt.Errorf("reading the process: %w", err)
}
