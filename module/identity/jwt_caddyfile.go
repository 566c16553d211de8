// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"slices"
	"strings"
	"time"

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
	var seen []string
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if slices.Contains(seen, name) {
			return d.Errf("%s of identify jwt is given twice", name)
		}
		seen = append(seen, name)
		if err := j.unmarshalSetting(d, name); err != nil {
			return err
		}
	}
	switch {
	case j.Issuer == "":
		return d.Err("identify jwt needs an issuer: issuer https://…")
	case len(j.Audience) == 0:
		return d.Err("identify jwt needs an audience, or a token for any other service of the issuer would do: audience <value>")
	}
	return nil
}

func (j *JWT) unmarshalSetting(d *caddyfile.Dispenser, name string) (err error) {
	switch name {
	case "issuer":
		if j.Issuer, err = unmarshalOne(d); err == nil {
			err = wrap(d, checkIssuer(j.Issuer))
		}
	case "audience":
		err = unmarshalList(d, name, &j.Audience, notEmpty)
	case "jwks":
		j.JWKS, err = unmarshalJWKS(d)
	case "algorithms":
		err = unmarshalList(d, name, &j.Algorithms, checkAlgorithm)
	case "clock_skew":
		var skew time.Duration
		if skew, err = unmarshalDuration(d); err == nil {
			j.ClockSkew = new(caddy.Duration)
			*j.ClockSkew = caddy.Duration(skew)
		}
	case "header":
		j.Header, err = unmarshalOne(d)
	case "claims":
		err = unmarshalList(d, name, &j.Claims, notEmpty)
	case "project":
		j.Project, err = unmarshalOne(d)
	case "roles":
		j.Roles, err = unmarshalOne(d)
	case "target":
		j.Target, err = unmarshalTarget(d)
	default:
		err = d.Errf("unknown setting %q of identify jwt: it has issuer, audience, jwks, algorithms, clock_skew, header, claims, project, roles and target", name)
	}
	return err
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
	var seen []string
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if slices.Contains(seen, name) {
			return nil, d.Errf("%s of jwks is given twice", name)
		}
		seen = append(seen, name)
		if s.File != "" {
			return nil, d.Errf("%s of jwks is for a server, and %s is a file: remove it", name, s.File)
		}
		if err := s.unmarshalSetting(d, name); err != nil {
			return nil, err
		}
	}
	if len(args) == 0 && len(seen) == 0 {
		return nil, d.Err("jwks needs a URL, a file or a block; without jwks the keys are found by discovery")
	}
	return s, nil
}

func (s *JWKS) unmarshalSetting(d *caddyfile.Dispenser, name string) (err error) {
	var duration time.Duration
	switch name {
	case "ca":
		if s.CA, err = unmarshalOne(d); err == nil {
			s.CA, err = besideCaddyfile(d, s.CA)
		}
	case "token":
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
	case "refresh":
		duration, err = unmarshalDuration(d)
		s.Refresh = caddy.Duration(duration)
	case "max_stale":
		duration, err = unmarshalDuration(d)
		s.MaxStale = caddy.Duration(duration)
	default:
		return d.Errf("unknown setting %q of jwks: it has ca, token, refresh and max_stale", name)
	}
	if err == nil && duration == 0 && (name == "refresh" || name == "max_stale") {
		return d.Errf("%s of jwks cannot be 0: leave it out for the default", name)
	}
	return err
}

// unmarshalOne reads a setting with one argument, with the dispenser on its name.
func unmarshalOne(d *caddyfile.Dispenser) (string, error) {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return "", d.Errf("%s needs one argument; a {$NAME} that is not set leaves none", name)
	}
	if d.NextBlock(d.Nesting()) {
		return "", d.Errf("%s takes no block", name)
	}
	return args[0], nil
}

func unmarshalDuration(d *caddyfile.Dispenser) (time.Duration, error) {
	name := d.Val()
	text, err := unmarshalOne(d)
	if err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration < 0 {
		return 0, d.Errf("%s %q: it is a time like 30s or 5m", name, text)
	}
	return duration, nil
}

func notEmpty(text string) error {
	if text == "" {
		return errors.New("an argument is empty: remove it")
	}
	return nil
}

// wrap gives an error the place in the Caddyfile, if it is one.
func wrap(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}
