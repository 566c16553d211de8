// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// place is where a variant runs.
type place struct {
	dir, address, upstream, log, admin, opa string
}

// transport is the same for all: connections to the upstream are kept, which is not
// Metaguard's default, and the rest is.
const transport = `
			transport http {
				versions 1.1
				compression off
				network_proxy none
				dial_timeout 3s
				response_header_timeout 10s
				read_timeout 10s
				write_timeout 10s
				max_response_header 64KiB
				keepalive 1m
				keepalive_idle_conns_per_host 4096
			}`

func plainSite(p *place) string {
	logging := ""
	if p.log != "" {
		logging = "\tlog\n" // to the logger whose lines a file gets
	}
	return fmt.Sprintf("%s\treverse_proxy %s {%s\n\t\t}\n", logging, p.upstream, transport)
}

// guardedSite has the defaults, but for the policy's timeout: a machine that is overloaded
// on purpose would now and then refuse a request by it, and the answers would not be
// the same any more.
func guardedSite(p *place, identify string) string {
	return fmt.Sprintf("\tmetaguard {\n\t\tupstream %s {%s\n\t\t}\n\t\tdialect openstack\n\t\t%s\n\t\tpolicy policy {\n\t\t\ttimeout 10s\n\t\t}\n\t}\n", p.upstream, transport, identify)
}

func signed(p *place) string {
	return guardedSite(p, "identify neutron {\n\t\t\tsecret {env.METAGUARD_NEUTRON_SECRET}\n\t\t}")
}

// builtin is signed with the built-in policy alone, as far as it can be.
func builtin(p *place) string {
	return strings.Replace(signed(p), "policy policy {", "policy {", 1)
}

// forwardAuth asks an OPA server before each request, as Caddy's own directive does.
func forwardAuth(p *place) string {
	return fmt.Sprintf("\tforward_auth %s {\n\t\turi /health\n\t}\n%s", p.opa, plainSite(p))
}

func addressed(p *place) string {
	return guardedSite(p, "identify remote_ip inventory.json {\n\t\t\taddress client_ip\n\t\t}")
}

// caddyfile has the global options of the shipped ones, and every log in a file.
func (v *variant) caddyfile(p *place) string {
	logs, servers, others := "", "", accessLogger
	switch {
	case v.guarded: // as in loggers.caddy
		others = "http.handlers.metaguard metaguard.reverse_proxy"
	case v.quiet:
		others += " http.handlers.reverse_proxy"
	}
	if v.logs != "" {
		include := v.logs
		if v.events {
			include += " " + eventLogger
		}
		output := fmt.Sprintf("output file %s {\nroll_disabled\n}", p.log)
		if !v.direct {
			output = "output metaguard_buffered {\n" + output + "\n}"
		}
		format := "import logging.caddy"
		if v.guarded {
			format = "format json"
		}
		logs = fmt.Sprintf("log counted {\ninclude %s\n%s\n%s\n}\n", include, output, format)
	}
	if strings.Contains(v.site(p), "client_ip") {
		servers = "trusted_proxies static 127.0.0.0/8\ntrusted_proxies_strict\n"
	}
	return indent(fmt.Sprintf(`{
	admin unix/%s|0600
	persist_config off
	grace_period 1s
	servers {
		timeouts {
			read_header 5s
			idle 30s
		}
		max_header_size 16KB
%s	}
	log default {
		exclude %s
		import logging.caddy
	}
%s}

http://:%s {
	bind 127.0.0.1
%s}
`, p.admin, servers, others, logs, p.address[strings.LastIndex(p.address, ":")+1:], v.site(p)))
}

// indent is how Caddy wants it.
func indent(text string) string {
	var all strings.Builder
	depth := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "}" {
			depth--
		}
		if line != "" {
			all.WriteString(strings.Repeat("\t", depth) + line)
		}
		all.WriteByte('\n')
		if strings.HasSuffix(line, "{") {
			depth++
		}
	}
	return all.String()
}
