// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/policy"
)

// policiesPath lists the policies in force; below it is each by its name.
const policiesPath = "/metaguard/policies"

// policyState is how a policy is, as the admin API shows it.
type policyState struct {
	// Name is the policy's in metrics.
	Name string `json:"name"`
	// Candidate tells that it is compared and not enforced.
	Candidate bool `json:"candidate,omitempty"`
	policy.Status
}

// listPolicies tells how every policy in force is.
func listPolicies(w http.ResponseWriter, r *http.Request) error {
	app, err := readableApp(w, r)
	if err != nil {
		return err
	}
	states := []policyState{}
	for _, engine := range app.policies() {
		states = append(states, engine.state())
	}
	return writeJSON(w, http.StatusOK, states)
}

func (p usedPolicy) state() policyState {
	return policyState{Name: p.name(), Candidate: p.candidate, Status: p.Status()}
}

// servePolicy sends a policy as it decides now.
func servePolicy(w http.ResponseWriter, r *http.Request) error {
	app, err := readableApp(w, r)
	if err != nil {
		return err
	}
	engine, err := app.policyByName(strings.TrimPrefix(r.URL.Path, policiesPath+"/"))
	if err != nil {
		return adminError(http.StatusNotFound, err)
	}
	live := engine.Policy()
	if live == nil {
		return adminError(http.StatusServiceUnavailable, errors.New("the policy has not come yet"))
	}
	w.Header().Set("Content-Type", "application/gzip")
	if err := live.WriteBundle(w); err != nil {
		// The beginning may be out already; what is cut does not unzip.
		runningLogger().Error("sending a policy", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	return nil
}

// readableApp is the running app, for a GET by the owner.
func readableApp(w http.ResponseWriter, r *http.Request) (*App, error) {
	if err := onlyOwner(w, r, http.MethodGet); err != nil {
		return nil, err
	}
	return runningApp()
}

// runningApp is the app of the configuration in force.
func runningApp() (*App, error) {
	loaded, err := caddy.ActiveContext().AppIfConfigured("metaguard")
	if err == nil {
		if app, ok := loaded.(*App); ok && len(app.engines) > 0 {
			return app, nil
		}
	}
	return nil, adminError(http.StatusNotFound, errors.New("no site of metaguard runs here"))
}

// policyByName is one policy; the name may be left out where only one is
// enforced.
func (a *App) policyByName(name string) (*usedPolicy, error) {
	var names []string
	var enforced []usedPolicy
	for _, used := range a.policies() {
		if used.name() == name {
			return &used, nil
		}
		if !used.candidate {
			enforced = append(enforced, used)
		}
		names = append(names, used.name())
	}
	if name == "" && len(enforced) == 1 {
		return &enforced[0], nil
	}
	return nil, fmt.Errorf("which policy? there are: %s", strings.Join(names, " "))
}
