// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package identity

import (
	"errors"
	"net/http"
	"net/netip"
	"runtime"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// processFinder is there on Linux only.
type processFinder struct{}

var errNotLinux = errors.New("identify process needs Linux: " + runtime.GOOS + " does not tell which process owns a connection; use another identity source")

// Provision fails.
func (*Process) Provision(caddy.Context) error { return errNotLinux }

// Start fails.
func (*Process) Start() error { return errNotLinux }

// Identify refuses everything: nothing gets here, since Provision fails.
func (*Process) Identify(*http.Request, netip.Addr) (*decision.Caller, *decision.Refusal) {
	return nil, decision.RefuseWith(decision.IdentityUnavailable, "process_unavailable", errNotLinux)
}
