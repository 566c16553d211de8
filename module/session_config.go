// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/session"
)

// The choices of session.
const (
	sessionOff      = "off"
	sessionOptional = "optional"
	sessionRequired = "required"
)

// defaultHops is EC2's own: the token does not get past a router, nor from a
// host into a container that has a network of its own.
const defaultHops = 1

// SessionConfig says whether requests must show a session token. A token is had
// with `PUT /latest/api/token` or `PUT /metaguard/session`, whatever the dialect.
type SessionConfig struct {
	// `off` (default), `optional`: a token that is shown must be right, and only
	// the policy asks for one, or `required`.
	Mode string `json:"mode,omitempty"`
	// The longest life of a token, 1s to 6h. One that is asked for longer, or was
	// made when this was longer, lives as long as this; the answer says how long.
	// Default: 6h.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`
	// The secrets that protect tokens, of at least 32 bytes, as placeholders
	// `{env.NAME}` or `{file.PATH}`: the first makes tokens, all are accepted.
	// Default: one, made once and kept in Caddy's storage. Replicas need the same.
	Keys []string `json:"keys,omitempty"`
	// The IP TTL, or hop limit, with which an answer with a token leaves, 1 to
	// 64. Every router between takes one. Default: 1, for clients on the same
	// network. Behind a proxy of TCP connections it ends at the proxy.
	HopLimit int `json:"hop_limit,omitempty"`
}

// RequiredHeader is a header that every request must have.
type RequiredHeader struct {
	// One that goes to no other server, and that tells nobody who calls.
	Name string `json:"name"`
	// Its value; upper and lower case are the same.
	Value string `json:"value"`
}

// provisionSession gets the given keys. One that is kept in Caddy's storage is
// got when it is first needed.
func (h *Handler) provisionSession(ctx caddy.Context) error {
	settings := &h.Session
	setDefault(&settings.Mode, sessionOff)
	switch settings.Mode {
	case sessionOff:
		if settings.MaxTTL != 0 || len(settings.Keys) > 0 || settings.HopLimit != 0 {
			return errors.New("session: the other settings mean nothing where it is off")
		}
		return nil
	case sessionOptional, sessionRequired:
	default:
		return fmt.Errorf("session %q: it is %s, %s or %s", settings.Mode, sessionOff, sessionOptional, sessionRequired)
	}
	setDefault(&settings.MaxTTL, caddy.Duration(session.MaxTTL))
	setDefault(&settings.HopLimit, defaultHops)
	maxTTL := time.Duration(settings.MaxTTL)
	if maxTTL < session.MinTTL || maxTTL > session.MaxTTL {
		return fmt.Errorf("session: max_ttl %s: it is %s to %s", maxTTL, session.MinTTL, session.MaxTTL)
	}
	if settings.HopLimit < 1 || settings.HopLimit > session.MaxHops {
		return fmt.Errorf("session: hop_limit %d: it is 1 to %d", settings.HopLimit, session.MaxHops)
	}
	s := &sessions{
		required: settings.Mode == sessionRequired,
		maxTTL:   maxTTL,
		hops:     settings.HopLimit,
		place:    sitePlace(h.dialect.Name(), h.RequireHost),
	}
	for _, placeholder := range settings.Keys {
		given, err := identity.ResolveSecret(placeholder)
		if err != nil {
			return fmt.Errorf("session: key: %w", err)
		}
		key, err := session.ParseSecret(given.Reveal())
		if err != nil {
			return fmt.Errorf("session: key %s: %w", placeholder, err)
		}
		s.secrets = append(s.secrets, key)
	}
	if len(s.secrets) == 0 {
		s.storage = ctx.Storage()
	}
	s.kept.build = s.build
	h.sessions = s
	return nil
}

// unmarshalSession reads `session off|optional|required { … }`.
func (h *Handler) unmarshalSession(d *caddyfile.Dispenser) error {
	if err := oneOf(d, &h.Session.Mode, sessionOff, sessionOptional, sessionRequired); err != nil {
		return err
	}
	return blockOnly(d, "session", map[string]func() error{
		"max_ttl": func() error {
			if err := duration(d, &h.Session.MaxTTL); err != nil {
				return err
			}
			if ttl := time.Duration(h.Session.MaxTTL); ttl < session.MinTTL || ttl > session.MaxTTL {
				return d.Errf("max_ttl %s: it is 1s to 6h", ttl)
			}
			return h.sessionIsOn(d, "max_ttl")
		},
		"key": func() error {
			if err := list(d, &h.Session.Keys); err != nil {
				return err
			}
			for _, key := range h.Session.Keys {
				if err := identity.CheckSecretPlaceholder(key); err != nil {
					return d.WrapErr(err)
				}
			}
			return h.sessionIsOn(d, "key")
		},
		"hop_limit": func() error {
			text, err := argument(d)
			if err != nil {
				return err
			}
			hops, err := strconv.Atoi(text)
			if err != nil || hops < 1 || hops > session.MaxHops {
				return d.Errf("hop_limit %q: it is 1 to %d", text, session.MaxHops)
			}
			h.Session.HopLimit = hops
			return h.sessionIsOn(d, "hop_limit")
		},
	})
}

func (h *Handler) sessionIsOn(d *caddyfile.Dispenser, setting string) error {
	if h.Session.Mode == sessionOff {
		return d.Errf("session: %s means nothing where it is off", setting)
	}
	return nil
}

// unmarshalRequireHeader reads `require_header <name> <value>`.
func (h *Handler) unmarshalRequireHeader(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 || args[0] == "" || args[1] == "" {
		return d.Err("it is `require_header <name> <value>`")
	}
	if err := canonical.CheckForwardHeader(args[0]); err != nil {
		return d.WrapErr(fmt.Errorf("require_header: %w", err))
	}
	h.RequireHeader = &RequiredHeader{Name: args[0], Value: args[1]}
	return nil
}

// build gets the key and makes the tokens' maker.
func (s *sessions) build(ctx context.Context) (*session.Keys, error) {
	secrets := s.secrets
	if s.storage != nil {
		key, err := sessionKey.get(ctx, s.storage)
		if err != nil {
			return nil, err
		}
		secrets = []decision.Secret{key}
	}
	return session.NewKeys(secrets, s.maxTTL)
}

var sessionKey = storedKey{
	what:  "session key",
	path:  "metaguard/session.key",
	fresh: session.NewSecret,
	parse: session.ParseSecret,
}
