// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(new(upstreamProxy)) }

// upstreamProxy is Caddy's reverse_proxy as a module of Metaguard, with a logger of its
// own that a log can leave out: it makes a line of every request and answer for each log
// that could take it, although it writes them at level DEBUG only.
type upstreamProxy struct {
	reverseproxy.Handler

	provisioned bool
}

// CaddyModule returns the Caddy module information.
func (*upstreamProxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.reverse_proxy",
		New: func() caddy.Module { return new(upstreamProxy) },
	}
}

// Provision sets the proxy up.
func (p *upstreamProxy) Provision(ctx caddy.Context) error {
	err := p.Handler.Provision(ctx)
	p.provisioned = err == nil
	return err
}

// Cleanup gives back what Provision took, if it has taken all of it: reverse_proxy's
// own would take servers from the configuration in force, of which it counts the uses.
func (p *upstreamProxy) Cleanup() error {
	if !p.provisioned {
		return nil
	}
	p.provisioned = false
	return p.Handler.Cleanup()
}

// loadUpstream has Caddy load the proxy, and end it with the configuration.
func (h *Handler) loadUpstream(ctx caddy.Context) error {
	settings, err := json.Marshal(h.Upstream)
	if err != nil {
		return err
	}
	loaded, err := ctx.LoadModuleByID(string(new(upstreamProxy).CaddyModule().ID), settings)
	if err != nil {
		return err
	}
	proxy, ok := loaded.(*upstreamProxy)
	if !ok {
		return fmt.Errorf("the proxy is a %T", loaded)
	}
	h.Upstream = &proxy.Handler
	if source := h.Upstream.DynamicUpstreams; source != nil {
		h.Upstream.DynamicUpstreams = &tellingSource{UpstreamSource: source, logger: h.logger}
	}
	return nil
}

// tellingSource is a source of upstreams that says what goes wrong. Where there are
// others to fall back to, nobody would know.
type tellingSource struct {
	reverseproxy.UpstreamSource

	logger *zap.Logger
	told   atomic.Int64 // when, in nanoseconds
}

// tellAgain is how long nothing is said after an error.
const tellAgain = 10 * time.Second

// GetUpstreams implements reverseproxy.UpstreamSource.
func (s *tellingSource) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) {
	upstreams, err := s.UpstreamSource.GetUpstreams(r)
	s.tell(r, err)
	return upstreams, err
}

// ResetCache implements reverseproxy.CachingUpstreamSource.
func (s *tellingSource) ResetCache(r *http.Request) error {
	caching, ok := s.UpstreamSource.(reverseproxy.CachingUpstreamSource)
	if !ok {
		return nil
	}
	err := caching.ResetCache(r)
	s.tell(r, err)
	return err
}

func (s *tellingSource) tell(r *http.Request, err error) {
	if err == nil || r.Context().Err() != nil { // whose client has left
		return
	}
	now, last := time.Now().UnixNano(), s.told.Load()
	if now-last >= int64(tellAgain) && s.told.CompareAndSwap(last, now) {
		s.logger.Error("upstreams cannot be found: the configured ones are asked, if there are any", zap.Error(err))
	}
}

// Interface guards.
var (
	_ caddy.Provisioner                  = (*upstreamProxy)(nil)
	_ caddy.CleanerUpper                 = (*upstreamProxy)(nil)
	_ reverseproxy.CachingUpstreamSource = (*tellingSource)(nil)
)
