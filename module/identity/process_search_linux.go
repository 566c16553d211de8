// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHolders bounds how many processes may hold one socket.
const maxHolders = 64

// search finds every process that holds a socket. A process that ends
// meanwhile holds nothing any more.
func (f *processFinder) search(ctx context.Context, inode uint64) ([]place, error) {
	root, err := os.Open(f.proc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProcessUnreadable, err)
	}
	defer root.Close() //nolint:errcheck // read only
	names, err := root.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProcessUnreadable, err)
	}
	wanted := socketName(inode)
	buffer := make([]byte, 16<<10)
	var found []place
	hidden, first := false, false
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 0 {
			continue
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", errProcessBusy, context.Cause(ctx))
		}
		first = first || pid == 1
		fd, err := descriptorOf(f.proc+"/"+name+"/fd", wanted, buffer)
		switch {
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			hidden = true
		case isGone(err):
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errProcessUnreadable, err)
		case fd != "":
			found = append(found, place{pid, fd})
		}
		if len(found) > maxHolders {
			return nil, fmt.Errorf("%w: there are more than %d", errProcessAmbiguous, maxHolders)
		}
	}
	if len(found) == 0 {
		if hidden || !first { // without process 1, others are hidden too
			return nil, errProcessUnreadable
		}
		return nil, errProcessGone
	}
	return found, nil
}

func socketName(inode uint64) string { return "socket:[" + strconv.FormatUint(inode, 10) + "]" }

// isGone tells whether an error of /proc means that the process has ended.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }

// descriptorOf finds the file descriptor that is a link to wanted, or nothing.
func descriptorOf(path, wanted string, buffer []byte) (string, error) {
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir) //nolint:errcheck // read only
	var link [64]byte
	var names []string
	var denied error
	for {
		n, err := unix.ReadDirent(dir, buffer)
		if err != nil {
			return "", err
		}
		if n <= 0 {
			return "", denied
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names[:0])
		for _, name := range names {
			n, err := unix.Readlinkat(dir, name, link[:])
			switch {
			case err == nil:
				if string(link[:n]) == wanted {
					return name, nil
				}
			case !isGone(err):
				denied = err
			}
		}
	}
}

// agree describes the processes that hold a socket, which must be alike, and
// gives the one that was there first. Children that a program starts hold its
// sockets for a moment, and workers for good.
func (f *processFinder) agree(holders []place, s socket) (*seenProcess, place, error) {
	var chosen *seenProcess
	var at place
	connected := s.pid == 0
	for _, holder := range holders {
		seen, err := f.describe(holder, s)
		if errors.Is(err, errProcessGone) {
			continue // it let go of it
		}
		if errors.Is(err, errProcessUser) && len(holders) > 1 {
			return nil, place{}, errProcessAmbiguous
		}
		if err != nil {
			return nil, place{}, err
		}
		connected = connected || holder.pid == s.pid
		if chosen == nil {
			chosen, at = seen, holder
			continue
		}
		if !alike(chosen, seen) {
			return nil, place{}, errProcessAmbiguous
		}
		if seen.process.CommandLineSHA256 != chosen.process.CommandLineSHA256 {
			chosen.process.CommandLineSHA256, seen.process.CommandLineSHA256 = "", ""
		}
		if holder.pid == s.pid || at.pid != s.pid && startedBefore(seen, chosen) {
			chosen, at = seen, holder
		}
	}
	if chosen == nil || !connected {
		return nil, place{}, errProcessGone
	}
	if len(holders) > 1 {
		// It is not remembered, so that each request compares them all.
		return chosen, place{}, nil
	}
	return chosen, at, nil
}

// alike tells whether two processes are the same to a policy.
func alike(a, b *seenProcess) bool {
	return a.process.UserID == b.process.UserID && slices.Equal(a.process.GroupIDs, b.process.GroupIDs) &&
		a.link == b.link && a.process.Executable == b.process.Executable && a.process.Cgroup == b.process.Cgroup
}

func startedBefore(a, b *seenProcess) bool {
	return a.started < b.started || a.started == b.started && a.process.PID < b.process.PID
}
