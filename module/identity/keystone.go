// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

const keystoneName = "keystone"

// The headers of OpenStack's tokens, in Go's canonical form. Only the first is
// read; none is ever forwarded.
const (
	headerAuthToken    = "X-Auth-Token"
	headerSubjectToken = "X-Subject-Token"
	headerServiceToken = "X-Service-Token"
)

// What `identify keystone` does where nothing else is said, and the limits.
const (
	defaultKeystoneCache     = 30 * time.Second
	defaultKeystoneCacheSize = 10_000
	defaultKeystoneTimeout   = 3 * time.Second
	maxKeystoneCache         = 5 * time.Minute
	maxKeystoneCacheSize     = 1_000_000
	maxKeystoneTimeout       = time.Minute
)

func init() { caddy.RegisterModule(new(Keystone)) }

// Keystone knows callers by an OpenStack token in the header `X-Auth-Token`,
// which it asks Keystone to validate. The token validates itself, as Keystone's
// default policy lets it (`rule:token_subject`), so no service account is
// needed.
//
// A request that has the header, even an empty one, is claimed. A token that
// Keystone does not know, that has expired or that is revoked ends it with
// `identity_invalid`; where Keystone gives no usable answer, it ends with
// `identity_unavailable`. A checked token is believed for `cache`, and no longer
// than it lives, so this is how late a revocation may be noticed. Tokens are
// kept nowhere: the cache knows them by a keyed hash.
//
// Tokens that are bound to a client certificate or a Kerberos principal are
// refused, since the other half is not checked. So are tokens of application
// credentials with access rules: Keystone validates these only for services that
// say that they enforce such rules, and this one does not. And so are tokens of
// a trust with impersonation: Keystone lets no trustee validate one.
//
// Caller: id `user:<user id>`; the token's project, where it is scoped to one;
// the names of its roles, sorted, as Keystone spells them; the connection's
// address. Claims, each where the token has it:
//
//   - user_id, user_name, user_domain_id, user_domain_name
//   - project_name, project_domain_id, project_domain_name (project scope)
//   - domain_id (domain scope)
//   - system (system scope): true
//   - application_credential_id
//   - trust_id, trustor_user_id, trustee_user_id: the user is one of the two
//   - expires_at, as in RFC 3339
type Keystone struct {
	// Keystone's v3 endpoint, such as `https://keystone.example:5000/v3`. A host
	// alone gets `/v3`. It must be https, except on the loopback address.
	URL string `json:"url"`

	// A PEM file of the only authorities whose certificates count. Default:
	// the system's.
	CA string `json:"ca,omitempty"`

	// The SHA-256 of that file when the configuration was adapted, so that a
	// reload notices an edit. It is compared with nothing.
	CADigest string `json:"ca_digest,omitempty"`

	// How long a checked token is believed, at most `5m`. Default: `30s`; less
	// than 0: every request asks.
	Cache caddy.Duration `json:"cache,omitempty"`

	// How many tokens are believed at a time; others are asked about again.
	// Default: 10000.
	CacheSize int `json:"cache_size,omitempty"`

	// How long an answer may take, waiting for a turn included. Default: `3s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// On whose data these callers act, who are no instances themselves.
	Target *TargetRule `json:"target,omitempty"`

	client *keystoneClient
	tokens *tokenCache
}

// CaddyModule says what this is to Caddy.
func (*Keystone) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.keystone",
		New: func() caddy.Module { return new(Keystone) },
	}
}

// Provision reads the authorities and the target's inventory. It connects to
// nothing and starts nothing.
func (k *Keystone) Provision(ctx caddy.Context) error {
	k.setDefaults()
	if err := k.checkLimits(); err != nil {
		return err
	}
	if k.Target != nil {
		if err := k.Target.Provision(ctx); err != nil {
			return fmt.Errorf("identify keystone: %w", err)
		}
	}
	client, err := newKeystoneClient(k.URL, k.CA, time.Duration(k.Timeout))
	if err != nil {
		return fmt.Errorf("identify keystone: %w", err)
	}
	tokens, err := newTokenCache(client.ask, time.Duration(k.Cache), k.CacheSize)
	if err != nil {
		return fmt.Errorf("identify keystone: %w", err)
	}
	k.client, k.tokens = client, tokens
	return nil
}

// Cleanup ends what Start began, and closes connections that wait for use.
// Requests that still run are answered as before.
func (k *Keystone) Cleanup() error {
	k.Stop()
	return nil
}

// Start follows the target's inventory. It fails before Provision.
func (k *Keystone) Start() error {
	if k.client == nil {
		return errors.New("starting identify keystone: it is not provisioned")
	}
	return k.Target.Start()
}

// Stop ends what Start began, if anything.
func (k *Keystone) Stop() {
	k.Target.Stop()
	if k.client != nil {
		k.client.close()
	}
}

// Identify claims a request that has X-Auth-Token. Its codes of an
// `identity_invalid`:
//
//   - keystone_doubled: the header is there twice
//   - keystone_malformed: it is not 1 to 8192 visible ASCII characters
//   - keystone_token_invalid: Keystone does not take the token (any more)
//   - keystone_token_expired: Keystone takes it, but by its own time, seen from
//     here, it has expired; compare the clocks
//   - keystone_token_bound: it counts only together with a certificate or a
//     Kerberos principal
//
// and of an `identity_unavailable`:
//
//   - keystone_unavailable: no answer, or none that makes sense
//   - keystone_not_permitted: Keystone does not let this token validate itself
//   - keystone_busy: too many tokens are asked about at a time
//   - keystone_abandoned: the client hung up meanwhile
func (k *Keystone) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	values := r.Header[headerAuthToken]
	switch {
	case len(values) == 0:
		return nil, nil
	case len(values) > 1:
		return nil, invalid("keystone_doubled")
	case !validToken(values[0]):
		return nil, invalid("keystone_malformed")
	}
	user, refusal := k.tokens.check(r.Context(), values[0])
	if refusal != nil {
		return nil, refusal
	}
	return user.caller(peer), nil
}

// Name is "keystone".
func (*Keystone) Name() string { return keystoneName }

// Headers lists all that may carry a token, and what the target needs.
func (k *Keystone) Headers() []string {
	return append([]string{headerAuthToken, headerSubjectToken, headerServiceToken}, k.Target.headers()...)
}

// TargetRule says on whose data these callers act; nil: nobody said.
func (k *Keystone) TargetRule() *TargetRule { return k.Target }

// CountLookups has the questions to Keystone counted, and the tokens for which it
// was not asked. Requests that share a question count it once.
func (k *Keystone) CountLookups(count func(Lookup)) { k.tokens.lookups.count = count }

// Remembered is how many tokens are remembered that Keystone took and refused,
// expired ones among them.
func (k *Keystone) Remembered() (taken, refused int) { return k.tokens.sizes() }

func (k *Keystone) setDefaults() {
	if k.Cache == 0 {
		k.Cache = caddy.Duration(defaultKeystoneCache)
	}
	if k.CacheSize == 0 {
		k.CacheSize = defaultKeystoneCacheSize
	}
	if k.Timeout == 0 {
		k.Timeout = caddy.Duration(defaultKeystoneTimeout)
	}
}

func (k *Keystone) checkLimits() error {
	switch {
	case time.Duration(k.Cache) > maxKeystoneCache:
		return fmt.Errorf("identify keystone: cache %s: it is at most %s, since a revoked token is believed for so long", time.Duration(k.Cache), maxKeystoneCache)
	case k.CacheSize < 0 || k.CacheSize > maxKeystoneCacheSize:
		return fmt.Errorf("identify keystone: cache_size %d: it is 1 to %d tokens", k.CacheSize, maxKeystoneCacheSize)
	case k.Timeout < 0 || time.Duration(k.Timeout) > maxKeystoneTimeout:
		return fmt.Errorf("identify keystone: timeout %s: it is more than 0 and at most %s", time.Duration(k.Timeout), maxKeystoneTimeout)
	}
	return nil
}

// validToken tells whether s can be a token: Fernet, JWS and UUID tokens are
// visible ASCII characters. What cannot be one is not worth a question.
func validToken(s string) bool {
	if len(s) == 0 || len(s) > maxKeystoneToken {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

var (
	_ caddy.Module          = (*Keystone)(nil)
	_ caddy.Provisioner     = (*Keystone)(nil)
	_ caddy.CleanerUpper    = (*Keystone)(nil)
	_ caddyfile.Unmarshaler = (*Keystone)(nil)
	_ Source                = (*Keystone)(nil)
	_ Starter               = (*Keystone)(nil)
	_ Targeter              = (*Keystone)(nil)
	_ Asker                 = (*Keystone)(nil)
)
