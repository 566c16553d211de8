// SPDX-License-Identifier: Apache-2.0

package main

// stream says who asks a variant.
type stream int

const (
	again  stream = iota // the crowd, whose decisions were all seen
	always               // strangers, who never asked before
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
	// quiet leaves out the lines of Caddy's reverse_proxy, as Metaguard's Caddyfiles do.
	quiet bool
	// direct has each line written by its request, and not in batches.
	direct bool
	// events has the decision events in the same file as well, one for each request.
	events bool
	// files lie beside the Caddyfile. nil: none.
	files func() map[string]string
	// needs is what must be on this machine: nginx, opa, or nothing.
	needs []string
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
	{name: plainLogged, title: "the same with an access log", site: plainSite, logs: accessLogger, direct: true},
	{name: "caddy-log-quiet", title: "the same without what `reverse_proxy` makes for logs in vain", site: plainSite, logs: accessLogger, direct: true, quiet: true},
	{name: "seen", title: "Metaguard, decisions seen before", site: signed, guarded: true, logs: decisionLogger, files: grants},
	{name: "strangers", title: "Metaguard, callers never seen", site: signed, from: always, guarded: true, logs: decisionLogger, files: grants},
	{name: "never", title: "Metaguard, decisions never seen", site: signed, from: always, guarded: true, logs: decisionLogger, files: func() map[string]string { return toldApart(grants()) }},
	{name: "address", title: "Metaguard, callers by address", site: addressed, guarded: true, logs: decisionLogger, files: inventory},
	{name: "nolog", title: "Metaguard, seen, without a log", site: signed, guarded: true, files: grants},
	{name: "direct", title: "Metaguard, seen, each line of the log written at once", site: signed, guarded: true, logs: decisionLogger, direct: true, files: grants},
	{name: "events", title: "Metaguard, seen, and OPA's decision events", site: signed, guarded: true, logs: decisionLogger, events: true, files: grants},
	{name: "rego", title: "Metaguard, seen, and a naive rule of a team", site: signed, guarded: true, logs: decisionLogger, files: naive},
	{name: "rego-never", title: "the same, decisions never seen", site: signed, from: always, guarded: true, logs: decisionLogger, files: func() map[string]string { return toldApart(naive()) }},
	{name: "nginx", title: "nginx, `proxy_pass`", needs: []string{"nginx"}},
	{name: "nginx-opa", title: "nginx, `auth_request` to an OPA server", needs: []string{"nginx", "opa"}},
	{name: "caddy-opa", title: "Caddy, `forward_auth` to an OPA server", site: forwardAuth, needs: []string{"opa"}},
}
