// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// stream says who asks a variant.
type stream int

const (
	again  stream = iota // the crowd, whose decisions were all seen
	always               // strangers, whose decisions never were
)

// variant is one row of the table: a proxy, what it is set to do, and who asks it.
type variant struct {
	name  string // stable: a key in JSON
	title string
	from  stream
	// site is the site's block of the Caddyfile, without its address and braces.
	site func(*place) string
	// guarded is whether it is Metaguard that answers.
	guarded bool
	// logs is the logger whose lines go to a file that is counted. Empty: none.
	logs string
	// events has the decision events in the same file as well, one for each request.
	events bool
	// files lie beside the Caddyfile.
	files func() map[string]string
}

const (
	decisionLogger = "http.handlers.metaguard.decision"
	eventLogger    = "http.handlers.metaguard.event"
	accessLogger   = "http.log.access"
)

// Names of the variants that others are compared with.
const (
	plain       = "caddy"
	plainLogged = "caddy-log"
)

// variants are all that there are, in the table's order.
var variants = []variant{
	{name: plain, title: "Caddy, `reverse_proxy`", site: plainSite},
	{name: plainLogged, title: "the same with an access log", site: plainSite, logs: accessLogger},
	{name: "seen", title: "Metaguard, decisions seen before", site: signed, guarded: true, logs: decisionLogger, files: grants},
	{name: "never", title: "Metaguard, decisions never seen", site: signed, from: always, guarded: true, logs: decisionLogger, files: grants},
	{name: "address", title: "Metaguard, callers by address", site: addressed, guarded: true, logs: decisionLogger, files: inventory},
	{name: "nolog", title: "Metaguard, seen, without a log", site: signed, guarded: true, files: grants},
	{name: "events", title: "Metaguard, seen, and OPA's decision events", site: signed, guarded: true, logs: decisionLogger, events: true, files: grants},
	{name: "rego", title: "Metaguard, seen, and a naive rule of a team", site: signed, guarded: true, logs: decisionLogger, files: naive},
	{name: "rego-never", title: "the same, decisions never seen", site: signed, from: always, guarded: true, logs: decisionLogger, files: naive},
}

// place is where a variant runs.
type place struct {
	dir, address, upstream, log, admin string
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

func addressed(p *place) string {
	return guardedSite(p, "identify remote_ip inventory.json {\n\t\t\taddress client_ip\n\t\t}")
}

// caddyfile has the global options of the shipped ones, and every log in a file.
func (v *variant) caddyfile(p *place) string {
	var logs, servers strings.Builder
	logger := func(name, include string) {
		fmt.Fprintf(&logs, "\tlog %s {\n\t\tinclude %s\n\t\toutput file %s {\n\t\t\troll_disabled\n\t\t}\n\t\timport logging.caddy\n\t}\n", name, include, p.log)
	}
	if v.logs != "" {
		include := v.logs
		if v.events {
			include += " " + eventLogger
		}
		logger("counted", include)
	}
	if strings.Contains(v.site(p), "client_ip") {
		servers.WriteString("\t\ttrusted_proxies static 127.0.0.0/8\n\t\ttrusted_proxies_strict\n")
	}
	return fmt.Sprintf(`{
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
		exclude %s %s %s
		import logging.caddy
	}
%s}

http://:%s {
	bind 127.0.0.1
%s}
`, p.admin, servers.String(), decisionLogger, eventLogger, accessLogger, logs.String(), p.address[strings.LastIndex(p.address, ":")+1:], v.site(p))
}
