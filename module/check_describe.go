// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/session"
)

// metadataHost is what clients of metadata servers call them.
const metadataHost = "169.254.169.254"

// describe makes an exchange of a described request, or says what is wrong with
// the description.
func (h *Handler) describe(ctx context.Context, asked *described) (*exchange, error) {
	x := &exchange{h: h, id: "check", start: time.Now(), verdict: decision.Deny, outcome: outcomeRefused}
	if err := x.describeCaller(asked); err != nil {
		return nil, err
	}
	if err := x.describeSession(asked); err != nil {
		return nil, err
	}
	return x, x.describeRequest(ctx, asked)
}

// describeCaller reads who calls, or where from.
func (x *exchange) describeCaller(asked *described) (err error) {
	switch {
	case (asked.Caller == nil) == (asked.Address == ""):
		return errors.New(`say who calls: either caller, such as {"as": "instance:<id>", "project": "<id>"}, or address`)
	case asked.Caller == nil:
		if x.peer, err = netip.ParseAddr(asked.Address); err != nil {
			return fmt.Errorf("address %q is no IP address", asked.Address)
		}
		x.peer = x.peer.Unmap().WithZone("")
	default:
		if err := x.readCaller(asked.Caller); err != nil {
			return fmt.Errorf("caller: %w", err)
		}
		x.peer = x.caller.Address
	}
	if asked.TargetProject != "" && asked.Target == "" {
		return errors.New("target_project: say which instance of that project with target")
	}
	if asked.Target != "" {
		x.targetGiven, x.target = true, decision.Target{InstanceID: asked.Target, ProjectID: asked.TargetProject}
	}
	return nil
}

// readCaller reads a caller, whom a source of this site must vouch for.
func (x *exchange) readCaller(said *describedCaller) error {
	caller, err := said.Read()
	if err != nil {
		return err
	}
	var sources []string
	for _, source := range x.h.identities {
		sources = append(sources, source.Name())
	}
	switch {
	case slices.Contains(sources, caller.Source):
	case said.Source != "":
		return fmt.Errorf("source %q is none of this site's, which are: %s", said.Source, strings.Join(sources, " "))
	default:
		caller.Source = sources[0] // Validate wants one
	}
	caller.Claims = said.Claims
	x.caller = &caller
	return nil
}

func (x *exchange) describeSession(asked *described) error {
	if asked.SessionAge == "" {
		return nil
	}
	age, err := time.ParseDuration(asked.SessionAge)
	switch {
	case err != nil || age < 0:
		return fmt.Errorf("session_age %q: it is how long ago the session began, such as 30s", asked.SessionAge)
	case x.h.sessions == nil:
		return errors.New("session_age: this site has no sessions")
	case age >= x.h.sessions.maxTTL:
		return fmt.Errorf("session_age %s: no session of this site lives longer than %s", age, x.h.sessions.maxTTL)
	}
	return nil
}

// describeRequest makes the request as Go's server would hand it to a handler.
func (x *exchange) describeRequest(ctx context.Context, asked *described) error {
	place, err := url.ParseRequestURI(asked.Path)
	if err != nil {
		return fmt.Errorf("path %q: Go's server refuses it with 400 before Metaguard sees it", asked.Path)
	}
	x.r = &http.Request{
		Method: asked.Method, RequestURI: asked.Path, URL: place, Host: asked.Host, Header: make(http.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		RemoteAddr: netip.AddrPortFrom(x.peer, 0).String(),
	}
	if x.r.Method == "" {
		x.r.Method = http.MethodGet
	}
	if x.r.Host == "" {
		x.r.Host = metadataHost
	}
	// Whichever address the site's sources look at, it is this one.
	x.r = x.r.WithContext(context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: x.peer.String()}))
	if err := x.describeHeaders(asked.Headers); err != nil {
		return err
	}
	if asked.Body == nil {
		return nil
	}
	view, err := asked.Body.View()
	if err != nil {
		return err
	}
	x.r.ContentLength, x.r.Body = int64(view.Size), sampleBody(view)
	return nil
}

// describeHeaders takes headers that tell nothing of who calls: what a credential
// is worth only a real request shows.
func (x *exchange) describeHeaders(headers map[string]string) error {
	credentials := append(x.h.identities.Headers(), session.HeaderAWS, session.Header)
	for name, value := range headers {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
			return fmt.Errorf("headers: %q cannot be sent", name)
		case strings.ContainsAny(name, "_.") && !strings.EqualFold(name, x.h.traits.Command):
			return fmt.Errorf("headers: %q does not arrive: Caddy drops names with an underscore or a dot", name)
		case slices.Contains(credentials, canonical) && canonical != identity.HeaderTarget:
			return fmt.Errorf("headers: %q says who calls: use caller, address or session_age", name)
		default:
			if len(x.r.Header[canonical]) > 0 {
				return fmt.Errorf("headers: %q is there twice", name)
			}
			x.r.Header[canonical] = []string{value}
		}
	}
	return nil
}
