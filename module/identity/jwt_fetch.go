// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// keyTimeout is how long it may take to fetch keys, discovery included.
const keyTimeout = 5 * time.Second

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
