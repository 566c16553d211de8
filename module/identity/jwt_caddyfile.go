// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify jwt {
//		issuer     <url>           # required: exactly the token's iss
//		audience   <value>...      # required: the token's aud has one of them
//		jwks       [<url|file>] {  # default: by discovery at <issuer>/.well-known/openid-configuration
//			ca        <file>         # PEM; default: the system's authorities
//			token     <placeholder>  # bearer token for the server: {env.NAME} or {file.PATH}
//			refresh   <duration>     # default: 5m
//			max_stale <duration>     # how long the last good keys count; default: 24h
//		}
//		algorithms <name>...       # default: RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA
//		clock_skew <duration>      # default: 30s, at most 5m
//		header     <name>          # default: Authorization, with the scheme Bearer
//		claims     <name>...       # what policies see; default: iss sub aud azp client_id scope groups
//		project    <claim>         # the caller's project
//		roles      <claim>         # the caller's roles
//		target     remote_ip <inventory-file> [connection|client_ip|proxy_protocol]
//		target     claim <name> [<project-claim>]
//		target     request <inventory-file>
//	}
func (j *JWT) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the source
	if d.NextArg() {
		return d.Err("identify jwt takes a block, not an argument")
	}
	if _, err := unmarshalBlock(d, "identify jwt", j.settings(d)...); err != nil {
		return err
	}
	switch {
	case j.Issuer == "":
		return d.Err("identify jwt needs an issuer: issuer https://…")
	case len(j.Audience) == 0:
		return d.Err("identify jwt needs an audience, or a token for any other service of the issuer would do: audience <value>")
	}
	return nil
}

func (j *JWT) settings(d *caddyfile.Dispenser) []setting {
	return []setting{
		{"issuer", func() (err error) {
			if j.Issuer, err = unmarshalOne(d); err != nil {
				return err
			}
			return wrap(d, checkIssuer(j.Issuer))
		}},
		{"audience", func() error { return unmarshalList(d, "audience", &j.Audience, notEmpty) }},
		{"jwks", func() (err error) { j.JWKS, err = unmarshalJWKS(d); return err }},
		{"algorithms", func() error { return unmarshalList(d, "algorithms", &j.Algorithms, checkAlgorithm) }},
		{"clock_skew", func() error {
			skew, err := unmarshalDuration(d)
			j.ClockSkew = (*caddy.Duration)(&skew)
			return err
		}},
		{"header", func() (err error) { j.Header, err = unmarshalOne(d); return err }},
		{"claims", func() error { return unmarshalList(d, "claims", &j.Claims, notEmpty) }},
		{"project", func() (err error) { j.Project, err = unmarshalOne(d); return err }},
		{"roles", func() (err error) { j.Roles, err = unmarshalOne(d); return err }},
		{"target", func() (err error) { j.Target, err = unmarshalTarget(d); return err }},
	}
}

func unmarshalJWKS(d *caddyfile.Dispenser) (*JWKS, error) {
	s := new(JWKS)
	args := d.RemainingArgs()
	switch {
	case len(args) > 1 || len(args) == 1 && args[0] == "":
		return nil, d.Err("jwks takes one URL or file: jwks <url|file>")
	case len(args) == 0: // discovery
	case strings.Contains(args[0], "://"):
		s.URL = args[0]
		if at, err := parseKeyURL(s.URL); err != nil {
			return nil, d.Errf("jwks %s: %w", at.Redacted(), err)
		}
	default:
		path, err := besideCaddyfile(d, args[0])
		if err != nil {
			return nil, err
		}
		s.File, s.Digest = path, fileDigest(path)
	}
	given, err := unmarshalBlock(d, "jwks", s.settings(d)...)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 && len(given) == 0 {
		return nil, d.Err("jwks needs a URL, a file or a block; without jwks the keys are found by discovery")
	}
	return s, nil
}

func (s *JWKS) settings(d *caddyfile.Dispenser) []setting {
	ofServer := func(read func() error) func() error {
		return func() error {
			if s.File != "" {
				return d.Errf("%s of jwks is for a server, and %s is a file: remove it", d.Val(), s.File)
			}
			return read()
		}
	}
	span := func(field *caddy.Duration) func() error {
		return ofServer(func() error {
			name := d.Val()
			duration, err := unmarshalDuration(d)
			if err == nil && duration == 0 {
				return d.Errf("%s of jwks cannot be 0: leave it out for the default", name)
			}
			*field = caddy.Duration(duration)
			return err
		})
	}
	return []setting{
		{"ca", ofServer(func() (err error) { s.CA, err = unmarshalFile(d); return err })},
		{"token", ofServer(func() error { return s.unmarshalToken(d) })},
		{"refresh", span(&s.Refresh)},
		{"max_stale", span(&s.MaxStale)},
	}
}

func (s *JWKS) unmarshalToken(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("token of jwks needs one placeholder: {env.NAME} or {file.PATH}")
	}
	// Before anything is said that could show it.
	if err := CheckSecretPlaceholder(d.Val()); err != nil {
		return d.Errf("token of jwks: %w", err)
	}
	s.Token = d.Val()
	if d.NextArg() {
		return d.Err("token of jwks takes one placeholder")
	}
	return nil
}
