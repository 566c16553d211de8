// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
)

// probePath is where load balancers ask whether a site is ready, on the site
// itself. No metadata server has it.
const probePath = "/metaguard/probe"

// isProbe tells whether a request is the probe, in its one spelling and without a
// body. Any other spelling is a request like others.
func isProbe(r *http.Request) bool {
	return r.RequestURI == probePath && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.ContentLength <= 0 && len(r.TransferEncoding) == 0
}

// answerProbe says 200 or 503, and nothing else. It is no decision: it needs no
// identity, is not limited, logged or counted as one, and nothing goes to the
// legacy server but, at most once a second, a connection without a request.
//
// Whoever reaches the site may ask, tenants behind Neutron's agent too, and
// learns what an ordinary request would tell as well: whether it is served.
func (h *Handler) answerProbe(w http.ResponseWriter, r *http.Request) error {
	status := http.StatusOK
	if shuttingDown(r) || len(h.unready(r.Context(), checkUsable)) > 0 {
		status = http.StatusServiceUnavailable
		if peer, err := identity.Peer(r); err == nil && h.identities.Trusts(peer) {
			status = agentStatus(status, r.Method)
		}
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", "0")
	header.Set("Content-Type", "text/plain; charset=utf-8") // without which Neutron's agent makes a 500 of it
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		header.Set("Connection", "close") // as begin does, and why
	}
	w.WriteHeader(status)
	return nil
}

// unready says what keeps the site from serving requests: nothing, if it can
// decide and at least one of its servers answers. What was found of the servers may be
// as old as usable.
func (h *Handler) unready(ctx context.Context, usable time.Duration) []decision.Reason {
	var reasons []decision.Reason
	if h.engine.Policy() == nil {
		reasons = append(reasons, decision.PolicyNotReady)
	}
	if !h.servers.look(ctx, usable).answers() {
		reasons = append(reasons, decision.UpstreamUnreachable)
	}
	return reasons
}

// shuttingDown tells that the site's listener is about to close, for good or
// until the next start. The old servers of a reload go on under the same listener.
func shuttingDown(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := replacer.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}
