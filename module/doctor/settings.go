// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// checkPersist finds a configuration that Caddy keeps a copy of.
func checkPersist(_ context.Context, x *examination, f *finder) {
	if persist, said := at(x.config.tree, "admin", "config", "persist").(bool); !said || persist {
		f.found(x.config.whole("admin.config.persist"), "Caddy keeps a copy of the configuration on disk")
	}
}

// checkUnderscores finds header names with an underscore that Caddy would drop,
// and that the dialect does not need.
func checkUnderscores(_ context.Context, x *examination, f *finder) {
	for _, s := range x.guardedServers() {
		for _, name := range listAt(s.object, "expected_underscore_headers") {
			needed := slices.ContainsFunc(x.guards, func(g *guard) bool {
				return g.server == s && strings.EqualFold(g.dialect.Traits().Command, name)
			})
			if !needed {
				f.found(x.config.whereOne(s.path+".expected_underscore_headers", func(l textLine) bool { return l.global && l.begins("expected_underscore_headers") }),
					"headers called "+name+" are let in")
			}
		}
	}
}

// guardedServers are the servers with a guard in them.
func (x *examination) guardedServers() []*server {
	var found []*server
	for _, g := range x.guards {
		if g.server != nil && !slices.Contains(found, g.server) {
			found = append(found, g.server)
		}
	}
	return found
}

// longHeader is the longest time that a client should have to send a header.
const longHeader = 30 * time.Second

// checkTimeouts finds guarded servers that wait long for a header: Caddy's own
// default is a minute.
func checkTimeouts(_ context.Context, x *examination, f *finder) {
	for _, s := range x.guardedServers() {
		nanoseconds, said := s.object["read_header_timeout"].(float64)
		if limit := time.Duration(nanoseconds); !said || limit <= 0 || limit > longHeader {
			f.found(x.config.whole(s.path+".read_header_timeout"), "a client at "+strings.Join(s.listen(), " ")+" may take a minute or longer to send a header")
		}
	}
}

// checkGrace finds a server that waits for ever when it is stopped.
func checkGrace(_ context.Context, x *examination, f *finder) {
	if grace, _ := at(x.config.tree, "apps", "http", "grace_period").(float64); grace <= 0 && len(x.guards) > 0 {
		f.found(x.config.whole("apps.http.grace_period"), "no grace_period is set")
	}
}

// widest is the shortest prefix that is a network of somebody's: 10.0.0.0/8, and
// fd00::/8.
const widest = 8

// tooWide tells whether a list of networks holds more or less everybody.
func tooWide(networks []string) (string, bool) {
	for _, text := range networks {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && prefix.Bits() < widest {
			return text, true
		}
	}
	return "", false
}

// checkTrustedProxies finds servers that believe everybody's X-Forwarded-For.
func checkTrustedProxies(_ context.Context, x *examination, f *finder) {
	for _, s := range servers(x.config.tree) {
		where := x.config.whereOne(s.path+".trusted_proxies", func(l textLine) bool { return l.global && l.begins("trusted_proxies") })
		if network, wide := tooWide(listAt(s.object, "trusted_proxies", "ranges")); wide {
			f.found(where, "trusted_proxies holds "+network+", which is more or less everybody")
		}
	}
}

// checkNeutronTrust finds guards that take Neutron's headers from everybody.
func checkNeutronTrust(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		for _, source := range g.identities() {
			if textAt(source.object, "source") != "neutron" {
				continue
			}
			network, wide := tooWide(listAt(source.object, "trust"))
			if wide {
				f.found(x.config.whereOne(source.path+".trust", func(l textLine) bool { return l.begins("trust") && slices.Contains(l.words, network) }),
					"identify neutron trusts "+network+", which is more or less everybody")
			}
		}
	}
}

// checkClientIP finds guards that know callers by what a proxy says.
func checkClientIP(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		texts(g.object, g.path, "", func(path, name, text string) {
			if name == "address" && (text == "client_ip" || text == "proxy_protocol") {
				f.found(x.config.whereOne(path, func(l textLine) bool { return slices.Contains(l.words, text) && l.inside("metaguard") }),
					fmt.Sprintf("callers are known by an address of %s, not of the connection", text))
			}
		})
	}
}

// checkUpstreamTLS finds upstreams whose certificate nobody looks at.
func checkUpstreamTLS(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		if skip, _ := at(g.object, "upstream", "transport", "tls", "insecure_skip_verify").(bool); skip {
			f.found(x.config.whereOne(g.path+".upstream.transport.tls", func(l textLine) bool { return l.begins("tls_insecure_skip_verify") }),
				"the upstream's certificate is not verified")
		}
	}
}

// checkAudit finds guards that forward what the policy refuses.
func checkAudit(_ context.Context, x *examination, f *finder) {
	var paths []string
	for _, g := range x.guards {
		if textAt(g.object, "mode") == "audit" {
			paths = append(paths, g.path+".mode")
		}
	}
	for _, where := range x.config.where(paths, func(l textLine) bool { return l.begins("mode", "audit") && l.inside("metaguard") }) {
		f.found(where, "the site is in audit mode: what the policy refuses is forwarded")
	}
}

// checkCandidate finds candidates.
func checkCandidate(_ context.Context, x *examination, f *finder) {
	var paths []string
	for _, g := range x.guards {
		if len(listAt(g.object, "policy", "candidate")) > 0 {
			paths = append(paths, g.path+".policy.candidate")
		}
	}
	for _, where := range x.config.where(paths, func(l textLine) bool { return l.begins("candidate") && l.inside("metaguard") }) {
		f.found(where, "a candidate is judged beside the live policy"+x.candidateAge())
	}
}

// candidateAge says since when the running candidate is what it is.
func (x *examination) candidateAge() string {
	for _, p := range x.policies {
		if p.Candidate && !p.LoadedAt.IsZero() {
			return ", as it is since " + p.LoadedAt.UTC().Format(time.DateOnly)
		}
	}
	return ""
}

// checkDenyStatus finds a status that the dialect's clients take badly.
func checkDenyStatus(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		status, said := g.object["deny_status"].(float64)
		better := g.dialect.Traits().DenyStatus
		if !said || int(status) == better || better == 0 || breaks[g.dialect.Name()] == "" {
			continue
		}
		f.found(x.config.whereDeny(g), fmt.Sprintf("deny_status is %d, and dialect %s: %s", int(status), g.dialect.Name(), breaks[g.dialect.Name()]))
	}
}

// breaks says what the dialect's clients do with the other status; see the
// tables of tests/conformance/README.md.
var breaks = map[string]string{
	"ec2":        "cloud-init asks five times more after a 403, and ec2metadata ends with an error, where a 404 is \"not there\"",
	"cloudstack": "cloudbase-init does not use the service at all after a 403, where a 404 is \"not there\"",
	"gce":        "the guest agent asks a hundred times more after a 403, and a subscription for ever, where a 404 is \"not defined\"",
	"azure":      "azidentity asks six times more for over a minute after a 404, and cloud-init for five minutes, where a 403 is final",
}

// checkCloudbase tells what cloudbase-init does with OpenStack's 403.
func checkCloudbase(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		status, said := g.object["deny_status"].(float64)
		if g.dialect.Name() == "openstack" && (!said || int(status) == 403) {
			f.found(x.config.whereDeny(g), "what the policy refuses is a 403, after which cloudbase-init asks five times more and then fails its plugin")
		}
	}
}

func (c *configuration) whereDeny(g *guard) string {
	if _, said := g.object["deny_status"]; !said {
		return c.whereOne(g.path, func(l textLine) bool { return l.begins("metaguard") })
	}
	return c.whereOne(g.path+".deny_status", func(l textLine) bool { return l.begins("deny_status") })
}
