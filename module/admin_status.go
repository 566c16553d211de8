// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
)

// statusPath is the endpoint that shows how everything is. It shows no secret,
// no placeholder's value and nothing of a policy's data, but files, servers and
// what is wrong with them, which tells an attacker where to begin: it answers the
// owner only.
const statusPath = "/metaguard/status"

// processStart is when this process began, near enough.
var processStart = time.Now()

// statusAnswer says how everything is.
type statusAnswer struct {
	// Version is what the program was built from.
	Version versions `json:"version"`
	// StartedAt is when the process began, and LoadedAt when this configuration
	// came into force.
	StartedAt time.Time `json:"started_at"`
	LoadedAt  time.Time `json:"loaded_at"`
	// Now is the time of this answer, by the same clock.
	Now time.Time `json:"now"`
	// Ready tells that every site can serve requests.
	Ready bool `json:"ready"`
	// Problems are what is wrong, the worst first; none if all is well.
	Problems []problem `json:"problems"`
	// Sites are the guarded sites.
	Sites []siteStatus `json:"sites"`
	// Counters count since the process began.
	Counters counters `json:"counters"`
}

// siteStatus says how a site is.
type siteStatus struct {
	// Name is the site's in metrics: the addresses on which its server listens, as
	// in Listen, and a number where that server has several.
	Name   string   `json:"name"`
	Listen []string `json:"listen"`
	// Dialect, Mode and DenyStatus are settings, with their defaults.
	Dialect    string `json:"dialect"`
	Mode       string `json:"mode"`
	DenyStatus int    `json:"deny_status"`
	// Ready tells that it can decide and that at least one of its servers answers.
	Ready bool `json:"ready"`
	// Identities are the sources in the order in which they are asked.
	Identities []identityStatus `json:"identities"`
	// Sessions is off, optional or required.
	Sessions string `json:"sessions"`
	// Upstreams are the legacy servers, as they were found at CheckedAt.
	Upstreams []upstreamFound `json:"upstreams"`
	CheckedAt time.Time       `json:"checked_at,omitzero"`
	// UpstreamError says why no server was found.
	UpstreamError string `json:"upstream_error,omitempty"`
	// Policy is the one that decides, and Candidate the one that is compared.
	Policy    policyState  `json:"policy"`
	Candidate *policyState `json:"candidate,omitempty"`
	// Latch keeps the state of passwords.
	Latch latchStatus `json:"latch"`
	// Memory is what bodies and answers hold, in bytes.
	Memory memoryStatus `json:"memory"`
	// Waiting are requests that wait for the server to tell of a change.
	Waiting int `json:"waiting"`
	// Limited are callers and addresses whose limits are remembered.
	Limited int `json:"limited"`
}

// identityStatus says how an identity source is.
type identityStatus struct {
	// Source is the word after `identify`.
	Source string `json:"source"`
	// Inventories are the files that it looks into.
	Inventories []identity.InventoryStatus `json:"inventories,omitempty"`
	// Keys are those of a token's issuer.
	Keys *identity.JWTStatus `json:"keys,omitempty"`
	// Remembered are tokens that Keystone was asked about.
	Remembered *rememberedStatus `json:"remembered,omitempty"`
}

// rememberedStatus says how full a cache of tokens is.
type rememberedStatus struct {
	Taken   int `json:"taken"`
	Refused int `json:"refused"`
	Max     int `json:"max"`
}

// latchStatus says how a latch is.
type latchStatus struct {
	// Kind is file, redis or a plugin's name.
	Kind string `json:"kind"`
	// Reachable tells that it answered a question just now.
	Reachable bool `json:"reachable"`
	// Error says why not.
	Error string `json:"error,omitempty"`
}

// memoryStatus says how much of max_total is taken.
type memoryStatus struct {
	InUse int64 `json:"in_use"`
	Peak  int64 `json:"peak"`
	Max   int64 `json:"max"`
}

// serveStatus says how everything is.
func serveStatus(w http.ResponseWriter, r *http.Request) error {
	app, err := readableApp(w, r)
	if err != nil {
		return err
	}
	answer, err := app.status(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// status looks at all sites at once.
func (a *App) status(ctx context.Context) (*statusAnswer, error) {
	answer := &statusAnswer{
		Version: builtFrom(), StartedAt: processStart, LoadedAt: a.startedAt,
		Ready: true, Problems: []problem{}, Sites: make([]siteStatus, len(a.sites)),
	}
	var all sync.WaitGroup
	for i, h := range a.sites {
		all.Go(func() { answer.Sites[i] = a.siteStatus(ctx, h) })
	}
	all.Wait()
	for i := range answer.Sites {
		site := &answer.Sites[i]
		answer.Ready = answer.Ready && site.Ready
		answer.Problems = append(answer.Problems, site.problems()...)
	}
	sortProblems(answer.Problems)
	answer.Now = time.Now()
	var err error
	answer.Counters, err = a.countersNow()
	return answer, err
}

func (a *App) siteStatus(ctx context.Context, h *Handler) siteStatus {
	s := siteStatus{
		Name: h.site, Listen: append([]string{}, h.listen...), Dialect: h.dialect.Name(), Mode: h.Mode, DenyStatus: h.DenyStatus,
		Sessions: h.Session.Mode, Upstreams: []upstreamFound{},
		Policy:  usedPolicy{h.engine, false}.state(),
		Latch:   askLatch(ctx, h.latch),
		Memory:  memoryStatus{InUse: h.budget.InUse(), Peak: h.budget.Peak(), Max: h.budget.Max()},
		Waiting: h.waits.now(),
	}
	s.Ready = len(h.unready(ctx, 0)) == 0
	if found := h.servers.look(ctx, checkUsable); found != nil {
		s.CheckedAt, s.UpstreamError = found.at, found.err
		s.Upstreams = append(s.Upstreams, found.servers...)
	}
	for _, source := range h.identities {
		s.Identities = append(s.Identities, statusOf(source))
	}
	if h.candidate != nil {
		candidate := usedPolicy{h.candidate.engine, true}.state()
		s.Candidate = &candidate
	}
	if h.limits != nil {
		s.Limited = h.limits.callers.size() + h.limits.addresses.size()
	}
	return s
}

// statusOf asks a source what it has to tell.
func statusOf(source identity.Source) identityStatus {
	s := identityStatus{Source: source.Name()}
	for _, inventory := range (identity.Chain{source}).Inventories() {
		s.Inventories = append(s.Inventories, inventory.Status())
	}
	switch source := source.(type) {
	case *identity.JWT:
		keys := source.Status()
		s.Keys = &keys
	case *identity.Keystone:
		taken, refused := source.Remembered()
		s.Remembered = &rememberedStatus{taken, refused, source.CacheSize}
	}
	return s
}

// latchQuestion is whose password the latch is asked about. No instance has this
// id, and asking changes nothing.
const latchQuestion = "metaguard status"

// askLatch asks what a request would ask.
func askLatch(ctx context.Context, latch password.Latch) latchStatus {
	s := latchStatus{Kind: "unknown"}
	if module, ok := latch.(caddy.Module); ok {
		s.Kind = module.CaddyModule().ID.Name()
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	key, err := password.NewKey(latchQuestion)
	if err == nil {
		_, _, err = latch.Load(ctx, key)
	}
	if err != nil {
		s.Error = err.Error()
		return s
	}
	s.Reachable = true
	return s
}
