// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
)

const (
	// keyTimeout is how long it may take to fetch keys, discovery included.
	keyTimeout = 5 * time.Second

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
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening jwks: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, fmt.Errorf("opening jwks: %s is not a regular file", path)
	}
	file, err := os.Open(path)
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

// readAuthorities reads the certificates of a PEM file.
func readAuthorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of jwks: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the authorities of jwks: %s has no certificate in PEM form", path)
	}
	return pool, nil
}

// parseKeyURL refuses an address that keys must not come from. It always gives
// a URL that can be shown.
func parseKeyURL(text string) (*url.URL, error) {
	at, err := url.Parse(text)
	switch {
	case err != nil:
		return new(url.URL), errors.New("it is no URL")
	case at.Host == "" || at.Opaque != "":
		return at, errors.New("it is no URL with a host: write https://…")
	case at.User != nil:
		return at, errors.New("it has a user or a password, which would stand in the configuration: remove it")
	case at.Fragment != "":
		return at, errors.New("it has a fragment: remove what begins with #")
	case at.Scheme == "https", at.Scheme == "http" && loopbackHost(at.Hostname()):
		return at, nil
	case at.Scheme == "http":
		return at, errors.New("it is not https, so whoever stands between could bring keys of his own: write https://…")
	}
	return at, errors.New("it is no https URL")
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// keyServer fetches keys.
type keyServer struct {
	address string // of the keys; with an issuer, of its discovery document
	issuer  string // empty: no discovery
	ca      string
	token   string
}

// load fetches the keys once.
func (s *keyServer) load(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	if s.issuer == "" {
		return s.get(ctx, client, s.address, true)
	}
	document, err := s.get(ctx, client, s.address, true)
	if err != nil {
		return nil, err
	}
	address, err := s.discovered(document)
	if err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", s.address, err)
	}
	// Discovery may name any host; the token is for the one that the
	// operator named.
	same := sameServer(address, s.address)
	text, err := s.get(ctx, client, address, same)
	if err != nil && !same && s.token != "" {
		err = fmt.Errorf("%w; the token was not sent there, since discovery named another host: if it is right, write jwks %s", err, address)
	}
	return text, err
}

// discovered gives the address of the keys from a discovery document.
func (s *keyServer) discovered(document []byte) (string, error) {
	var issuer, address string
	err := eachMember(document, func(name []byte, value jsontext.Value) (err error) {
		switch string(name) {
		case "issuer":
			issuer, err = textOf(value)
		case "jwks_uri":
			address, err = textOf(value)
		}
		return err
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("the document is %w", err)
	case issuer != s.issuer:
		return "", fmt.Errorf("it is of issuer %q, not of %q", issuer, s.issuer)
	}
	at, err := parseKeyURL(address)
	if err != nil {
		return "", fmt.Errorf("jwks_uri %q: %w", at.Redacted(), err)
	}
	if at.Scheme != "https" && strings.HasPrefix(s.address, "https:") {
		return "", fmt.Errorf("jwks_uri %q is not https, as discovery is", at.Redacted())
	}
	return address, nil
}

// sameServer compares scheme, host and port.
func sameServer(a, b string) bool {
	first, errFirst := url.Parse(a)
	second, errSecond := url.Parse(b)
	return errFirst == nil && errSecond == nil && first.Scheme == second.Scheme && first.Host == second.Host
}

// client is made anew for each fetch: fetches are minutes apart, so a
// connection kept for the next would only be in the way.
func (s *keyServer) client() (*http.Client, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.ca != "" {
		pool, err := readAuthorities(s.ca)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = pool
	}
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:        settings,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// get fetches one document.
func (s *keyServer) get(ctx context.Context, client *http.Client, address string, withToken bool) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, errors.New("fetching keys: the address cannot be asked")
	}
	request.Header.Set("Accept", "application/json")
	if withToken && s.token != "" {
		secret, err := ResolveSecret(s.token)
		if err != nil {
			return nil, fmt.Errorf("token of jwks: %w", err)
		}
		request.Header.Set(headerAuthorization, "Bearer "+string(secret.Reveal()))
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching keys: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // read only
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching keys: %s answers with status %d", address, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("fetching keys: reading what %s answers: %w", address, err)
	}
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("fetching keys: %s answers with more than %d bytes", address, maxKeySet)
	}
	return text, nil
}
