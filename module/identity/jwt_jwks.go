// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

const (
	defaultRefresh  = 5 * time.Minute
	defaultMaxStale = 24 * time.Hour
)

// JWKS says where an issuer's keys are: at a URL, in a file, or, with neither,
// where OpenID discovery says. Only `https` is fetched from, or `http` from
// this machine itself: no proxy, no redirect, TLS 1.2 or newer.
type JWKS struct {
	// The address of the key set.
	URL string `json:"url,omitempty"`

	// The file with the key set. It is read again within about two seconds when
	// it changes; one that is bad or vanishes keeps the last good keys.
	File string `json:"file,omitempty"`

	// The SHA-256 of the file when the configuration was adapted, so that a
	// reload notices an edit. It is compared with nothing.
	Digest string `json:"digest,omitempty"`

	// A PEM file with the only authorities that count for the server. It is read
	// at every fetch. Default: the system's.
	CA string `json:"ca,omitempty"`

	// The bearer token for the server, as a placeholder `{env.NAME}` or
	// `{file.PATH}`. It is read at every fetch, since such files are rotated. It
	// is never sent to another host than the one that the configuration names.
	Token string `json:"token,omitempty"`

	// How often the keys are fetched. Default: 5m, at least 10s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// How long the last good keys count while none can be fetched. Default: 24h.
	MaxStale caddy.Duration `json:"max_stale,omitempty"`
}

// open checks the settings, and reads the file if it is one.
func (s *JWKS) open(issuer string, logger *zap.Logger) (*jwtKeys, error) {
	if s == nil {
		s = new(JWKS)
	}
	if s.File != "" {
		return s.openFile(logger)
	}
	server := &keyServer{address: s.URL, ca: s.CA, token: s.Token}
	if s.URL == "" {
		server.issuer = issuer
		server.address = strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	}
	at, err := parseKeyURL(server.address)
	switch {
	case err != nil && s.URL == "":
		return nil, fmt.Errorf("the issuer of identify jwt cannot be asked for its keys: %w; or say where they are: jwks <url|file>", err)
	case err != nil:
		return nil, fmt.Errorf("jwks %s: %w", at.Redacted(), err)
	case s.URL == "" && (at.RawQuery != "" || at.ForceQuery):
		return nil, fmt.Errorf("issuer %s has a query, so its keys cannot be discovered: say where they are: jwks <url|file>", issuer)
	}
	if s.CA != "" {
		if _, err := readAuthorities(s.CA); err != nil {
			return nil, err
		}
	}
	if s.Token != "" {
		if err := CheckSecretPlaceholder(s.Token); err != nil {
			return nil, fmt.Errorf("token of jwks: %w", err)
		}
	}
	keys := newJWTKeys(server.address, server.load, logger)
	keys.renewal = minRenewal
	if keys.interval = time.Duration(s.Refresh); s.Refresh == 0 {
		keys.interval = defaultRefresh
	}
	if keys.maxStale = time.Duration(s.MaxStale); s.MaxStale == 0 {
		keys.maxStale = max(defaultMaxStale, keys.interval)
	}
	switch {
	case keys.interval < minRenewal:
		return nil, fmt.Errorf("refresh %s: it is at least %s", keys.interval, minRenewal)
	case keys.maxStale < keys.interval:
		return nil, fmt.Errorf("max_stale %s is shorter than refresh %s: keys would be too old before they are fetched again", keys.maxStale, keys.interval)
	}
	return keys, nil
}

func (s *JWKS) openFile(logger *zap.Logger) (*jwtKeys, error) {
	if s.URL != "" {
		return nil, errors.New("jwks has a URL and a file: name one")
	}
	if s.CA != "" || s.Token != "" || s.Refresh != 0 || s.MaxStale != 0 {
		return nil, fmt.Errorf("jwks %s: ca, token, refresh and max_stale are for a server, this is a file", s.File)
	}
	load := func(context.Context) ([]byte, error) { return readKeyFile(s.File) }
	keys := newJWTKeys(s.File, load, logger)
	keys.interval = keyFileInterval
	text, err := load(context.Background())
	if err != nil {
		return nil, err
	}
	set, err := parseKeySet(text)
	if err != nil {
		return nil, fmt.Errorf("jwks %s: %w", s.File, err)
	}
	keys.accept(set)
	return keys, nil
}

// readKeyFile reads a file of keys whole, so one that is half written is no
// JSON yet, and the last good keys stay.
func readKeyFile(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("opening jwks: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(file, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("reading jwks %s: %w", path, err)
	}
	return text, nil
}
