// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/response"
	"github.com/metaguard/metaguard/module/session"
)

// sessions are the session tokens of a site.
type sessions struct {
	required bool
	maxTTL   time.Duration
	hops     int
	place    string            // the part of the site's name that is known beforehand
	secrets  []decision.Secret // given ones
	storage  certmagic.Storage // nil: they are given
	kept     kept[session.Keys]
	named    atomic.Pointer[namedSite]
}

// sessionState is what a request has to do with session tokens.
type sessionState struct {
	endpoint *session.Endpoint // it asks for a token there, or tries to; nil: elsewhere
	ttl      time.Duration     // for how long
	seen     decision.Session  // what the policy sees
	denial   *decision.Refusal // in audit mode: what is published in the place of the policy's verdict
}

// checkSession checks the token that a request shows. Where tokens are had, none
// is needed.
func (x *exchange) checkSession() *decision.Refusal {
	s := x.h.sessions
	if s == nil {
		return nil
	}
	x.session.endpoint = session.EndpointAt(x.request.Segments, x.request.TrailingSlash)
	if x.session.endpoint != nil {
		return nil
	}
	refusal := s.check(x)
	if refusal != nil && x.verdictOf(refusal) == decision.WouldDeny {
		x.session.denial = refusal // the policy is asked all the same, and decide tells it
		return nil
	}
	return refusal
}

func (s *sessions) check(x *exchange) *decision.Refusal {
	token, present, refusal := session.Presented(x.r.Header)
	x.session.seen.Present = present
	switch {
	case refusal != nil:
		return refusal
	case !present && s.required:
		return decision.Refuse(decision.SessionMissing, "session_missing")
	case !present:
		return nil
	}
	keys, refusal := s.keys(x)
	if refusal != nil {
		return refusal
	}
	age, refusal := keys.Check(token, s.holder(x), x.start)
	if refusal != nil {
		return refusal
	}
	x.session.seen.Valid = true
	x.session.seen.AgeSeconds = int(age / time.Second)
	return nil
}

// classifyToken is classify for a request to where tokens are had. It is about
// the caller itself, and about no data of any instance.
func (x *exchange) classifyToken() *decision.Refusal {
	x.match = dialect.Match{
		Resource: decision.Resource{
			Dialect:   x.h.dialect.Name(),
			Kind:      decision.KindToken,
			Action:    decision.Write,
			Sensitive: true,
		},
		Methods: []string{http.MethodPut},
	}
	if !x.match.Allows(x.request.Method) {
		x.match.Resource.Action = decision.Read
		refusal := decision.Refuse(decision.MethodNotAllowed, "method")
		refusal.Allow = x.match.Methods
		return refusal
	}
	x.target = decision.Target{
		InstanceID: x.caller.InstanceID,
		ProjectID:  x.caller.ProjectID,
		Address:    x.caller.Address,
	}
	refusal := x.refuseForwarded()
	if refusal != nil {
		refusal.Code = "session_forwarded"
		return refusal
	}
	x.session.ttl, refusal = x.session.endpoint.TTL(x.r.Header, x.h.sessions.maxTTL)
	return refusal
}

// answerToken answers with a new token. The connection ends with it: nothing
// else shall leave with so low a hop limit.
func (x *exchange) answerToken() *decision.Refusal {
	s := x.h.sessions
	keys, refusal := s.keys(x)
	if refusal != nil {
		return refusal
	}
	if err := session.LimitHops(identity.Connection(x.r), s.hops); err != nil {
		return decision.RefuseWith(decision.IdentityUnavailable, "session_hops", err)
	}
	x.w.Header().Set("Connection", "close") // in HTTP/2 it becomes a GOAWAY; HTTP/3 never comes here
	token := keys.Issue(s.holder(x), x.start, x.session.ttl)
	x.reply = &response.Answer{
		Status: http.StatusOK,
		Header: http.Header{
			"Content-Type":               {"text/plain; charset=utf-8"},
			"Cache-Control":              {"no-store"},
			"X-Content-Type-Options":     {"nosniff"},
			x.session.endpoint.TTLHeader: {strconv.Itoa(int(x.session.ttl / time.Second))},
		},
		Body: []byte(token),
	}
	return x.send(outcomeAnswered)
}

// keys gives the keys, or the refusal for one that cannot be had.
func (s *sessions) keys(x *exchange) (*session.Keys, *decision.Refusal) {
	keys, err := s.kept.get(x.r.Context())
	switch {
	case err == nil:
		return keys, nil
	case errors.Is(err, errClientGone):
		return nil, decision.Refuse(decision.IdentityUnavailable, "client_gone")
	case errors.Is(err, errKeyTimeout):
		return nil, decision.Refuse(decision.IdentityUnavailable, "session_key_timeout")
	default:
		return nil, decision.RefuseWith(decision.IdentityUnavailable, "session_key", err)
	}
}

// holder is whose a token is that this request gets or shows.
func (s *sessions) holder(x *exchange) session.Holder {
	server, _ := x.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return session.Holder{
		Source:    x.caller.Source,
		ID:        x.caller.ID,
		ProjectID: x.caller.ProjectID,
		Site:      s.site(server),
	}
}

// namedSite is a site's name on one of Caddy's servers. There is rarely another.
type namedSite struct {
	server *caddyhttp.Server
	name   string
}

// site names the guarded server: its dialect, its require_host and the ports on
// which it listens. These outlive a reload and are the same on every replica,
// where addresses are not. Two sites that share all three share their tokens, each
// for the caller that got it.
func (s *sessions) site(server *caddyhttp.Server) string {
	if named := s.named.Load(); named != nil && named.server == server {
		return named.name
	}
	var listeners []string
	if server != nil {
		for _, text := range server.Listen {
			address, err := caddy.ParseNetworkAddress(text)
			if err != nil || address.IsUnixNetwork() || address.IsFdNetwork() {
				listeners = append(listeners, text)
				continue
			}
			listeners = append(listeners, strconv.FormatUint(uint64(address.StartPort), 10)+"-"+strconv.FormatUint(uint64(address.EndPort), 10))
		}
	}
	slices.Sort(listeners)
	name := s.place + "\n" + strings.Join(slices.Compact(listeners), " ")
	s.named.Store(&namedSite{server, name})
	return name
}

// sitePlace is the part of a site's name that its own settings give.
func sitePlace(dialect string, hosts []string) string {
	names := make([]string, 0, len(hosts))
	for _, host := range hosts {
		names = append(names, strings.ToLower(host))
	}
	slices.Sort(names)
	return dialect + "\n" + strings.Join(slices.Compact(names), " ")
}
