// SPDX-License-Identifier: Apache-2.0

// Package module is Metaguard's Caddy module: the handler that guards a legacy
// metadata server, its Caddyfile directive, and the app that owns what
// outlives one request.
//
// A request's way is written in handler.go, step by step; every step stands in
// the file that bears its name.
package module

import (
	"encoding/json"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// The modes of a site.
const (
	modeEnforce = "enforce"
	modeAudit   = "audit"
)

// Handler stands in front of a legacy metadata server. It makes one canonical
// request of what the client sent, finds out who calls, asks the policy, and
// forwards only what the policy allows; the answer is buffered, checked,
// redacted and sent whole, or not at all.
//
// It ends its route: whatever is configured behind it never runs. It writes
// its own refusals, so that `handle_errors` does not run for them either.
//
// These placeholders are set:
//
// Placeholder | Description
// ------------|-------------
// `{http.vars.metaguard.id}` | The decision id, which is also the header `X-Metaguard-Decision`
// `{http.vars.metaguard.decision}` | `allow`, `deny` or `would_deny`
// `{http.vars.metaguard.reason}` | Why, from the closed vocabulary of reasons
// `{http.vars.metaguard.outcome}` | `forwarded`, `streamed`, `answered`, `empty`, `refused`, `failed`, `aborted` or `panic`
// `{http.vars.metaguard.caller}` | The caller's id, empty if unidentified
// `{http.vars.metaguard.source}` | The identity source that answered
// `{http.vars.metaguard.dialect}` | The site's dialect
// `{http.vars.metaguard.resource}` | The kind of the resource
// `{http.vars.metaguard.action}` | `read` or `write`
// `{http.vars.metaguard.revision}` | The revision of the policy that decided
type Handler struct {
	// The legacy server, as Caddy's `reverse_proxy` takes it. Required.
	// Settings that would change a judged request are errors. The defaults
	// differ from Caddy's: HTTP/1.1, no compression, no proxy from the
	// environment, no connection is used twice, 3s to connect, 10s for the
	// answer's header, 10s between two of its bytes, 64KiB of header.
	Upstream *reverseproxy.Handler `json:"upstream,omitempty"`

	// What the server's paths mean: a module of the namespace
	// `metaguard.dialects`. Required.
	DialectRaw json.RawMessage `json:"dialect,omitempty" caddy:"namespace=metaguard.dialects inline_key=name"`

	// Who may call, in the order in which they are asked: modules of the
	// namespace `metaguard.identities`. At least one is required.
	IdentitiesRaw []json.RawMessage `json:"identities,omitempty" caddy:"namespace=metaguard.identities inline_key=source"`

	// What is asked whether a caller may do something. Default: the built-in
	// policy alone.
	Policy PolicyConfig `json:"policy,omitzero"`

	// `enforce` (default), or `audit`: what the policy refuses is forwarded
	// all the same, without redaction, and published as `would_deny`.
	Mode string `json:"mode,omitempty"`

	// Tokens that requests must or may show, as in EC2's IMDSv2. Default: off.
	Session SessionConfig `json:"session,omitzero"`

	// The rules for passwords.
	Password PasswordConfig `json:"password,omitzero"`

	// How long a client may take to send a body, from the moment its header
	// was read. Default: 5s.
	BodyTimeout caddy.Duration `json:"body_timeout,omitempty"`

	// How much of answers and bodies is held in memory.
	Response ResponseConfig `json:"response,omitzero"`

	// Tells the legacy server who the target is, in the three headers that
	// Nova takes from a Neutron agent, signed with the secret behind this
	// placeholder: `{env.NAME}` or `{file.PATH}`. Default: with the first
	// secret of the identity source `neutron`; without that source nothing is
	// asserted.
	AssertNeutron string `json:"assert_neutron,omitempty"`

	// Tells the legacy server who the target is by the address that its
	// connections come from, which is the target's own: the caller's, or the one
	// that the inventory has. For servers that know callers by nothing else.
	// Linux only, with CAP_NET_ADMIN (or CAP_NET_RAW). The server's replies must
	// be routed to this host, see the README. The upstreams are IP addresses of
	// one family, no connection is used twice, and `neutron` cannot be among the
	// identity sources. A target without an address is refused.
	AssertAddress bool `json:"assert_address,omitempty"`

	// Client headers that go upstream beside Accept, User-Agent, Content-Type
	// and the dialect's own. What Metaguard writes itself, hop-by-hop and
	// framing headers are errors.
	ForwardHeaders []string `json:"forward_headers,omitempty"`

	// How often one caller may ask, and be refused. Default: any number.
	Limit *LimitConfig `json:"limit,omitempty"`

	// The only names or addresses that the Host header may have, against DNS
	// rebinding. Default: any.
	RequireHost []string `json:"require_host,omitempty"`

	// A header that every request must have exactly once, such as GCE's
	// `Metadata-Flavor: Google` or Azure's `Metadata: true`. The case of its
	// value does not matter. Default: none.
	RequireHeader *RequiredHeader `json:"require_header,omitempty"`

	// The status of a refusal by policy, 403 or 404. The decision's own status
	// wins. Default: what the dialect's clients get along with best.
	DenyStatus int `json:"deny_status,omitempty"`

	// A digest of the policy files at the time the configuration was adapted, and
	// one of the times of all other files that the settings name, secrets among
	// them, so that a reload notices an edit. It is never compared with anything.
	Digest string `json:"digest,omitempty"`

	dialect          dialect.Dialect
	traits           dialect.Traits
	identities       identity.Chain
	canonicalizer    *canonical.Canonicalizer
	listen           []string
	servers          *upstreamCheck
	engine           *pooledEngine
	engineKey        string
	candidate        *candidate
	passwords        *passwords
	sessions         *sessions // nil: off
	latch            password.Latch
	assertion        *identity.Assertion
	source           *addressAssertion // nil: connections come from this host
	budget           *response.Budget
	limits           *limits
	waits            *waits
	hop              *lastHop
	waitingTransport *reverseproxy.HTTPTransport // nil: nothing waits
	responseRules    *response.Rules
	site             string // its name in metrics and traces
	metrics          *siteMetrics
	metricsKey       string
	logger           *zap.Logger
	decisions        *zap.Logger
	events           *zap.Logger
}

// PolicyConfig says which policy decides.
type PolicyConfig struct {
	// Files and directories with Rego, JSON and YAML, added to the built-in
	// policy; only one that holds the package `metaguard` itself replaces it.
	// An edit is live within two seconds; a broken one keeps the last good
	// policy in force.
	Paths []string `json:"paths,omitempty"`
	// The rule that is the decision. Default: `metaguard/decision`.
	Entrypoint string `json:"entrypoint,omitempty"`
	// A file with OPA's own configuration, JSON or YAML: services, bundles,
	// discovery, decision_logs, status, keys, labels, caching and
	// persistence_directory (default: below Caddy's data directory). `${NAME}`
	// stands for an environment variable. Default: none.
	OPA string `json:"opa,omitempty"`
	// How long one decision may take; longer is a refusal. Default: 100ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// How long a request waits for the first bundles, and a reload before it is
	// refused. Local files are ready at once. Default: 10s.
	ReadyTimeout caddy.Duration `json:"ready_timeout,omitempty"`
	// How many verdicts are remembered for requests that come again alike; -1 is
	// none. A verdict is remembered no longer than the policy and its data are in
	// force, and never where the policy could say otherwise to the same input: it
	// uses time.now_ns, say. Default: 131072, which take 9 MiB.
	Cache int `json:"cache,omitempty"`
	// OPA builtins that policies may use although they reach the network or
	// the environment. Default: none.
	AllowBuiltins []string `json:"allow_builtins,omitempty"`
	// What becomes of a request whose decision event finds OPA's buffer for its
	// log service full: `drop` (default) drops the oldest event and counts it,
	// `refuse` refuses the request with the reason `log_full`.
	LogFull string `json:"log_full,omitempty"`
	// Files and directories of a second policy, in place of `paths`. It is asked
	// beside the live one about the same requests, and never enforced: only
	// where it says otherwise this is logged and counted. Default: none.
	Candidate []string `json:"candidate,omitempty"`
}

// maxVerdicts is how many verdicts may be remembered: 1 GiB of them.
const maxVerdicts = 10_000_000

// The choices of log_full.
const (
	logFullDrop   = "drop"
	logFullRefuse = "refuse"
)

// PasswordConfig holds the rules for passwords.
type PasswordConfig struct {
	// The longest password, in bytes, written or read; nothing is ever cut.
	// Default, and at most, what the legacy server keeps whole (Nova: 1020).
	MaxSize int `json:"max_size,omitempty"`
	// How long an instance's password stays written once, from the answer
	// of the legacy server on; at least that server's cache time (Nova: 15s).
	// After it the server's own answer counts. Default: 60s. -1 is off.
	WriteOnce caddy.Duration `json:"write_once,omitempty"`
	// What may be written: `any` (default) or `encrypted`, the result of an
	// RSA encryption in base64.
	Require string `json:"require,omitempty"`
	// What may be read that was not written through this latch: `encrypted`
	// (default), exactly one RSA result, or `refuse`.
	Unverified string `json:"unverified,omitempty"`
	// Where the state of passwords is kept: a module of the namespace
	// `metaguard.latches`. Default: `file`.
	LatchRaw json.RawMessage `json:"latch,omitempty" caddy:"namespace=metaguard.latches inline_key=latch"`
	// How long the legacy server may take over a write before its outcome
	// counts as unknown. Default: 10s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`
	// Keys for the fingerprints of accepted passwords, as placeholders
	// `{env.NAME}` or `{file.PATH}`: the first makes them, all are accepted.
	// Default: one key, made once and kept in Caddy's storage.
	FingerprintKeys []string `json:"fingerprint_keys,omitempty"`
}

// ResponseConfig bounds memory.
type ResponseConfig struct {
	// The longest answer that is held in memory, in bytes. Default: 1MiB.
	MaxBuffer int64 `json:"max_buffer,omitempty"`
	// What becomes of a longer one: `refuse` (default), or `stream`, where it
	// is passed on as it comes if nothing in it is ever hidden or checked: text
	// of a resource that is not sensitive, such as user data. One that breaks
	// off then breaks the client's connection.
	Overflow string `json:"overflow,omitempty"`
	// What all bodies and answers of this site may hold at one time, in bytes;
	// beyond it requests are refused as `overloaded`. Default: 256MiB.
	MaxTotal int64 `json:"max_total,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.metaguard",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
