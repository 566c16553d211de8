// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
)

const processName = "process"

func init() { caddy.RegisterModule(new(Process)) }

// Process knows the local process at the other end of a connection, as the
// Linux kernel shows it. It is for a sidecar on the callers' own host.
//
// It claims every connection over a Unix socket, and every TCP connection from
// an address of this host in this network namespace; none from elsewhere and
// none over HTTP/3. Behind a local proxy the caller is the proxy, whatever its
// headers or the PROXY protocol say. A connection that iptables redirected to
// Metaguard, such as one to 169.254.169.254, is found all the same.
//
// Caller: id `uid:<number>`, the effective user that the process has now; the
// connection's address; `input.caller.process` with what a policy can judge:
//
// Field | What it is, and what it proves
// ------|-------------------------------
// `user_id`, `user`, `group_ids`, `groups` | The effective user, and the effective group before the others. Names are those of /etc/passwd and /etc/group, empty where these have none
// `executable` | The running file, if its path names the same file for Metaguard: empty for one that was replaced or deleted since, or that lies in a container. Whoever may be that user may also run that file with arguments of their own, or debug it
// `command_line_sha256` | Proves nothing alone: a process writes there what it likes. Empty for more than 2 MiB
// `cgroup`, `unit`, `container_id` | Compare `cgroup` where it matters: below `user@1000.service` user 1000 makes units of any name
// `pid` | For logs
//
// Metaguard must be root, or have CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, to see
// the processes of other users; CAP_NET_ADMIN is not needed. It must be in the
// same PID namespace as the callers, and its sandbox must allow AF_NETLINK.
//
// The admin API must not listen on TCP beside it, since every local process
// could change the configuration there: use a Unix socket, or `admin off`.
type Process struct {
	// On whose data callers act, since they are no instances.
	Target *TargetRule `json:"target,omitempty"`

	logger *zap.Logger
	finder *processFinder
}

// CaddyModule says what this is to Caddy.
func (*Process) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.process",
		New: func() caddy.Module { return new(Process) },
	}
}

// Cleanup ends what Start began. Requests that still run go on.
func (p *Process) Cleanup() error {
	p.Stop()
	return nil
}

// Stop ends what Start began, if anything.
func (p *Process) Stop() { p.Target.Stop() }

// Name is "process".
func (*Process) Name() string { return processName }

// Headers are those of the target rule.
func (p *Process) Headers() []string { return p.Target.headers() }

// TargetRule says on whose data callers act.
func (p *Process) TargetRule() *TargetRule { return p.Target }

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify process {
//		target remote_ip <inventory-file> [connection|client_ip|proxy_protocol]
//		target claim <name> [<project-claim>]
//		target request <inventory-file>
//	}
//
// The block may be left out, and holds one target.
func (p *Process) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return unmarshalTargetOnly(d, "identify process", &p.Target)
}

var (
	_ caddy.Module          = (*Process)(nil)
	_ caddy.Provisioner     = (*Process)(nil)
	_ caddy.CleanerUpper    = (*Process)(nil)
	_ caddyfile.Unmarshaler = (*Process)(nil)
	_ Source                = (*Process)(nil)
	_ Targeter              = (*Process)(nil)
	_ Starter               = (*Process)(nil)
)
