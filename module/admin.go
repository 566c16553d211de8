// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
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
// `POST /metaguard/password/reset` with `{"instance_id": "…"}` | `{"instance_id": "…", "sites": 1, "known": 1}`: the state and the fingerprints of that instance's password are forgotten, in the latch of every site; `known` counts those that had any
//
// `GET /metaguard/policies` | A list with the state of every policy in force: `name` (as in metrics), `candidate` for one that only is compared, `revision`, `loaded_at`, `last_error`, `bundles`, …
// `GET /metaguard/policies/<name>` | That policy as it decides now, rules and data, as an OPA bundle; without a name the only one there is
//
// An endpoint that changes something, or shows a policy's data, answers only on a Unix socket that nobody
// but its owner can reach, such as `admin unix//run/metaguard/admin.sock|0600`,
// or under Caddy's authenticated remote administration; elsewhere it says 403.
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
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return adminError(http.StatusMethodNotAllowed, errors.New("method not allowed; use POST"))
	}
	if err := mayChange(r); err != nil {
		return adminError(http.StatusForbidden, err)
	}
	var asked resetRequest
	if err := readAdminBody(r.Body, &asked); err != nil {
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
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(done)
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

// readAdminBody reads one JSON value with known fields only.
func readAdminBody(body io.Reader, into any) error {
	decoder := json.NewDecoder(io.LimitReader(body, maxAdminBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("reading the body: something stands behind the JSON object")
	}
	return nil
}

func adminError(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards.
var _ caddy.AdminRouter = (*Admin)(nil)
