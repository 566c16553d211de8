// SPDX-License-Identifier: Apache-2.0

// Package legacy is INSECURE ON PURPOSE. It is a small metadata server with
// the faults of OpenStack Nova's, so that there is something to guard in the
// quickstart and in tests where no Nova can be installed. Never let it hold a
// real password, and never let anyone but a guard on the same machine reach it.
//
// What it does wrong is what Nova 26 does wrong, behind either of the servers
// that run it:
//
//   - there is no authorisation: whoever is taken for an instance may read and
//     write its password, with every method, and by default whoever says so in
//     X-Forwarded-For is taken for it;
//   - a password read joins every key that begins with "password_", in the
//     order of the text, and comes as text/html;
//   - "write once" works from a cache of 15 seconds: until it expires each POST
//     is accepted and replaces the one before, and an empty POST erases it,
//     while a GET still shows nothing;
//   - a POST in chunks, or one that is not UTF-8, is an exception: no answer at
//     all (uWSGI) or an empty 500 (eventlet);
//   - OPTIONS is 200 for anybody, HEAD on a password is 400, the version list
//     and the health check know no caller;
//   - paths are cleaned twice, in two different ways; see UWSGIPath,
//     EventletPath and NovaResource, which are exported for tests of guards;
//   - under uWSGI answers have no length and end with the connection, so that
//     a cut one cannot be told from a whole one.
//
// # Limits of the model
//
// It runs behind Go's HTTP server and Caddy, which refuse or repair before any
// handler is asked: malformed framing, two Content-Lengths, control characters
// and bare % in targets, header names with underscores; Go also answers an
// Expect and reads a chunked body in spite of a Content-Length. Those rows of
// the real servers' behaviour cannot be seen here; the path models hold for
// them all the same. There is one worker, so one cache. A request in HTTP/2
// gets a length even as uWSGI. Nothing is kept: a reload starts again from the
// configuration.
package legacy

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(new(Handler))
	httpcaddyfile.RegisterHandlerDirective("metaguard_legacy", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("metaguard_legacy", httpcaddyfile.Before, "respond")
}

// The servers that run Nova's metadata API.
const (
	// UWSGI is Debian's way, uWSGI with its shipped configuration: the default.
	UWSGI = "uwsgi"
	// Eventlet is nova-api's own server.
	Eventlet = "eventlet"
)

// DefaultCache is how long Nova serves what it once read
// ([api]metadata_cache_expiration).
const DefaultCache = 15 * time.Second

// Handler is a metadata server with the faults of OpenStack Nova's. It is
// INSECURE ON PURPOSE: for the quickstart and for tests, with made-up data, on
// a loopback address only. It answers every request itself.
//
// Its state lives in memory and begins anew, from the configuration, with each
// load.
type Handler struct {
	// Server chooses whose reading of paths and framing of answers is used:
	// `uwsgi` (default) or `eventlet`.
	Server string `json:"server,omitempty"`
	// Instances are the machines that it knows. None: three demonstration
	// instances, found at 127.0.0.1, 10.0.0.22 and 10.0.0.33.
	Instances []Instance `json:"instances,omitempty"`
	// Cache is how long what was read of an instance is served. 0 turns the
	// cache off. Default: 15s.
	Cache *caddy.Duration `json:"cache,omitempty"`
	// Secret is the placeholder, `{env.X}` or `{file.X}`, of the secret that
	// Neutron's agent signs instance ids with. With it, only signed instance
	// ids count (service_metadata_proxy). Without it, the address in
	// X-Forwarded-For counts, which anyone may claim (use_forwarded_for), and
	// the connection's own where there is none.
	Secret string `json:"secret,omitempty"`

	secret decision.Secret
	store  *store
	now    func() time.Time // of tests; nil: the clock
}

// CaddyModule returns the module's id and constructor.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.metaguard_legacy",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision checks the configuration and fills the store. It says in the log,
// each time, what this server is.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.prepare(); err != nil {
		return err
	}
	ctx.Logger().Warn("this metadata server is insecure on purpose: for demonstration and tests only",
		zap.String("server", h.Server),
		zap.Bool("signed", !h.secret.Empty()))
	return nil
}

// prepare is Provision without Caddy.
func (h *Handler) prepare() error {
	if h.Server == "" {
		h.Server = UWSGI
	}
	if err := h.check(); err != nil {
		return err
	}
	if h.Secret != "" {
		value, err := caddy.NewReplacer().ReplaceOrErr(h.Secret, true, true)
		if err != nil {
			return fmt.Errorf("reading the secret: %w", err)
		}
		h.secret = decision.NewSecret(strings.TrimRight(value, "\r\n"))
		if h.secret.Empty() {
			return fmt.Errorf("reading the secret: %s is empty", h.Secret)
		}
	}
	instances := h.Instances
	if len(instances) == 0 {
		instances = demo()
	}
	expiry := DefaultCache
	if h.Cache != nil {
		expiry = time.Duration(*h.Cache)
	}
	if h.now == nil {
		h.now = time.Now
	}
	h.store = newStore(instances, expiry, h.now)
	return nil
}

// check refuses a configuration that means nothing.
func (h *Handler) check() error {
	if h.Server != "" && h.Server != UWSGI && h.Server != Eventlet {
		return fmt.Errorf("unknown server %q: it is %s or %s", h.Server, UWSGI, Eventlet)
	}
	if h.Cache != nil && *h.Cache < 0 {
		return fmt.Errorf("cache must not be negative")
	}
	if h.Secret != "" && !isPlaceholder(h.Secret) {
		// The text is not repeated: it may be the secret itself.
		return fmt.Errorf("secret must be {env.NAME} or {file.PATH}, since a literal would stand in the running configuration")
	}
	ids, addresses := map[string]bool{}, map[string]bool{}
	for n := range h.Instances {
		instance := &h.Instances[n]
		if err := instance.check(); err != nil {
			return err
		}
		if ids[instance.ID] {
			return fmt.Errorf("instance %s is given twice", instance.ID)
		}
		ids[instance.ID] = true
		for _, address := range instance.Addresses {
			if addresses[address] {
				return fmt.Errorf("address %s belongs to two instances", address)
			}
			addresses[address] = true
		}
	}
	return nil
}

// check refuses an instance that could not be asked for.
func (i *Instance) check() error {
	if id, err := uuid.Parse(i.ID); err != nil || id.String() != i.ID {
		return fmt.Errorf("instance %q: the id must be a UUID in lower case", i.ID)
	}
	if i.Project == "" {
		return fmt.Errorf("instance %s: a project is required", i.ID)
	}
	return nil
}

// isPlaceholder tells whether text is one placeholder from which a secret may
// come, and nothing else.
func isPlaceholder(text string) bool {
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed || strings.ContainsAny(name, "{}") {
		return false
	}
	kind, rest, _ := strings.Cut(name, ".")
	return rest != "" && (kind == "env" || kind == "file")
}

// ServeHTTP answers every request; nothing behind it in the site is reached.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	read, write, joint := UWSGIPath, answerUWSGI, ", "
	if h.Server == Eventlet {
		read, write, joint = EventletPath, answerEventlet, ","
	}
	out := answer{status: http.StatusBadRequest}
	if pathInfo, ok := read(r.RequestURI); ok {
		out = h.nova(&call{Request: r, pathInfo: pathInfo, joint: joint})
	} else if h.Server == UWSGI {
		out = crashed
	}
	return write(w, r, render(out, r.Method, r.Header.Get("Accept")))
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
