// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/metaguard/metaguard/module/decision"
)

// How many requests may wait for a change at one time, of a site's callers
// together and of each. Each holds two connections and the goroutines that
// serve them, and no memory for an answer until one comes.
const (
	maxWaits          = 4096
	maxWaitsPerCaller = 64
)

// waitMargin is what a server may take over the time for which it was asked to
// wait.
const waitMargin = 10 * time.Second

// waits are the requests of a site that wait for a change. They end, with an
// answer, when the site's server shuts down: a reload or a stop would otherwise
// cut them off after the grace period.
type waits struct {
	over context.Context //nolint:containedctx // ends when the server shuts down, with no call
	end  context.CancelFunc

	gauge prometheus.Gauge

	mu      sync.Mutex
	all     int
	callers map[string]int
}

func newWaits(ctx caddy.Context, gauge prometheus.Gauge) *waits {
	w := &waits{gauge: gauge, callers: make(map[string]int)}
	w.over, w.end = context.WithCancel(context.Background())
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(w.end)
	}
	return w
}

// waiter is whose places a request that waits takes: the caller's, or, as for
// limits, those of the host where many share an id or one may have many.
func (x *exchange) waiter() string {
	address := x.caller.Address
	switch {
	case x.caller.Source == "anonymous":
		if x.h.limits != nil {
			address = x.h.limits.config.Address.Of(x.r, x.peer)
		}
	case !strings.HasPrefix(x.caller.ID, "address:"):
		return x.caller.ID
	}
	if !address.IsValid() || x.agent {
		return x.caller.ID
	}
	return neighbourhood(address).String()
}

// begin counts a request that waits, and has it cancelled when the server shuts
// down. Whoever began calls done.
func (w *waits) begin(caller string, cancel context.CancelFunc) (done func(), _ *decision.Refusal) {
	if w.ended() {
		return nil, waitEnded()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.all >= maxWaits:
		return nil, decision.Refuse(decision.Overloaded, "waits")
	case w.callers[caller] >= maxWaitsPerCaller:
		refusal := decision.Refuse(decision.RateLimited, "waits_of_caller")
		refusal.RetryAfter = waitMargin // there may be room then; nobody knows
		return nil, refusal
	}
	w.all++
	w.callers[caller]++
	w.gauge.Inc()
	stop := context.AfterFunc(w.over, cancel)
	return func() {
		stop()
		w.gauge.Dec()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all--
		if w.callers[caller]--; w.callers[caller] == 0 {
			delete(w.callers, caller)
		}
	}, nil
}

// now is how many requests wait.
func (w *waits) now() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

func (w *waits) ended() bool { return w.over.Err() != nil }

// waitEnded tells a client that waits to ask again.
func waitEnded() *decision.Refusal {
	refusal := decision.Refuse(decision.UpstreamTimeout, "wait_ended")
	refusal.RetryAfter = time.Second
	return refusal
}

// checkWaits refuses timeouts of the site's server that would cut off a request that
// waits: Caddy lets no handler lengthen `write` (modules/caddyhttp/idletimeout.go),
// and net/http takes the end of `read_body` for a client that left.
func (h *Handler) checkWaits(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || h.traits.MaxWait == 0 {
		return nil
	}
	least := h.traits.MaxWait + waitMargin + writeTimeout
	for name, timeout := range map[string]caddy.Duration{"read_body": server.ReadTimeout, "write": server.WriteTimeout} {
		if timeout > 0 && time.Duration(timeout) < least {
			return fmt.Errorf("timeouts %s %s of the server would cut off requests that wait for a change, which dialect %s has; leave it out, or use at least %s",
				name, time.Duration(timeout), h.dialect.Name(), least)
		}
	}
	return nil
}
