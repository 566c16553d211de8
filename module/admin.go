// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/password"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds Metaguard's own endpoints to Caddy's admin API:
//
// Endpoint | Answer
// ---------|-------
// `GET /metaguard/health/live` | 200 `{"live": true}` as long as the process answers
// `GET /metaguard/health/ready`, `GET /metaguard/health` | 200 if every site can decide and at least one of its legacy servers accepts connections, else 503: `ready`, and `sites` with `site`, `ready` and `reasons` (`policy_not_ready`, `upstream_unreachable`); without any site, and while the process ends (`shutting_down`), it is 503 too
// `GET /metaguard/status` | How everything is: `version`, `started_at`, `loaded_at`, `ready`, `problems` (the worst first), `sites` with their settings, servers, policies, identity sources, latches and memory, and `counters`
// `GET /metaguard/policies` | A list with the state of every policy in force: `name` (as in metrics), `candidate` for one that only is compared, `revision`, `loaded_at`, `last_error`, `bundles`, …
// `GET /metaguard/policies/<name>` | That policy as it decides now, rules and data, as an OPA bundle; without a name the only one there is
// `GET /metaguard/decisions` | The last of the 1,000 decisions that are kept in memory, the newest first, in the fields of the decision log: `ever`, `overwritten`, `matched`, `decisions`. `?since=` is a time (RFC 3339) or how long ago (`15m`), `?caller=`, `?verdict=`, `?reason=` and `?decision_id=` are a field's value, `?limit=` is 1 to 1,000 (default: 100)
// `POST /metaguard/check` | What would become of a request: `{"caller": {"as": "instance:<id>", "project": "<id>"}, "path": "/openstack/latest/password"}` describes one, and so do `site`, `address` (in the place of `caller`), `method`, `host`, `headers`, `body` (`format`, `size`, `key_bits`), `session_age`, `target` and `target_project`. Nothing is counted, logged or sent. Answer: `verdict`, `reason`, `outcome`, `status`, `agent_status` (behind a Neutron agent), `codes`, `rules`, `redact`, `revision`, `input`
// `POST /metaguard/policy/reload` | Every policy, or the one in `?name=`, reads its files now: `policies` with `name`, `changed`, `revision` and `error`. 422 if one was refused; the last good one stays in force then. Bundles are not asked for
// `POST /metaguard/password/reset` with `{"instance_id": "…"}` | `{"instance_id": "…", "sites": 1, "known": 1}`: the state and the fingerprints of that instance's password are forgotten, in the latch of every site; `known` counts those that had any
//
// Health answers whoever reaches the admin API. All others change something, or show
// how policies judge, who called, or where files and servers are: they answer only on a Unix socket that nobody
// but its owner can reach, such as `admin unix//run/metaguard/admin.sock|0600`,
// or under Caddy's authenticated remote administration; elsewhere they say 403.
// A wrong method is 405, an unknown name in a query or a body 400, and where no
// site runs it is 404. Errors are `{"error": "…"}`.
type Admin struct{}

// resetPath is the endpoint that forgets a password.
const resetPath = "/metaguard/password/reset"

// maxAdminBody bounds what an endpoint reads, in bytes.
const maxAdminBody = 4 << 10

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.metaguard",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Routes lists the endpoints. Nothing is held between requests: the admin API
// outlives configurations, and is made before they are.
func (*Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: resetPath, Handler: caddy.AdminHandlerFunc(resetPassword)},
		{Pattern: policiesPath, Handler: caddy.AdminHandlerFunc(listPolicies)},
		{Pattern: policiesPath + "/", Handler: caddy.AdminHandlerFunc(servePolicy)},
		{Pattern: reloadPath, Handler: caddy.AdminHandlerFunc(reloadPolicies)},
		{Pattern: statusPath, Handler: caddy.AdminHandlerFunc(serveStatus)},
		{Pattern: healthPath, Handler: caddy.AdminHandlerFunc(serveReady)},
		{Pattern: readyPath, Handler: caddy.AdminHandlerFunc(serveReady)},
		{Pattern: livePath, Handler: caddy.AdminHandlerFunc(serveLive)},
		{Pattern: checkPath, Handler: caddy.AdminHandlerFunc(serveCheck)},
		{Pattern: decisionsPath, Handler: caddy.AdminHandlerFunc(serveDecisions)},
	}
}

// resetRequest is the body of a reset.
type resetRequest struct {
	// InstanceID names the instance, as identity sources do.
	InstanceID string `json:"instance_id"`
}

// resetAnswer says what was done.
type resetAnswer struct {
	InstanceID string `json:"instance_id"`
	Sites      int    `json:"sites"`
	Known      int    `json:"known"`
}

// resetPassword forgets an instance's password in every site that runs.
func resetPassword(w http.ResponseWriter, r *http.Request) error {
	if err := onlyOwner(w, r, http.MethodPost); err != nil {
		return err
	}
	var asked resetRequest
	if err := readAdminBody(r.Body, maxAdminBody, &asked); err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	if _, err := password.NewKey(asked.InstanceID); err != nil {
		return adminError(http.StatusBadRequest, fmt.Errorf("instance_id: %w", err))
	}
	app, err := runningApp()
	if err != nil {
		return err
	}
	done, err := app.resetPassword(r.Context(), asked.InstanceID)
	if err != nil {
		return adminError(http.StatusServiceUnavailable, fmt.Errorf("forgotten in %d of %d sites: %w", done.Sites, len(app.passwords), err))
	}
	return writeJSON(w, http.StatusOK, done)
}

// resetPassword forgets an instance's password in the latch of every site, and
// says in how many it did. It goes on after an error.
func (a *App) resetPassword(ctx context.Context, instanceID string) (resetAnswer, error) {
	done := resetAnswer{InstanceID: instanceID}
	var failures []error
	for _, site := range a.passwords {
		known, err := site.reset(ctx, instanceID)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		done.Sites++
		if known {
			done.Known++
		}
	}
	err := errors.Join(failures...)
	runningLogger().Info("password reset",
		zap.String("instance", instanceID), zap.Int("sites", done.Sites), zap.Int("known", done.Known), zap.Error(err))
	return done, err
}

// allowMethods refuses any method but these.
func allowMethods(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return adminError(http.StatusMethodNotAllowed, fmt.Errorf("method not allowed; use %s", methods[0]))
}

// onlyOwner refuses any method but these, and whoever is neither the owner of the
// socket nor an authenticated remote administrator.
func onlyOwner(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if err := allowMethods(w, r, methods...); err != nil {
		return err
	}
	if err := mayChange(r); err != nil {
		return adminError(http.StatusForbidden, err)
	}
	return nil
}

// mayChange refuses a change, or a look at data, that does not come over a socket of the owner's
// alone, or from an authenticated remote administrator: on a TCP port everyone
// on the host could forget passwords.
func mayChange(r *http.Request) error {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return nil // Caddy's access control for the path comes before
	}
	address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || address.Network() != "unix" {
		return errors.New("a change is possible only over a Unix socket with mode 0600 (`admin unix//run/metaguard/admin.sock|0600`) or Caddy's remote administration")
	}
	path := address.String()
	if path == "" || path[0] == '@' || path[0] == 0 {
		return errors.New("the admin socket is abstract, so that everyone can reach it: a change is possible only over one with mode 0600")
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("looking at the admin socket: %w", err)
	case info.Mode()&os.ModeSocket == 0:
		return errors.New("the admin socket is no longer where it was: a change is possible only over one with mode 0600")
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("the admin socket has mode %04o: a change is possible only where nobody but the owner can reach it, with mode 0600", info.Mode().Perm())
	}
	return nil
}

// readAdminBody reads one JSON value of at most limit bytes, with known members
// only, each once and in the right case.
func readAdminBody(body io.Reader, limit int64, into any) error {
	content, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the body: %w", err)
	case int64(len(content)) > limit:
		return fmt.Errorf("reading the body: it has more than %d bytes", limit)
	}
	if err := strictjson.Unmarshal(content, into, strictjson.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	return nil
}

func adminError(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards.
var _ caddy.AdminRouter = (*Admin)(nil)
