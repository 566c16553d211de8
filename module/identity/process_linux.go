// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/decision"
)

// The bounds of what local processes can make Metaguard do at once.
const (
	maxProcessLookups  = 32              // requests that look at processes
	maxProcessSearches = 2               // of them, those that search all of /proc
	processWait        = 2 * time.Second // for one of these places
)

// Provision reads the target's inventory. It opens nothing else.
func (p *Process) Provision(ctx caddy.Context) error {
	p.logger = ctx.Logger()
	p.finder = newProcessFinder("/proc")
	if p.Target == nil {
		return nil
	}
	if err := p.Target.Provision(ctx); err != nil {
		return fmt.Errorf("identify process: %w", err)
	}
	return nil
}

// Start checks that the kernel can be asked, and follows the target's inventory.
func (p *Process) Start() error {
	if p.finder == nil {
		return errors.New("starting identify process: it is not provisioned")
	}
	if _, err := findTCP(endpoints{client: netip.MustParseAddrPort("127.0.0.1:1"), server: netip.MustParseAddrPort("127.0.0.1:1")}); err != nil && !errors.Is(err, errNoSocket) {
		return fmt.Errorf("starting identify process: asking the kernel for sockets: %w; allow AF_NETLINK (RestrictAddressFamilies= of systemd, seccomp) and the kernel modules inet_diag, tcp_diag and unix_diag", err)
	}
	if dir, err := os.Open(p.finder.proc + "/1/fd"); err != nil {
		p.logger.Warn("other users' processes cannot be read and are refused as process_unreadable: run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", zap.Error(err))
	} else {
		_ = dir.Close()
	}
	return p.Target.Start()
}

// Identify claims what comes from this host. Its codes, with identity_invalid:
//
//   - process_gone: the process, or its socket, vanished or changed while it
//     was looked at; or it is in another PID namespace
//   - process_ambiguous: several processes hold the socket that differ in
//     user, groups, executable or control group
//   - process_unreadable: there is no permission to look at processes
//   - process_user_changed: the socket was made under another user or group
//     than the process has now, as happens when a set-user-ID program is
//     started on an open connection
//   - process_connection_hidden: a listener wrapper hides the connection
//
// and with identity_unavailable:
//
//   - process_unavailable: the kernel cannot be asked
//   - process_names_unreadable: /etc/passwd or /etc/group cannot be read
//   - process_busy: too many requests are looked at already
func (p *Process) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	conn, refusal := localConnection(r)
	if conn == nil {
		return nil, refusal
	}
	process, refusal := p.finder.find(r.Context(), conn)
	if refusal != nil {
		return nil, refusal
	}
	return &decision.Caller{
		Source:  processName,
		ID:      "uid:" + strconv.Itoa(process.UserID),
		Address: plain(peer),
		Process: process,
	}, nil
}

// processFinder finds the process behind a connection.
type processFinder struct {
	proc     string // where the proc file system is
	partial  bool   // we are in a user namespace, and see some users as nobody
	users    *namesFile
	groups   *namesFile
	known    *processCache
	lookups  chan struct{}
	searches chan struct{}
}

func newProcessFinder(proc string) *processFinder {
	return &processFinder{
		proc:     proc,
		partial:  partialUsers(),
		users:    &namesFile{path: "/etc/passwd"},
		groups:   &namesFile{path: "/etc/group"},
		known:    new(processCache),
		lookups:  make(chan struct{}, maxProcessLookups),
		searches: make(chan struct{}, maxProcessSearches),
	}
}

// overflowID is what the kernel shows for a user that our namespace lacks.
const overflowID = 65534

// partialUsers tells whether there are such users.
func partialUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err != nil || len(fields) != 3 || fields[2] != "4294967295"
}

// find looks at everything anew on each request, since a process can become
// another user or program under an open connection. Only where the socket was
// found is remembered, for a while.
func (f *processFinder) find(ctx context.Context, conn *localConn) (*decision.Process, *decision.Refusal) {
	leave, err := enter(ctx, f.lookups)
	if err != nil {
		return nil, decision.RefuseWith(decision.IdentityUnavailable, "process_busy", err)
	}
	defer leave()

	before, err := conn.socket()
	if err != nil {
		return nil, refuseProcess(err)
	}
	seen, err := f.owner(ctx, before)
	if err != nil {
		return nil, refuseProcess(err)
	}
	after, err := conn.socket()
	if err != nil {
		return nil, refuseProcess(err)
	}
	if after != before {
		return nil, refuseProcess(errProcessGone)
	}
	if err := f.name(&seen.process); err != nil {
		return nil, refuseProcess(err)
	}
	return &seen.process, nil
}

// owner describes the process that holds a socket: the one where it was found a
// moment ago, or the one that a search finds.
func (f *processFinder) owner(ctx context.Context, s socket) (*seenProcess, error) {
	if at, ok := f.known.get(s); ok {
		seen, err := f.describe(at, s)
		if err == nil && (s.pid == 0 || s.pid == at.pid) {
			return seen, nil
		}
		if err != nil && !errors.Is(err, errProcessGone) {
			return nil, err
		}
	}
	leave, err := enter(ctx, f.searches)
	if err != nil {
		return nil, err
	}
	defer leave()
	holders, err := f.search(ctx, s.inode)
	if err != nil {
		return nil, err
	}
	seen, at, err := f.agree(holders, s)
	if err == nil && at.pid != 0 {
		f.known.put(s, at)
	}
	return seen, err
}

// name fills in the names of the user and the groups.
func (f *processFinder) name(process *decision.Process) error {
	users, err := f.users.lookup(process.UserID)
	if err != nil {
		return fmt.Errorf("%w: %w", errProcessNames, err)
	}
	if len(users) > 0 {
		process.User = users[0]
	}
	if process.Groups, err = f.groups.lookup(process.GroupIDs...); err != nil {
		return fmt.Errorf("%w: %w", errProcessNames, err)
	}
	return nil
}

// enter waits for a free place, not for ever.
func enter(ctx context.Context, places chan struct{}) (leave func(), err error) {
	leave = func() { <-places }
	select {
	case places <- struct{}{}:
		return leave, nil
	default:
	}
	timer := time.NewTimer(processWait)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errProcessBusy, context.Cause(ctx))
	case <-timer.C:
		return nil, errProcessBusy
	}
}

// What can be wrong with a process. None of these is for the client.
var (
	errProcessGone       = errors.New("the process or its socket is gone, has changed, or is in another PID namespace")
	errProcessAmbiguous  = errors.New("the socket is held by several processes that differ")
	errProcessUnreadable = errors.New("there is no permission to look at the process: run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")
	errProcessUser       = errors.New("the socket was made under another user or group than the process has now")
	errProcessNames      = errors.New("there are no names of users and groups")
	errProcessBusy       = errors.New("too many processes are looked at already")
)

func refuseProcess(err error) *decision.Refusal {
	for _, known := range []struct {
		err    error
		reason decision.Reason
		code   string
	}{
		{errProcessGone, decision.IdentityInvalid, "process_gone"},
		{errNoSocket, decision.IdentityInvalid, "process_gone"},
		{errProcessAmbiguous, decision.IdentityInvalid, "process_ambiguous"},
		{errProcessUnreadable, decision.IdentityInvalid, "process_unreadable"},
		{errProcessUser, decision.IdentityInvalid, "process_user_changed"},
		{errProcessNames, decision.IdentityUnavailable, "process_names_unreadable"},
		{errProcessBusy, decision.IdentityUnavailable, "process_busy"},
	} {
		if errors.Is(err, known.err) {
			return decision.RefuseWith(known.reason, known.code, err)
		}
	}
	return decision.RefuseWith(decision.IdentityUnavailable, "process_unavailable", err)
}
