// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkNoGuard finds a configuration in which nothing is guarded.
func checkNoGuard(_ context.Context, x *examination, f *finder) {
	if len(x.guards) == 0 {
		f.found(x.config.whole("apps.http.servers"), "no site has the directive metaguard")
	}
}

// checkSiteHost finds guards that answer for certain host names only.
func checkSiteHost(_ context.Context, x *examination, f *finder) {
	var named []*guard
	var paths []string
	for _, g := range x.guards {
		if slices.ContainsFunc(g.matchers, func(set map[string]any) bool { return set["host"] != nil }) {
			named, paths = append(named, g), append(paths, g.path)
		}
	}
	if len(paths) == 0 {
		return
	}
	keys, places := x.config.text.sites("metaguard")
	var lines []string
	for i, key := range keys {
		if hasHost(key) {
			lines = append(lines, places[i])
		}
	}
	if len(lines) > 0 {
		paths = lines
	}
	for i, where := range slices.Compact(paths) {
		hosts := "a host name"
		if i < len(named) && len(lines) <= len(named) {
			hosts = strings.Join(hostsOf(named[i]), " ")
		}
		f.found(where, "the site answers for "+hosts+" only")
	}
}

func hostsOf(g *guard) []string {
	var found []string
	for _, set := range g.matchers {
		found = append(found, ownTexts(set["host"])...)
	}
	return found
}

// hasHost tells whether the key of a site block names a host.
func hasHost(key string) bool {
	if _, rest, found := strings.Cut(key, "://"); found {
		key = rest
	}
	return key != "" && !strings.HasPrefix(key, ":") && !strings.HasPrefix(key, "/")
}

// checkMatched finds guards that see some of a site's requests only.
func checkMatched(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		var by []string
		for _, set := range g.matchers {
			for name := range maps.Keys(set) {
				if name != "host" {
					by = append(by, name)
				}
			}
		}
		if len(by) == 0 {
			continue
		}
		slices.Sort(by)
		where := x.config.whereOne(g.path, func(l textLine) bool { return l.begins("metaguard") && len(l.within) > 1 })
		f.found(where, "the guard stands behind a matcher: "+strings.Join(slices.Compact(by), " "))
	}
}

// answering are the handlers that answer requests; all others pass them on.
var answering = []string{"static_response", "reverse_proxy", "file_server", "metrics", "metaguard_legacy", "acme_server", "templates", "map_response"}

// checkBeside finds what answers in the server of a guard beside it.
func checkBeside(_ context.Context, x *examination, f *finder) {
	done := map[*server]bool{}
	for _, g := range x.guards {
		if g.server == nil || done[g.server] {
			continue
		}
		done[g.server] = true
		walk(g.server.object, func(n *node) bool {
			name := n.handler()
			if name == "metaguard" {
				return false
			}
			if !slices.Contains(answering, name) || strings.HasPrefix(n.path, "errors.") {
				return true
			}
			directive := name
			if name == "static_response" {
				directive = "respond"
			}
			f.found(x.config.whereOne(join(g.server.path, n.path), func(l textLine) bool { return l.begins(directive) && !l.inside("metaguard") && !l.global }),
				fmt.Sprintf("%s answers requests to the guard's server, at %s", name, strings.Join(g.listen(), " ")))
			return true
		})
	}
}

// checkFiles finds file servers.
func checkFiles(_ context.Context, x *examination, f *finder) {
	walk(x.config.tree, func(n *node) bool {
		if n.handler() == "file_server" {
			f.found(x.config.whereOne(n.path, func(l textLine) bool { return l.begins("file_server") }), "files of this host are served")
		}
		return n.handler() != "metaguard"
	})
}

// checkPublicMetrics finds metrics that other machines can read.
func checkPublicMetrics(_ context.Context, x *examination, f *finder) {
	x.onPublicServers("metrics", func(n *node, s *server) {
		f.found(x.config.whereOne(join(s.path, n.path), func(l textLine) bool { return l.begins("metrics") && !l.global }),
			"metrics are served at "+strings.Join(s.listen(), " "))
	})
}

// checkPublicLegacy finds Metaguard's own faulty server where others reach it.
func checkPublicLegacy(_ context.Context, x *examination, f *finder) {
	x.onPublicServers("metaguard_legacy", func(n *node, s *server) {
		f.found(x.config.whereOne(join(s.path, n.path), func(l textLine) bool { return l.begins("metaguard_legacy") }),
			"metaguard_legacy, which answers anyone, listens on "+strings.Join(s.listen(), " "))
	})
}

// checkServedHere finds upstreams that are sites of this configuration and that
// other machines reach.
func checkServedHere(_ context.Context, x *examination, f *finder) {
	guarded := x.guardedServers()
	for _, s := range servers(x.config.tree) {
		legacy := false // which checkPublicLegacy finds
		walk(s.object, func(n *node) bool { legacy = legacy || n.handler() == "metaguard_legacy"; return true })
		if legacy || slices.ContainsFunc(guarded, func(g *server) bool { return g.path == s.path }) {
			continue
		}
		for _, listen := range s.listen() {
			served, ok := parseAddress(listen, 0)
			if !ok || !listensPublic(listen) {
				continue
			}
			for _, up := range x.upstreams() {
				if !served.same(up.address) {
					continue
				}
				_, port, _ := strings.Cut(listen, ":")
				f.found(x.config.whereKey(s.path+".listen", port), "the upstream "+up.dial+" is a site of this configuration, which listens on "+listen)
			}
		}
	}
}

// whereKey is the line of the one site whose key ends in a port.
func (c *configuration) whereKey(path, port string) string {
	var found []string
	if c.text != nil {
		for _, block := range c.text.blocks {
			for _, key := range block.Keys {
				if strings.HasSuffix(key.Text, ":"+port) {
					found = append(found, placeOf(key))
				}
			}
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return path
}

// onPublicServers visits a handler in every server that other machines reach.
func (x *examination) onPublicServers(handler string, visit func(*node, *server)) {
	for _, s := range servers(x.config.tree) {
		if !slices.ContainsFunc(s.listen(), listensPublic) {
			continue
		}
		walk(s.object, func(n *node) bool {
			if n.handler() == handler {
				visit(n, s)
			}
			return true
		})
	}
}
