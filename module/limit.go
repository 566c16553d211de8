// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
)

// LimitConfig bounds what one caller may ask. Callers never share a limit: each
// identified one has its own, by its id; who is not identified has that of its
// address (an IPv4 address, or the /64 of an IPv6 one). A request that cannot be
// told apart from others' is not limited: an unidentified one from a trusted
// Neutron agent or from a Unix socket. Anonymous callers, and those that an
// inventory knows by their address only, count as unidentified.
//
// A reload begins with full bursts. The 65,536 callers and as many addresses
// that asked last are remembered; one that is forgotten begins anew.
type LimitConfig struct {
	// How many requests a caller may make. Default: any number.
	Requests *Rate `json:"requests,omitempty"`

	// How many of a caller's requests may be refused, for reasons that lie with
	// the caller (any status below 500), before the others are refused too.
	// Default: any number.
	Refusals *Rate `json:"refusals,omitempty"`

	// Where the address of an unidentified caller comes from: `connection`
	// (default), `client_ip` or `proxy_protocol`.
	Address identity.AddressFrom `json:"address,omitempty"`
}

// Rate is so many events in a time, and a burst above it.
type Rate struct {
	// Events per second, above zero; 0.5 is one in two seconds.
	PerSecond float64 `json:"per_second"`

	// How many may come at once. Default: what a second holds, at least one.
	Burst int `json:"burst,omitempty"`
}

// check refuses numbers that mean nothing, and sets the default burst.
func (r *Rate) check(name string) error {
	if r == nil {
		return nil
	}
	if !(r.PerSecond > 0) || r.PerSecond > 1e6 || r.Burst < 0 || r.Burst > 1e6 {
		return fmt.Errorf("limit: %s: a rate and a burst are above zero and at most a million", name)
	}
	if r.Burst == 0 {
		r.Burst = int(math.Ceil(r.PerSecond))
	}
	return nil
}

func (r *Rate) limiter() *rate.Limiter {
	if r == nil {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}

// maxLimited is how many callers, and how many addresses, are remembered.
const maxLimited = 1 << 16

// limits holds every caller's allowance. A nil one limits nothing.
type limits struct {
	config    LimitConfig
	callers   *allowances[string]
	addresses *allowances[netip.Prefix] // of the unidentified
}

func newLimits(config LimitConfig) (*limits, error) {
	if err := config.Requests.check("requests"); err != nil {
		return nil, err
	}
	if err := config.Refusals.check("refusals"); err != nil {
		return nil, err
	}
	if err := config.Address.Check(); err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	if config.Requests == nil && config.Refusals == nil {
		return nil, errors.New("limit: give requests, refusals or both, such as `requests 20/s burst 60`")
	}
	callers, err := newAllowances[string](config)
	if err != nil {
		return nil, err
	}
	addresses, err := newAllowances[netip.Prefix](config)
	return &limits{config, callers, addresses}, err
}

// allowance is what one caller may still ask.
type allowance struct{ requests, refusals *rate.Limiter }

// take counts a request, and tells how long the caller has to wait if it asks
// too often, or was refused too often.
func (a *allowance) take(now time.Time) (wait time.Duration, ok bool) {
	if missing := 1 - a.refusals.TokensAt(now); missing > 0 && a.refusals.Limit() != rate.Inf {
		return time.Duration(missing / float64(a.refusals.Limit()) * float64(time.Second)), false
	}
	if a.requests.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - a.requests.TokensAt(now)
	return time.Duration(missing / float64(a.requests.Limit()) * float64(time.Second)), false
}

// allowances holds those who asked last. It is a plain LRU: a cache that
// prefers frequent keys would forget a new caller at each of its requests.
type allowances[K comparable] struct {
	config LimitConfig
	mu     sync.Mutex
	recent *simplelru.LRU[K, *allowance]
}

func newAllowances[K comparable](config LimitConfig) (*allowances[K], error) {
	recent, err := simplelru.NewLRU[K, *allowance](maxLimited, nil)
	return &allowances[K]{config: config, recent: recent}, err
}

func (a *allowances[K]) of(key K) *allowance {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.recent.Get(key); ok {
		return known
	}
	fresh := &allowance{a.config.Requests.limiter(), a.config.Refusals.limiter()}
	a.recent.Add(key, fresh)
	return fresh
}

// size is how many are remembered.
func (a *allowances[K]) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.recent.Len()
}

// limit refuses an identified caller that asks too often.
func (x *exchange) limit() *decision.Refusal {
	switch {
	case x.h.limits == nil:
		return nil
	case x.caller.Source == "anonymous": // whose id everybody shares
		return x.limitAddress(x.h.limits.config.Address.Of(x.r, x.peer))
	case strings.HasPrefix(x.caller.ID, "address:"): // one of many that a host may have
		return x.limitAddress(x.caller.Address)
	}
	x.allowance = x.h.limits.callers.of(x.caller.ID)
	return x.allowance.admit()
}

// limitAddress refuses a request from an address that asks too often. One that
// many callers share is not limited.
func (x *exchange) limitAddress(address netip.Addr) *decision.Refusal {
	if !address.IsValid() || x.agent {
		return nil
	}
	x.allowance = x.h.limits.addresses.of(neighbourhood(address))
	return x.allowance.admit()
}

// admit counts a request at the time it is now: a limiter that is asked for an
// earlier one, such as when a slow request began, gives again what it gave since.
func (a *allowance) admit() *decision.Refusal {
	wait, ok := a.take(time.Now())
	if ok {
		return nil
	}
	refusal := decision.Refuse(decision.RateLimited, "limit")
	refusal.RetryAfter = wait
	return refusal
}

// countRefusal counts a refusal that lies with the caller. For one that nobody
// identified this is where its own limit is asked, so that what it gets may be
// another refusal.
func (x *exchange) countRefusal(refusal *decision.Refusal) *decision.Refusal {
	if x.h.limits == nil || refusal.Reason == decision.RateLimited {
		return refusal
	}
	if x.caller == nil {
		if limited := x.limitAddress(x.h.limits.config.Address.Of(x.r, x.peer)); limited != nil {
			return limited
		}
	}
	if x.allowance != nil && refusal.Reason.Status() < http.StatusInternalServerError {
		x.allowance.refusals.Allow()
	}
	return refusal
}

// neighbourhood is what one host has at least: an IPv4 address, or a /64.
func neighbourhood(address netip.Addr) netip.Prefix {
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // the address is valid, and so is the length
	return prefix
}

// unmarshalLimit reads the block `limit`.
func (h *Handler) unmarshalLimit(d *caddyfile.Dispenser) error {
	h.Limit = new(LimitConfig)
	return block(d, map[string]func() error{
		"requests": func() error { return unmarshalRate(d, &h.Limit.Requests) },
		"refusals": func() error { return unmarshalRate(d, &h.Limit.Refusals) },
		"address": func() error {
			return oneOf(d, (*string)(&h.Limit.Address), string(identity.FromConnection), string(identity.FromClientIP), string(identity.FromProxyProtocol))
		},
	})
}

// unmarshalRate reads `<number>/s|m|h [burst <number>]`.
func unmarshalRate(d *caddyfile.Dispenser, field **Rate) error {
	const grammar = "it is like `20/s`, `90/m burst 30` or `100/h`"
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 && (len(args) != 3 || args[1] != "burst") {
		return d.Errf("%s: %s", name, grammar)
	}
	text, unit, _ := strings.Cut(args[0], "/")
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	events, err := strconv.ParseFloat(text, 64)
	if !known || err != nil {
		return d.Errf("%s %q: %s", name, args[0], grammar)
	}
	*field = &Rate{PerSecond: events / seconds}
	if len(args) == 3 {
		if (*field).Burst, err = strconv.Atoi(args[2]); err != nil || (*field).Burst == 0 {
			return d.Errf("%s: burst %q: it is a number above zero", name, args[2])
		}
	}
	checked := **field
	if err := checked.check(name); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
