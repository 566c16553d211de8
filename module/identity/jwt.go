// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"
)

const (
	jwtName = "jwt"

	headerAuthorization = "Authorization"

	defaultClockSkew = 30 * time.Second
	maxClockSkew     = 5 * time.Minute

	// maxIssuer is the longest issuer; it is part of every caller's id.
	maxIssuer = 255
)

// defaultJWTClaims is what policies see of a token unless `claims` says
// otherwise: who, from whom, for whom, by which client, with which rights.
var defaultJWTClaims = []string{"iss", "sub", "aud", "azp", "client_id", "scope", "groups"}

func init() { caddy.RegisterModule(new(JWT)) }

// JWT knows callers by a signed JSON Web Token of one issuer: of an OpenID
// provider, or a Kubernetes service account's.
//
// The header being there is the claim. In `Authorization` only the scheme
// Bearer is; other schemes are left to other sources. A token that does not
// hold in everything ends the request with `identity_invalid`: it must be the
// compact form with one signature of an allowed algorithm, by a key that the
// issuer publishes and that fits the algorithm, from this issuer, for this
// audience, within its times. Keys and addresses of keys that a token itself
// brings (`jwk`, `jku`, `x5c`, `x5u`) are never used, and one with extensions
// that must be understood (`crit`) is refused.
//
// The issuer's keys are fetched in the background, again every `refresh`, and
// when a token names a key that is not among them, at most every 10 seconds.
// Until the first are there a request waits at most 3 seconds. When fetching
// fails, the last good keys count for up to `max_stale`. Where a token cannot
// be checked the request ends with `identity_unavailable`. A key that the
// issuer withdraws is not accepted after the next refresh.
//
// Caller: id `jwt:<iss>#<sub>`, the connection's address, the project and the
// roles of the claims that `project` and `roles` name, and the claims that
// `claims` allows. It is no instance: `target` says on whose data it acts.
type JWT struct {
	// The issuer: exactly the token's `iss`.
	Issuer string `json:"issuer"`

	// The token's `aud` must hold one of these.
	Audience []string `json:"audience"`

	// Where the issuer's keys are. Default: OpenID discovery at
	// `<issuer>/.well-known/openid-configuration`.
	JWKS *JWKS `json:"jwks,omitempty"`

	// The signature algorithms that count. Default: RS256, RS384, RS512, PS256,
	// PS384, PS512, ES256, ES384, ES512 and EdDSA, which are all there can be:
	// a shared key (HS256) or none at all proves nothing.
	Algorithms []string `json:"algorithms,omitempty"`

	// How far the issuer's clock may be from this one. Default: 30s, at most 5m.
	ClockSkew *caddy.Duration `json:"clock_skew,omitempty"`

	// The header with the token. Default: `Authorization`, with the scheme
	// Bearer; any other header holds the token alone.
	Header string `json:"header,omitempty"`

	// The claims that policies see. Default: `iss`, `sub`, `aud`, `azp`,
	// `client_id`, `scope` and `groups`. What the token lacks, or has as null, is
	// left out. `aud` is always a list, all others are as in the token.
	//
	// A name is a member of the token; where the token has no member of the
	// whole name, the longest part before a dot that is one leads into it:
	// `kubernetes.io.pod.uid` is `uid` of `pod` of `kubernetes.io`. Claims that
	// `target` names are seen too.
	Claims []string `json:"claims,omitempty"`

	// The claim that is the caller's project. A token without it is refused.
	Project string `json:"project,omitempty"`

	// The claim that holds the caller's roles: a list of strings, or one string
	// with blanks between them.
	Roles string `json:"roles,omitempty"`

	// On whose data these callers act.
	Target *TargetRule `json:"target,omitempty"`

	header     string // in canonical form
	algorithms []string
	skew       time.Duration
	claims     *claimReader
	keys       *jwtKeys
	now        func() time.Time
}

// CaddyModule says what this is to Caddy.
func (*JWT) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.jwt",
		New: func() caddy.Module { return new(JWT) },
	}
}

// Provision checks everything that can be checked without the issuer, and
// reads the files: keys, authorities, inventory. It connects to nothing.
func (j *JWT) Provision(ctx caddy.Context) error {
	if err := j.provision(ctx.Logger()); err != nil {
		return fmt.Errorf("identify jwt: %w", err)
	}
	if j.Target != nil {
		if err := j.Target.Provision(ctx); err != nil {
			return fmt.Errorf("identify jwt: %w", err)
		}
	}
	return nil
}

func (j *JWT) provision(logger *zap.Logger) (err error) {
	j.now = time.Now
	if err := checkIssuer(j.Issuer); err != nil {
		return err
	}
	j.header = textproto.CanonicalMIMEHeaderKey(j.Header)
	if j.Header == "" {
		j.header = headerAuthorization
	}
	if err := checkTokenHeader(j.header); err != nil {
		return err
	}
	if j.algorithms = j.Algorithms; len(j.algorithms) == 0 {
		j.algorithms = jwtAlgorithms
	}
	for _, name := range j.algorithms {
		if err := checkAlgorithm(name); err != nil {
			return err
		}
	}
	j.skew = defaultClockSkew
	if j.ClockSkew != nil {
		j.skew = time.Duration(*j.ClockSkew)
	}
	if j.skew < 0 || j.skew > maxClockSkew {
		return fmt.Errorf("clock_skew %s: it is from 0s to %s", j.skew, maxClockSkew)
	}
	j.claims = newClaimReader(j.claimNames(), j.Project, j.Roles)
	j.keys, err = j.JWKS.open(j.Issuer, logger)
	return err
}

// claimNames are those that the caller gets.
func (j *JWT) claimNames() []string {
	names := j.Claims
	if len(names) == 0 {
		names = defaultJWTClaims
	}
	names = slices.Clone(names)
	if j.Target != nil {
		for _, name := range []string{j.Target.Claim, j.Target.ProjectClaim} {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Validate refuses a source for which every token would do, or none.
func (j *JWT) Validate() error {
	switch {
	case len(j.Audience) == 0:
		return errors.New("identify jwt needs an audience, or a token for any other service of the issuer would do: audience <value>")
	case slices.Contains(j.Audience, ""):
		return errors.New("identify jwt: an audience is empty: remove it")
	case slices.Contains(j.Claims, ""):
		return errors.New("identify jwt: a claim's name is empty: remove it")
	}
	return nil
}

// Cleanup ends what Start began. Requests that still run keep the keys.
func (j *JWT) Cleanup() error {
	j.Stop()
	return nil
}

// Start begins to fetch the keys, or to follow their file. It fails before
// Provision.
func (j *JWT) Start() error {
	if j.keys == nil {
		return errors.New("starting identify jwt: it is not provisioned")
	}
	if err := j.keys.start(); err != nil {
		return err
	}
	return j.Target.Start()
}

// Stop ends what Start began, if anything.
func (j *JWT) Stop() {
	if j.keys != nil {
		j.keys.end()
	}
	j.Target.Stop()
}

// Name is "jwt".
func (*JWT) Name() string { return jwtName }

// Headers is the one with the token, and the one that names a target.
func (j *JWT) Headers() []string {
	header := j.header
	if header == "" { // not provisioned yet
		header = headerAuthorization
		if j.Header != "" {
			header = textproto.CanonicalMIMEHeaderKey(j.Header)
		}
	}
	return append([]string{header}, j.Target.headers()...)
}

// TargetRule says on whose data the callers act.
func (j *JWT) TargetRule() *TargetRule { return j.Target }

// Status says which keys are in force. It is there once the source is
// provisioned.
func (j *JWT) Status() JWTStatus { return j.keys.status() }

// CountLookups has the loads of key sets counted.
func (j *JWT) CountLookups(count func(Lookup)) { j.keys.lookups.count = count }

// checkIssuer refuses what no caller's id could hold.
func checkIssuer(issuer string) error {
	switch {
	case issuer == "":
		return errors.New("it needs an issuer: issuer https://…")
	case len(issuer) > maxIssuer:
		return fmt.Errorf("the issuer is longer than %d bytes", maxIssuer)
	case !printable(issuer) || strings.ContainsAny(issuer, " #"):
		return fmt.Errorf("issuer %q: write it as in the token's iss, a URL without blanks and without #", issuer)
	}
	return nil
}

// checkTokenHeader refuses a header that cannot hold a token.
func checkTokenHeader(name string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name) || strings.Contains(name, "_"):
		return fmt.Errorf("header %q: a name has letters, digits and dashes", name)
	case slices.Contains([]string{
		"Accept", "Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Forwarded", "Host", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Via", "X-Forwarded-For", HeaderTarget,
	}, name):
		return fmt.Errorf("header %s has another meaning: name one that holds nothing but the token", name)
	}
	return nil
}

// printable tells whether s is of printable ASCII bytes only.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

var (
	_ caddy.Module          = (*JWT)(nil)
	_ caddy.Provisioner     = (*JWT)(nil)
	_ caddy.Validator       = (*JWT)(nil)
	_ caddy.CleanerUpper    = (*JWT)(nil)
	_ caddyfile.Unmarshaler = (*JWT)(nil)
	_ Source                = (*JWT)(nil)
	_ Starter               = (*JWT)(nil)
	_ Targeter              = (*JWT)(nil)
	_ Asker                 = (*JWT)(nil)
)
