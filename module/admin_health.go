// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// The endpoints that tell whether Metaguard is well. They answer whoever reaches
// the admin API, since they show words of a closed list and where sites listen,
// which everybody who is there can see.
const (
	healthPath = "/metaguard/health"
	livePath   = "/metaguard/health/live"
	readyPath  = "/metaguard/health/ready"
)

// healthAnswer tells whether every site can serve requests.
type healthAnswer struct {
	// Ready is true if there is a site and all of them are ready.
	Ready bool `json:"ready"`
	// ShuttingDown tells that the process is about to end.
	ShuttingDown bool `json:"shutting_down,omitempty"`
	// Sites are all of them.
	Sites []siteHealth `json:"sites"`
}

// siteHealth tells whether one site can serve requests.
type siteHealth struct {
	// Site is its name.
	Site string `json:"site"`
	// Ready is true if it can decide and at least one of its servers answers.
	Ready bool `json:"ready"`
	// Reasons are why not: policy_not_ready, upstream_unreachable.
	Reasons []decision.Reason `json:"reasons,omitempty"`
}

// serveLive says that the process answers. A site that cannot decide is no reason
// to start the process anew.
func serveLive(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Live bool `json:"live"`
	}{true})
}

// serveReady says whether every site can serve requests.
func serveReady(w http.ResponseWriter, r *http.Request) error {
	if err := allowMethods(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	answer := healthAnswer{ShuttingDown: caddy.Exiting(), Sites: []siteHealth{}}
	if app, err := runningApp(); err == nil { // without a site nothing is ready
		answer.Sites = app.health(r.Context())
		answer.Ready = !answer.ShuttingDown
	}
	for _, site := range answer.Sites {
		answer.Ready = answer.Ready && site.Ready
	}
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, answer)
}

// health asks all sites at once.
func (a *App) health(ctx context.Context) []siteHealth {
	sites := make([]siteHealth, len(a.sites))
	var all sync.WaitGroup
	for i, h := range a.sites {
		all.Go(func() {
			reasons := h.unready(ctx, 0)
			sites[i] = siteHealth{Site: h.site, Ready: len(reasons) == 0, Reasons: reasons}
		})
	}
	all.Wait()
	return sites
}

// writeJSON answers with a document that nobody may keep.
func writeJSON(w http.ResponseWriter, status int, document any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(document)
}
