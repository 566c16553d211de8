// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// clockSlack is how far two clocks may be apart. A Date header has seconds, and
// a slow answer may add a few.
const clockSlack = 5 * time.Second

// checkClock compares this host's clock with the Date of the servers that it
// speaks to anyway.
func checkClock(ctx context.Context, x *examination, f *finder) {
	compared := 0
	compare := func(name string, to place, q question) {
		got, err := x.prober.ask(ctx, to, q)
		if err != nil {
			f.unable(name, plainDial(err))
			return
		}
		date, err := http.ParseTime(got.header.Get("Date"))
		if err != nil {
			f.leftOut(name, "its answer has no Date")
			return
		}
		compared++
		if off := clockOff(date, got.asked, got.answered); off != 0 {
			f.found(name, fmt.Sprintf("the clock of %s is %s %s this host's", name, off.Abs().Round(time.Second), aheadOrBehind(off)))
		}
	}
	x.eachUpstream(f, func(_ *guard, up upstream, questions harmless) { compare(up.dial, up.place(), questions.tree) })
	for _, server := range x.identityServers() {
		port := server.Port()
		if port == "" {
			port = map[string]string{"https": "443"}[server.Scheme]
		}
		if port == "" {
			port = "80"
		}
		compare(server.Host, place{"tcp", net.JoinHostPort(server.Hostname(), port), server.Scheme == "https"},
			question{path: "/", host: server.Host})
	}
	if compared > 0 {
		x.report.look(fmt.Sprintf("the clock of this host against the Date of %d server(s)", compared))
	}
	x.compareRedis(ctx, f)
}

// compareRedis compares this host's clock with that of each latch in Redis, of which
// only the placeholder is shown.
func (x *examination) compareRedis(ctx context.Context, f *finder) {
	for _, s := range x.secrets() {
		if s.purpose != redisPurpose {
			continue
		}
		name := "the Redis of " + s.placeholder
		url, err := x.value(s)
		if err != nil {
			f.unable(name, plain(err))
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, x.prober.timeout)
		asked := time.Now()
		date, err := x.needs.RedisTime(ctx, decision.NewSecret(strings.TrimSpace(url)))
		answered := time.Now()
		cancel()
		if err != nil {
			f.unable(name, err.Error())
			continue
		}
		x.report.look("the clock of this host against " + name)
		if off := clockOff(date, asked, answered); off != 0 {
			f.found(name, fmt.Sprintf("the clock of %s is %s %s this host's", name, off.Abs().Round(time.Second), aheadOrBehind(off)))
		}
	}
}

// clockOff is how far a server's date lies outside of the time in which it can
// have been written, if that is more than the slack; ahead is positive.
func clockOff(date, asked, answered time.Time) time.Duration {
	switch {
	case date.Add(time.Second).Before(asked.Add(-clockSlack)): // a date has lost up to a second
		return date.Sub(asked)
	case date.After(answered.Add(clockSlack)):
		return date.Sub(answered)
	}
	return 0
}

func aheadOrBehind(off time.Duration) string {
	if off > 0 {
		return "ahead of"
	}
	return "behind"
}

// identityServers are Keystone's and those with the keys of tokens.
func (x *examination) identityServers() []*url.URL {
	var found []*url.URL
	for _, g := range x.guards {
		for _, source := range g.identities() {
			var text string
			switch textAt(source.object, "source") {
			case "keystone":
				text = textAt(source.object, "url")
			case "jwt":
				if text = textAt(source.object, "jwks", "url"); text == "" {
					text = textAt(source.object, "issuer")
				}
			}
			parsed, err := url.Parse(text)
			if err != nil || !strings.HasPrefix(parsed.Scheme, "http") || parsed.Host == "" {
				continue
			}
			if !slices.ContainsFunc(found, func(known *url.URL) bool { return known.Host == parsed.Host }) {
				found = append(found, parsed)
			}
		}
	}
	return found
}
