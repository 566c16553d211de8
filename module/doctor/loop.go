// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// listensAt tells whether a server is what answers at a destination, which stands in
// the configuration as text.
func (s *server) listensAt(to address, text string) bool {
	return slices.ContainsFunc(s.listen(), func(listen string) bool {
		own, ok := parseAddress(listen, 0)
		if !ok || own.network != to.network || own.network == "tcp" && (own.from > to.to || to.from > own.to) {
			return false
		}
		host, _, _ := net.SplitHostPort(listen)
		mine, errMine := netip.ParseAddr(host)
		if own.network == "tcp" && (host == "" || errMine == nil && mine.IsUnspecified()) {
			return isLocal(to.host) // it has all addresses of this host
		}
		theirs, errTheirs := netip.ParseAddr(writtenHost(text[strings.Index(text, "//")+1:]))
		if own.host == loopback && to.host == loopback && errMine == nil && errTheirs == nil && !theirs.IsUnspecified() {
			return mine.Unmap() == theirs.Unmap() // two addresses of the loopback are two places
		}
		return own.same(to)
	})
}

// guardAt is the guarded server that is what answers at a destination, or nil.
func (x *examination) guardAt(to address, text string) *server {
	for _, s := range x.guardedServers() {
		if s.listensAt(to, text) {
			return s
		}
	}
	return nil
}

// checkLoop finds upstreams that are guarded sites.
func checkLoop(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		for _, up := range g.upstreams {
			if up.network == "" {
				continue
			}
			at := x.guardAt(up.address, up.dial)
			if at == nil {
				continue
			}
			which := "another guarded site"
			if at == g.server {
				which = "the guarded site itself"
			}
			where := x.config.whereOne(up.path, func(l textLine) bool {
				return l.inside("metaguard") && l.begins("upstream") && slices.ContainsFunc(l.words, func(word string) bool {
					known, ok := parseAddress(word, 80)
					return ok && known.same(up.address)
				})
			})
			f.found(where, "the upstream "+up.dial+" is "+which+", which listens on "+strings.Join(at.listen(), " "))
		}
	}
}

// checkProxied finds what leads to a guarded site.
func checkProxied(_ context.Context, x *examination, f *finder) {
	for _, m := range x.mentions() {
		at := x.guardAt(m.address, m.text)
		if at == nil {
			continue
		}
		where := x.config.whereOne(m.path, func(l textLine) bool {
			return !l.global && !l.inside("metaguard") && !l.begins("bind") && slices.ContainsFunc(l.words[1:], func(word string) bool {
				known, ok := parseAddress(word, 80)
				return ok && known.same(m.address)
			})
		})
		f.found(where, m.text+" leads to a guarded site, which listens on "+strings.Join(at.listen(), " "))
	}
}
