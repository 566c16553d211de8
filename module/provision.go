// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
	"github.com/metaguard/metaguard/module/session"
)

// The defaults that no other package has.
const (
	defaultBodyTimeout = 5 * time.Second
	defaultMaxBuffer   = 1 << 20
	defaultMaxTotal    = 256 << 20
)

// Provision sets the handler up. It opens no socket and starts nothing: what
// runs is started by the app.
//
// In a reload it does start that, as its last step. Caddy starts apps in no order,
// so the new sites could listen already, take a share of the connections, and drop
// them when this app then fails to start: for a bundle server that is away, after
// ready_timeout. Here it fails before anything listens, and what runs never
// notices. A configuration that is only validated is no reload.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.decisions, h.events = h.logger.Named("decision"), h.logger.Named("event")
	h.setDefaults()

	loaded, err := ctx.App("metaguard")
	if err != nil {
		return fmt.Errorf("loading the metaguard app: %w", err)
	}
	app, ok := loaded.(*App)
	if !ok {
		return fmt.Errorf("the metaguard app is a %T", loaded)
	}
	h.listen = listeners(ctx)
	h.site = app.nameSite(h.listen)
	for _, step := range []func(caddy.Context) error{
		h.provisionDialect,
		h.provisionIdentities,
		h.provisionMetrics,
		h.provisionSession,
		h.provisionCanonicalizer,
		h.provisionPassword,
		h.provisionUpstream,
		h.provisionPolicy, // last, since it takes what Cleanup must give back
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if h.Limit != nil {
		if h.limits, err = newLimits(*h.Limit); err != nil {
			return err
		}
		if err := h.Limit.Address.CheckSite(ctx); err != nil {
			return fmt.Errorf("limit: %w", err)
		}
	}
	h.waits = newWaits(ctx, h.metrics.waiting)
	h.budget = response.NewBudget(h.Response.MaxTotal)
	app.add(h)
	if h.Mode == modeAudit {
		h.logger.Warn("AUDIT MODE: what the policy refuses is forwarded and published as would_deny")
	}
	if reloading() {
		return app.run()
	}
	return nil
}

func (h *Handler) setDefaults() {
	setDefault(&h.Mode, modeEnforce)
	setDefault(&h.BodyTimeout, caddy.Duration(defaultBodyTimeout))
	setDefault(&h.Password.WriteOnce, caddy.Duration(password.DefaultWriteOnce))
	setDefault(&h.Password.WriteTimeout, caddy.Duration(password.DefaultWriteTimeout))
	setDefault(&h.Response.MaxBuffer, defaultMaxBuffer)
	setDefault(&h.Response.MaxTotal, defaultMaxTotal)
	setDefault(&h.Response.Overflow, overflowRefuse)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (h *Handler) provisionDialect(ctx caddy.Context) error {
	if h.DialectRaw == nil {
		return errors.New("no dialect: add a line such as `dialect openstack`")
	}
	loaded, err := ctx.LoadModule(h, "DialectRaw")
	if err != nil {
		return fmt.Errorf("loading dialect: %w", err)
	}
	var ok bool
	if h.dialect, ok = loaded.(dialect.Dialect); !ok {
		return fmt.Errorf("%T is no dialect", loaded)
	}
	h.traits = h.dialect.Traits()
	if err := expectsCommand(ctx, h.traits.Command); err != nil {
		return err
	}
	setDefault(&h.DenyStatus, h.traits.DenyStatus)
	setDefault(&h.DenyStatus, http.StatusForbidden)
	return nil
}

func (h *Handler) provisionIdentities(ctx caddy.Context) error {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterConnContext(identity.WithConnection)
	}
	if len(h.IdentitiesRaw) > 0 {
		loaded, err := ctx.LoadModule(h, "IdentitiesRaw")
		if err != nil {
			return fmt.Errorf("loading identity sources: %w", err)
		}
		for _, module := range loaded.([]any) {
			source, ok := module.(identity.Source)
			if !ok {
				return fmt.Errorf("%T is no identity source", module)
			}
			h.identities = append(h.identities, source)
		}
	}
	if err := h.identities.Validate(); err != nil {
		return err
	}
	if err := h.checkReach(ctx); err != nil {
		return err
	}
	return h.provisionAssertion()
}

// provisionAssertion finds out how the legacy server is told who the target
// is: explicitly, or as the neutron source implies.
func (h *Handler) provisionAssertion() error {
	if err := h.checkAssertAddress(); err != nil {
		return err
	}
	if h.AssertNeutron != "" {
		if len(h.identities) == 1 && h.identities[0].Name() == "anonymous" {
			return errors.New("assert neutron needs a target, and `identify anonymous` gives none")
		}
		secret, err := identity.ResolveSecret(h.AssertNeutron)
		if err != nil {
			return fmt.Errorf("assert neutron: %w", err)
		}
		h.assertion, err = identity.NewAssertion(secret)
		return err
	}
	for _, source := range h.identities {
		if asserter, ok := source.(identity.Asserter); ok {
			h.assertion = asserter.Assertion()
			return nil
		}
	}
	return nil
}

func (h *Handler) provisionCanonicalizer(caddy.Context) error {
	traits := &h.traits
	rules := canonical.Rules{
		ExtraPathBytes: traits.ExtraPathBytes,
		Query:          traits.Query,
		Headers:        traits.RequestHeaders,
		Forward:        h.ForwardHeaders,
		Identity:       assertedHeaders,
		Hosts:          h.RequireHost,

		Command:         traits.Command,
		RefuseForwarded: traits.RefusesForwarded,
	}
	if traits.Required.Name != "" {
		rules.Required = append(rules.Required, canonical.Header(traits.Required))
	}
	for _, source := range h.identities {
		rules.Identity = append(rules.Identity[:len(rules.Identity):len(rules.Identity)], source.Headers()...)
	}
	if h.sessions != nil {
		rules.Identity = append(rules.Identity, session.Headers()...)
	}
	if h.RequireHeader != nil {
		rules.Required = append(rules.Required, canonical.Header{Name: h.RequireHeader.Name, Value: h.RequireHeader.Value})
	}
	var err error
	if h.canonicalizer, err = rules.Compile(); err != nil {
		return err
	}
	h.responseRules = &response.Rules{Headers: traits.ResponseHeaders}
	return nil
}

// assertedHeaders tell a legacy server who calls. They are never a client's,
// whether or not a source of this site reads them.
var assertedHeaders = []string{
	identity.HeaderInstanceID, identity.HeaderTenantID, identity.HeaderSignature,
	identity.HeaderProvider, identity.HeaderProviderSignature,
}

func (h *Handler) provisionPolicy(caddy.Context) error {
	samples := dialect.Samples(h.dialect)
	config := h.Policy.config()
	config.Samples = samples
	var err error
	h.engine, h.engineKey, err = acquireEngine(config, nil)
	if err != nil {
		return fmt.Errorf("loading policy:\n%w", err)
	}
	if len(h.Policy.Candidate) == 0 {
		return nil
	}
	config = h.Policy.candidateConfig()
	config.Samples = samples
	h.candidate, err = newCandidate(h.engine, config)
	if err != nil {
		return fmt.Errorf("loading candidate:\n%w", err)
	}
	return nil
}

// Validate refuses settings that cannot work.
func (h *Handler) Validate() error {
	if h.Mode != modeEnforce && h.Mode != modeAudit {
		return fmt.Errorf("mode %q: it is enforce or audit", h.Mode)
	}
	if h.DenyStatus != http.StatusForbidden && h.DenyStatus != http.StatusNotFound {
		return fmt.Errorf("deny_status %d: it is 403 or 404", h.DenyStatus)
	}
	if h.BodyTimeout < 0 || h.Policy.Timeout < 0 || h.Policy.ReadyTimeout < 0 || h.Password.WriteTimeout < 0 {
		return errors.New("a timeout is negative")
	}
	if h.Response.MaxBuffer < 0 || h.Response.MaxTotal < h.Response.MaxBuffer {
		return fmt.Errorf("response: max_total (%d bytes) must hold at least one answer of max_buffer (%d bytes)",
			h.Response.MaxTotal, h.Response.MaxBuffer)
	}
	if h.Response.Overflow != overflowRefuse && h.Response.Overflow != overflowStream {
		return fmt.Errorf("response: overflow %q: it is %s or %s", h.Response.Overflow, overflowRefuse, overflowStream)
	}
	if h.Policy.Cache < -1 || h.Policy.Cache > maxVerdicts {
		return fmt.Errorf("policy: cache %d: it is how many verdicts are remembered, up to %d, or -1 for none", h.Policy.Cache, maxVerdicts)
	}
	if h.Policy.ReadyTimeout > 0 && h.Policy.OPA == "" {
		return errors.New("policy: ready_timeout is how long bundles are waited for: it needs `opa <file>`")
	}
	if full := h.Policy.LogFull; full != "" && full != logFullDrop && full != logFullRefuse {
		return fmt.Errorf("policy: log_full %q: it is %s or %s", full, logFullDrop, logFullRefuse)
	}
	traits := &h.traits
	if h.Password.WriteOnce > 0 && time.Duration(h.Password.WriteOnce) < traits.Cache {
		return fmt.Errorf("password: write_once %s is shorter than the %s for which a server of dialect %s may not know of a write itself, so that a second writer would win; use at least %s",
			time.Duration(h.Password.WriteOnce), traits.Cache, h.dialect.Name(), traits.Cache)
	}
	if traits.MaxPassword > 0 && h.Password.MaxSize > traits.MaxPassword {
		return fmt.Errorf("password: max_size %d is more than the %d bytes that a server of dialect %s keeps whole",
			h.Password.MaxSize, traits.MaxPassword, h.dialect.Name())
	}
	return nil
}

// Cleanup gives back what Provision took. Requests may still be on their way:
// what they use goes on working. It does no harm after a failed Provision.
func (h *Handler) Cleanup() error {
	var failures []error
	if h.metricsKey != "" {
		key := h.metricsKey
		h.metricsKey = ""
		_, err := counted.Delete(key)
		failures = append(failures, err)
	}
	if h.hop != nil {
		h.hop.retire()
	}
	if h.waitingTransport != nil {
		failures = append(failures, h.waitingTransport.Cleanup())
		h.waitingTransport = nil // requests on their way have it
	}
	if h.candidate != nil {
		failures = append(failures, h.candidate.Cleanup())
	}
	if h.engine != nil && h.engineKey != "" {
		key := h.engineKey
		h.engineKey = "" // the engine itself stays for requests on their way
		failures = append(failures, releaseEngine(key))
	}
	return errors.Join(failures...)
}
