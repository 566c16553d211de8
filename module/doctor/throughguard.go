// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// eachSite visits every guard at an address at which it can be asked.
func (x *examination) eachSite(f *finder, visit func(g *guard, to place, q question)) {
	for _, g := range x.guards {
		questions, ok := questionsFor(g.dialect)
		if !ok {
			f.leftOut(g.path, "the dialect has nothing that can be asked for without an effect")
			continue
		}
		q := questions.who
		if name := textAt(g.object, "require_header", "name"); name != "" {
			q = q.with(http.Header{http.CanonicalHeaderKey(name): {textAt(g.object, "require_header", "value")}})
		}
		if hosts := listAt(g.object, "require_host"); len(hosts) > 0 {
			q.host = hosts[0]
		}
		to, ok := g.site()
		if !ok {
			f.leftOut(g.path, "its server's address is not known")
			continue
		}
		visit(g, to, q)
	}
}

// site is where the guard's server listens, as this host reaches it.
func (g *guard) site() (place, bool) {
	for _, listen := range g.listen() {
		parsed, err := caddy.ParseNetworkAddressWithDefaults(listen, "tcp", 0)
		switch {
		case err != nil:
			continue
		case parsed.IsUnixNetwork():
			path, _, _ := socketOf(listen)
			return place{"unix", path, g.secure()}, true
		case parsed.StartPort == 0:
			continue
		}
		host := parsed.Host
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		return place{"tcp", net.JoinHostPort(host, strconv.FormatUint(uint64(parsed.StartPort), 10)), g.secure()}, true
	}
	return place{}, false
}

// secure tells whether the guard's server speaks TLS.
func (g *guard) secure() bool {
	policies, _ := g.server.object["tls_connection_policies"].([]any)
	return len(policies) > 0
}

// checkGuardThere finds sites at whose address something else answers.
func checkGuardThere(ctx context.Context, x *examination, f *finder) {
	x.eachSite(f, func(_ *guard, to place, q question) {
		got, err := x.prober.ask(ctx, to, q)
		switch {
		case err != nil:
			f.unable(to.address, plainDial(err))
		case got.header.Get(decisionHeader) == "":
			f.found(to.address, fmt.Sprintf("what answers at the site's address, with status %d, is not the guard", got.status))
		}
	})
}

// checkGuardBelieves finds guards that take an identity from whoever claims it.
func checkGuardBelieves(ctx context.Context, x *examination, f *finder) {
	x.eachSite(f, func(g *guard, to place, q question) {
		who := g.somebody()
		changes, err := x.believes(ctx, to, q, forged(who))
		switch {
		case err != nil:
			f.unable(to.address, plainDial(err))
			return
		case changes:
			f.found(to.address, "the guard's site answers otherwise for an X-Instance-ID with a signature that is none")
			return
		}
		if g.usesClientIP() {
			f.leftOut(to.address, "X-Forwarded-For is meant to count here")
			return
		}
		changes, err = x.believes(ctx, to, q, http.Header{"X-Forwarded-For": {who.address}})
		switch {
		case err != nil:
			f.unable(to.address, plainDial(err))
		case changes:
			f.found(to.address, "the guard's site answers otherwise for another X-Forwarded-For")
		}
	})
}

// usesClientIP tells whether the guard takes addresses from a proxy's header.
func (g *guard) usesClientIP() bool {
	used := false
	texts(g.object, "", "", func(_, name, text string) { used = used || name == "address" && text == "client_ip" })
	return used
}
