// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// reloadPath is the endpoint that has policies read anew.
const reloadPath = "/metaguard/policy/reload"

// reloadAnswer says what came of reading policies anew.
type reloadAnswer struct {
	Policies []reloadedPolicy `json:"policies"`
}

// reloadedPolicy says what came of reading one policy anew.
type reloadedPolicy struct {
	// Name is the policy's in metrics.
	Name string `json:"name"`
	// Candidate tells that it is compared and not enforced.
	Candidate bool `json:"candidate,omitempty"`
	// Changed tells that another policy is in force than before.
	Changed bool `json:"changed"`
	// Revision is what is in force now.
	Revision string `json:"revision"`
	// Error says why the files are not in force, with their lines; the last good
	// policy is.
	Error string `json:"error,omitempty"`
	// Bundles says what became of bundles, where there are any.
	Bundles string `json:"bundles,omitempty"`
}

// bundlesComeAlone tells that reading anew is about files only.
const bundlesComeAlone = "not asked for: OPA polls for them by itself, as its configuration says"

// reloadPolicies has one policy, or all, read their files now.
func reloadPolicies(w http.ResponseWriter, r *http.Request) error {
	if err := onlyOwner(w, r, http.MethodPost); err != nil {
		return err
	}
	query, err := knownQuery(r, "name")
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 {
		return adminError(http.StatusBadRequest, errors.New("a body means nothing here: name a policy with ?name="))
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	chosen := app.policies()
	if query.Has("name") {
		one, err := app.policyByName(query.Get("name"))
		if err != nil {
			return adminError(http.StatusNotFound, err)
		}
		chosen = []usedPolicy{*one}
	}
	// A client that hangs up shall not leave half of them read.
	answer, ok := reloadAll(context.WithoutCancel(r.Context()), chosen)
	if !ok {
		return writeJSON(w, http.StatusUnprocessableEntity, answer)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// reloadAll goes on after an error, and tells whether there was none.
func reloadAll(ctx context.Context, policies []usedPolicy) (answer reloadAnswer, ok bool) {
	ok = true
	for _, used := range policies {
		changed, err := used.Reload(ctx)
		done := reloadedPolicy{Name: used.name(), Candidate: used.candidate, Changed: changed, Revision: used.Status().Revision}
		if err != nil {
			ok, done.Error = false, err.Error()
		}
		if used.AwaitsBundles() {
			done.Bundles = bundlesComeAlone
		}
		answer.Policies = append(answer.Policies, done)
		caddy.Log().Named("metaguard").Info("policy read anew on request",
			zap.String("engine", done.Name), zap.Bool("changed", changed), zap.String("revision", done.Revision), zap.Error(err))
	}
	return answer, ok
}
