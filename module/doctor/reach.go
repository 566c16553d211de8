// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/metaguard/metaguard/module/dialect"
)

// decisionHeader is on every answer of a guard's.
const decisionHeader = "X-Metaguard-Decision"

// place is where the upstream can be asked.
func (u upstream) place() place {
	switch {
	case u.network == "unix":
		return place{"unix", u.host, u.tls}
	case u.host == loopback:
		// As it is written: it may be 127.0.0.2, or ::1.
		return place{"tcp", net.JoinHostPort(writtenHost(u.dial), strconv.FormatUint(uint64(u.from), 10)), u.tls}
	}
	return place{"tcp", net.JoinHostPort(u.host, strconv.FormatUint(uint64(u.from), 10)), u.tls}
}

// writtenHost is the host of an address as it is written, or localhost.
func writtenHost(dial string) string {
	dial = strings.TrimPrefix(dial, "tcp/")
	host, _, err := net.SplitHostPort(dial)
	if err != nil || host == "" || strings.Contains(host, "{") {
		return "localhost"
	}
	return host
}

// eachUpstream visits every upstream that can be asked, once.
func (x *examination) eachUpstream(f *finder, visit func(*guard, upstream, harmless)) {
	var seen []place
	for _, g := range x.guards {
		questions, ok := questionsFor(g.dialect)
		for _, up := range g.upstreams {
			switch {
			case up.network == "":
				f.unable(up.path, fmt.Sprintf("%q is not known here", up.dial))
			case slices.Contains(seen, up.place()):
			case !ok:
				f.leftOut(up.dial, "the dialect has nothing that can be asked for without an effect")
			default:
				seen = append(seen, up.place())
				visit(g, up, questions)
			}
		}
	}
}

// checkWidely finds upstreams of this host that listen on more than loopback.
func checkWidely(_ context.Context, x *examination, f *finder) {
	all, err := listeners()
	if err != nil {
		f.unable("", plain(err))
		return
	}
	ours := x.ownListeners()
	for _, up := range x.upstreams() {
		if up.network != "tcp" || !isLocal(up.host) {
			continue
		}
		for _, listener := range all {
			port := uint(listener.Port())
			if port < up.from || port > up.to || listener.Addr().IsLoopback() || slices.ContainsFunc(ours, func(own address) bool {
				return own.from <= port && port <= own.to && own.host == listener.Addr().String()
			}) {
				continue
			}
			f.found(listener.String(), "the upstream "+up.dial+" listens on "+listener.String()+" too, so for other machines")
		}
	}
}

// ownListeners are the addresses at which guarded servers listen.
func (x *examination) ownListeners() []address {
	var found []address
	for _, s := range x.guardedServers() {
		for _, listen := range s.listen() {
			host, port, err := net.SplitHostPort(listen)
			number, errPort := strconv.ParseUint(port, 10, 16)
			if err != nil || errPort != nil {
				continue
			}
			hosts := []string{host}
			if host == "" {
				hosts = []string{"0.0.0.0", "::"}
			}
			for _, host := range hosts {
				found = append(found, address{"tcp", host, uint(number), uint(number)})
			}
		}
	}
	return found
}

// isLocal tells whether a host is an address of this machine.
func isLocal(host string) bool {
	if host == loopback {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addresses, func(own net.Addr) bool {
		prefix, err := netip.ParsePrefix(own.String())
		return err == nil && prefix.Addr().Unmap() == ip
	})
}

// checkRemote tells of upstreams on other machines, whose listeners cannot be
// seen from here.
func checkRemote(_ context.Context, x *examination, f *finder) {
	var seen []string
	for _, up := range x.upstreams() {
		if up.network == "tcp" && !isLocal(up.host) && !slices.Contains(seen, up.dial) {
			seen = append(seen, up.dial)
			f.found(up.dial, "the upstream "+up.dial+" is on another machine, and whoever can reach it there goes around the guard")
		}
	}
}

// checkAnyone finds upstreams that answer without any identity.
func checkAnyone(ctx context.Context, x *examination, f *finder) {
	x.eachUpstream(f, func(_ *guard, up upstream, questions harmless) {
		given, _, err := x.givesAnyone(ctx, up.place(), questions)
		if err != nil {
			f.unable(up.dial, plainDial(err))
			return
		}
		if given != "" {
			f.found(up.dial, "the upstream gives "+given+" to whoever asks")
		}
	})
}

// givesAnyone says in words what a server gives without an identity, and the
// last answer.
func (x *examination) givesAnyone(ctx context.Context, to place, questions harmless) (given string, last *reply, err error) {
	var things []string
	ask := func(name string, q question) error {
		got, err := x.prober.ask(ctx, to, q)
		if err != nil {
			return err
		}
		if last = got; got.gives() && got.header.Get(decisionHeader) == "" {
			things = append(things, name)
		}
		return nil
	}
	if err := ask("what it has ("+questions.tree.path+")", questions.tree); err != nil {
		return "", nil, err
	}
	if questions.metadata.path != questions.tree.path {
		if err := ask("metadata ("+questions.metadata.path+")", questions.metadata); err != nil {
			return "", nil, err
		}
	}
	if questions.password != nil {
		if err := ask("a password ("+questions.password.path+")", *questions.password); err != nil {
			return "", nil, err
		}
	}
	return strings.Join(things, ", "), last, nil
}

// checkAround asks at the addresses that the operator gave.
func checkAround(ctx context.Context, x *examination, f *finder) {
	dialects := []dialect.Dialect{x.asked.dialect}
	if x.config != nil {
		dialects = nil
		for _, g := range x.guards {
			if !slices.ContainsFunc(dialects, func(known dialect.Dialect) bool { return known.Name() == g.dialect.Name() }) {
				dialects = append(dialects, g.dialect)
			}
		}
	}
	for _, target := range x.asked.around {
		for _, d := range dialects {
			questions, ok := questionsFor(d)
			if !ok {
				f.leftOut(target, "the dialect has nothing that can be asked for without an effect")
				continue
			}
			x.askAround(ctx, f, target, questions)
			break // one way of reaching it is enough
		}
	}
}

func (x *examination) askAround(ctx context.Context, f *finder, target string, questions harmless) {
	known, ok := parseAddress(target, 80)
	if !ok {
		f.unable(target, "it is no address such as 10.0.0.5:8775")
		return
	}
	given, last, err := x.givesAnyone(ctx, upstream{dial: target, address: known}.place(), questions)
	var unknown *net.DNSError
	var dial *net.OpError
	switch {
	case errors.As(err, &unknown):
		f.unable(target, plainDial(err))
	case errors.As(err, &dial):
		// No connection is made: that is how it should be.
	case err != nil:
		f.found(target, "the address accepts connections, though it gives no answer that can be read")
	case last.header.Get(decisionHeader) != "":
		// It is a guard.
	case x.guardBehind(ctx, upstream{dial: target, address: known}.place(), questions):
		x.report.look("the guard behind " + target + ", from where its header does not come")
	case given != "":
		f.found(target, "the address gives "+given+" to whoever asks")
	default:
		f.found(target, fmt.Sprintf("the address answers without the guard, with status %d", last.status))
	}
}

// guardBehind tells whether a guard answers through something that takes its header away,
// as Neutron's agent does: it alone has a probe, and only in this spelling.
func (x *examination) guardBehind(ctx context.Context, to place, questions harmless) bool {
	for path, want := range map[string]bool{"/metaguard/probe": true, "/metaguard/probe/": false} {
		got, err := x.prober.ask(ctx, to, question{path: path, host: questions.tree.host, header: questions.tree.header})
		if err != nil || (got.status == http.StatusOK && len(got.body) == 0) != want {
			return false
		}
	}
	return true
}

// checkUnsigned finds servers that believe Neutron's headers unsigned.
func checkUnsigned(ctx context.Context, x *examination, f *finder) {
	x.eachUpstream(f, func(g *guard, up upstream, questions harmless) {
		if g.dialect.Name() != "openstack" {
			return
		}
		who := g.somebody()
		unsigned := forged(who)
		unsigned.Del("X-Instance-Id-Signature")
		for _, header := range []http.Header{unsigned, forged(who)} {
			without, err := x.prober.ask(ctx, up.place(), questions.who)
			if err != nil {
				f.unable(up.dial, plainDial(err))
				return
			}
			with, err := x.prober.ask(ctx, up.place(), questions.who.with(header))
			if err != nil {
				f.unable(up.dial, plainDial(err))
				return
			}
			if with.gives() && !without.gives() {
				f.found(up.dial, "the upstream gives an instance's metadata for an X-Instance-ID that nobody signed")
				return
			}
		}
	})
}

// checkForwarded finds servers that believe X-Forwarded-For.
func checkForwarded(ctx context.Context, x *examination, f *finder) {
	x.eachUpstream(f, func(g *guard, up upstream, questions harmless) {
		changes, err := x.believes(ctx, up.place(), questions.who, http.Header{"X-Forwarded-For": {g.somebody().address}})
		switch {
		case err != nil:
			f.unable(up.dial, plainDial(err))
		case changes:
			f.found(up.dial, "the upstream answers otherwise for another X-Forwarded-For")
		}
	})
}

// believes tells whether a header changes what a server gives. An answer that is
// another one each time tells nothing.
func (x *examination) believes(ctx context.Context, to place, q question, header http.Header) (bool, error) {
	var replies [3]*reply
	for i, asked := range []question{q, q, q.with(header)} {
		var err error
		if replies[i], err = x.prober.ask(ctx, to, asked); err != nil {
			return false, err
		}
	}
	return replies[0].alike(replies[1]) && replies[2].gives() && !replies[2].alike(replies[0]), nil
}

// plainDial is an error of a connection in few words.
func plainDial(err error) string {
	var unknown *net.DNSError
	var dial *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "the name cannot be resolved"
	case errors.As(err, &dial):
		if dial.Timeout() {
			return "no connection is made in time"
		}
		return "no connection is made: " + plain(dial.Err)
	case errors.Is(err, context.DeadlineExceeded):
		return "no connection is made in time"
	}
	return plain(err)
}

// resolvesTo tells whether one of two addresses is a name of the other, where
// names may be resolved.
func (x *examination) resolvesTo(ctx context.Context, a, b address) bool {
	if !x.asked.live || !a.perhaps(b) {
		return false
	}
	for _, host := range x.resolve(ctx, a.host) {
		if slices.Contains(x.resolve(ctx, b.host), host) {
			return true
		}
	}
	return false
}

// resolve gives the addresses of a host in their one spelling.
func (x *examination) resolve(ctx context.Context, host string) []string {
	if host == loopback {
		return []string{loopback}
	}
	if known, asked := x.resolved[host]; asked {
		return known
	}
	x.resolved[host] = nil // what cannot be resolved is told as perhaps the same
	ctx, cancel := context.WithTimeout(ctx, x.prober.timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	for _, address := range addresses {
		x.resolved[host] = append(x.resolved[host], hostKey(address.String()))
	}
	return x.resolved[host]
}
