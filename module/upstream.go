// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/canonical"
)

// forbiddenUpstream lists the sub-directives of reverse_proxy that would change
// a request after it was judged, or an answer before it is checked, and what to
// do instead.
var forbiddenUpstream = map[string]string{
	"rewrite":            "it would change a request that was judged already",
	"method":             "it would change a request that was judged already",
	"handle_response":    "it would answer past the checks of an answer",
	"replace_status":     "it would change an answer before it is checked",
	"intercept":          "it would answer past the checks of an answer",
	"trusted_proxies":    "what clients say of themselves is never forwarded; see `identify` for whom to believe",
	"request_buffers":    "Metaguard reads bodies whole by itself; see `password` and `body_timeout`",
	"response_buffers":   "Metaguard buffers answers by itself; see `response`",
	"lb_retry_match":     "a request is sent again only if no connection could be made",
	"flush_interval":     "answers are sent whole",
	"stream_timeout":     "nothing is streamed",
	"stream_close_delay": "nothing is streamed",
	"stream_buffer_size": "nothing is streamed",
	"health":             "Metaguard sends nothing upstream that no decision allowed; use fail_duration and the other passive checks",
	"header_down":        "answers keep only the headers on Metaguard's list; write `header` in the site to add one",
}

// transportDefaults are set where the operator did not say otherwise.
var transportDefaults = map[string]any{
	"protocol": "http",
	"versions": []string{"1.1"},
	// A connection serves one request, so that a server which sends more than
	// one answer cannot give one caller's to another, and one that says nothing
	// of closing it, but reads no second request, answers all the same.
	"keep_alive":               map[string]any{"enabled": false},
	"compression":              false,
	"network_proxy":            map[string]any{"from": "none"},
	"dial_timeout":             "3s",
	"response_header_timeout":  "10s",
	"read_timeout":             "10s",
	"write_timeout":            "10s",
	"max_response_header_size": 64 << 10,
}

// unmarshalUpstream reads `upstream` with reverse_proxy's own parser, after
// refusing, with file and line, what may not be there.
func unmarshalUpstream(d *caddyfile.Dispenser) (*reverseproxy.Handler, error) {
	segment := d.NextSegment()
	check := caddyfile.NewDispenser(segment)
	for check.Next() {
		for nesting := check.Nesting(); check.NextBlock(nesting); {
			name := check.Val()
			if strings.HasPrefix(name, "health_") {
				name = "health"
			}
			if why, forbidden := forbiddenUpstream[name]; forbidden {
				return nil, check.Errf("upstream: %s is not allowed: %s", check.Val(), why)
			}
			if check.Val() == "header_up" {
				if err := checkHeaderUp(check); err != nil {
					return nil, err
				}
			}
			check.RemainingArgs()
		}
	}
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(caddyfile.NewDispenser(segment)); err != nil {
		return nil, err
	}
	if err := checkUpstream(proxy); err != nil {
		return nil, d.WrapErr(err)
	}
	return proxy, nil
}

func checkHeaderUp(d *caddyfile.Dispenser) error {
	args := d.CountRemainingArgs()
	if args == 0 {
		return d.ArgErr()
	}
	d.NextArg()
	if err := checkUpstreamHeader(d.Val()); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// checkUpstreamHeader refuses a header operation on what Metaguard writes.
func checkUpstreamHeader(field string) error {
	name := strings.TrimLeft(field, "+-?>")
	name, _, _ = strings.Cut(name, ":")
	if strings.Contains(name, "*") {
		return fmt.Errorf("upstream: header_up %s: a pattern could match a header that Metaguard writes; name each header", field)
	}
	if err := canonical.CheckForwardHeader(name); err != nil {
		return fmt.Errorf("upstream: header_up: %w", err)
	}
	return nil
}

// provisionUpstream checks the settings of reverse_proxy once more, since JSON
// comes past the Caddyfile, and provisions it.
func (h *Handler) provisionUpstream(ctx caddy.Context) error {
	if h.Upstream == nil || (len(h.Upstream.Upstreams) == 0 && h.Upstream.DynamicUpstreamsRaw == nil) {
		return errors.New("no upstream: add a line such as `upstream 127.0.0.1:8775`")
	}
	if err := checkUpstream(h.Upstream); err != nil {
		return err
	}
	transport, err := withTransportDefaults(h.Upstream.TransportRaw)
	if err != nil {
		return err
	}
	h.Upstream.TransportRaw = transport
	if h.AssertAddress {
		if err := checkDirect(transport); err != nil {
			return err
		}
	}
	if err := h.loadUpstream(ctx); err != nil {
		return fmt.Errorf("provisioning upstream: %w", err)
	}
	inner, ok := h.Upstream.Transport.(*reverseproxy.HTTPTransport)
	if !ok || inner.ProxyProtocol != "" {
		return errors.New("upstream: transport: only http is possible, without proxy_protocol: the server is told who calls only as Metaguard writes it")
	}
	if err := h.checkPassive(); err != nil {
		return err
	}
	if h.servers, err = newUpstreamCheck(h.Upstream, inner, transport); err != nil {
		return err
	}
	if err := h.provisionAddress(inner); err != nil {
		return err
	}
	h.hop = newLastHop(inner)
	if err := h.provisionWaiting(ctx, transport); err != nil {
		return err
	}
	h.Upstream.Transport = h.hop
	// reverse_proxy would repeat a GET whose answer broke off. With a matcher
	// that never matches it repeats only what no connection was made for.
	h.Upstream.LoadBalancing.RetryMatch = caddyhttp.MatcherSets{caddyhttp.MatcherSet{never{}}}
	return nil
}

// checkPassive refuses passive health checks by which one caller could have the
// server taken for broken for all.
func (h *Handler) checkPassive() error {
	passive := new(reverseproxy.PassiveHealthChecks)
	if checks := h.Upstream.HealthChecks; checks != nil && checks.Passive != nil {
		passive = checks.Passive
	}
	full := slices.ContainsFunc(h.Upstream.Upstreams, func(upstream *reverseproxy.Upstream) bool { return upstream.MaxRequests > 0 })
	switch {
	case h.traits.MaxWait > 0 && passive.UnhealthyLatency > 0:
		return fmt.Errorf("upstream: unhealthy_latency is not possible with dialect %s: a request that waits for a change would count as a failure", h.dialect.Name())
	case h.traits.MaxWait > 0 && passive.UnhealthyRequestCount > 0:
		return fmt.Errorf("upstream: unhealthy_request_count is not possible with dialect %s: requests that wait for a change would use it up", h.dialect.Name())
	case h.traits.MaxWait > 0 && full:
		return fmt.Errorf("upstream: max_requests is not possible with dialect %s: requests that wait for a change would use them up", h.dialect.Name())
	case h.AssertAddress && passive.FailDuration > 0:
		return errors.New("assert address: upstream: fail_duration is not possible: a caller whose replies find no way back would have the server taken for broken")
	}
	return nil
}

// provisionWaiting makes the transport for requests that the server keeps
// waiting: the same, with time for it. There is none where the dialect has none.
func (h *Handler) provisionWaiting(ctx caddy.Context, raw json.RawMessage) error {
	if h.traits.MaxWait == 0 {
		return nil
	}
	transport := new(reverseproxy.HTTPTransport)
	if err := json.Unmarshal(raw, transport); err != nil {
		return fmt.Errorf("upstream: reading transport: %w", err)
	}
	limit := caddy.Duration(h.traits.MaxWait + waitMargin)
	transport.ResponseHeaderTimeout, transport.ReadTimeout = limit, limit
	if err := transport.Provision(ctx); err != nil {
		return fmt.Errorf("provisioning upstream: %w", err)
	}
	if mustCheck(transport) {
		transport.Transport.DisableKeepAlives = true // a request that waits shares no connection
	}
	h.waitingTransport = transport
	h.hop.waiting, h.hop.pools = transport, append(h.hop.pools, transport.Transport)
	return h.provisionAddress(transport)
}

// checkUpstream refuses what forbiddenUpstream names, for JSON.
func checkUpstream(proxy *reverseproxy.Handler) error {
	for _, setting := range []struct {
		name string
		used bool
	}{
		{"rewrite", proxy.Rewrite != nil},
		{"handle_response", len(proxy.HandleResponse) > 0},
		{"trusted_proxies", len(proxy.TrustedProxies) > 0},
		{"request_buffers", proxy.RequestBuffers != 0},
		{"response_buffers", proxy.ResponseBuffers != 0},
		{"flush_interval", proxy.FlushInterval != 0},
		{"stream_timeout", proxy.StreamTimeout != 0},
		{"health", proxy.HealthChecks != nil && proxy.HealthChecks.Active != nil},
		{"lb_retry_match", proxy.LoadBalancing != nil && len(proxy.LoadBalancing.RetryMatchRaw) > 0},
		{"header_down", proxy.Headers != nil && proxy.Headers.Response != nil},
	} {
		if setting.used {
			return fmt.Errorf("upstream: %s is not allowed: %s", setting.name, forbiddenUpstream[setting.name])
		}
	}
	for _, upstream := range proxy.Upstreams {
		if upstream == nil || upstream.Dial == "" {
			return errors.New("upstream: an address is empty")
		}
	}
	if err := checkPlaceholders(proxy); err != nil {
		return err
	}
	if proxy.Headers != nil {
		return checkHeaderOps(proxy.Headers.Request)
	}
	return nil
}

var (
	placeholder = regexp.MustCompile(`\{[A-Za-z_$][^{}"\s]*\}`)
	// steady are the placeholders that no request can choose the value of.
	steady = regexp.MustCompile(`^\{(env|file|system)\.|^\{http\.reverse_proxy\.upstream\.`)
)

// checkPlaceholders refuses settings that depend on the request: where it goes
// and what goes with it is decided before anything of it is known.
func checkPlaceholders(proxy *reverseproxy.Handler) error {
	settings, err := json.Marshal(proxy)
	if err != nil {
		return fmt.Errorf("upstream: reading settings: %w", err)
	}
	for _, found := range placeholder.FindAllString(string(settings), -1) {
		if !steady.MatchString(found) {
			return fmt.Errorf("upstream: the placeholder %s is not allowed: what a request says may not choose where it goes or what goes with it", found)
		}
	}
	return nil
}

func checkHeaderOps(ops *headers.HeaderOps) error {
	if ops == nil {
		return nil
	}
	var names []string
	for name := range ops.Add {
		names = append(names, name)
	}
	for name := range ops.Set {
		names = append(names, name)
	}
	for name := range ops.Replace {
		names = append(names, name)
	}
	for _, name := range append(names, ops.Delete...) {
		if err := checkUpstreamHeader(name); err != nil {
			return err
		}
	}
	return nil
}

// keptMost is how many connections wait for further requests, where any do. Caddy's
// own number is less than there are requests at one time, so that most would be
// closed after one.
const keptMost = 512

// withTransportDefaults fills in what the operator left open.
func withTransportDefaults(raw json.RawMessage) (json.RawMessage, error) {
	settings := make(map[string]any, len(transportDefaults))
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &settings); err != nil {
			return nil, fmt.Errorf("upstream: reading transport: %w", err)
		}
	}
	if protocol, ok := settings["protocol"]; ok && protocol != "http" {
		return nil, fmt.Errorf("upstream: transport %v: only http is possible", protocol)
	}
	// `keepalive <duration>` asks for connections that serve more than one
	// request; other settings of theirs do not.
	if reuse, ok := settings["keep_alive"].(map[string]any); ok {
		if _, said := reuse["enabled"]; !said {
			_, reuse["enabled"] = reuse["idle_timeout"]
		}
		if _, said := reuse["max_idle_conns_per_host"]; !said {
			reuse["max_idle_conns_per_host"] = keptMost
		}
	}
	for name, value := range transportDefaults {
		if _, ok := settings[name]; !ok {
			settings[name] = value
		}
	}
	return json.Marshal(settings)
}

// never is a matcher that matches nothing.
type never struct{}

// MatchWithError says no.
func (never) MatchWithError(*http.Request) (bool, error) { return false, nil }

var _ caddyhttp.RequestMatcherWithError = never{}
