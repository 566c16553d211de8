// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/dialect"
)

// guard is one handler of Metaguard in the configuration.
type guard struct {
	*node
	server    *server // nil outside of a server
	dialect   dialect.Dialect
	upstreams []upstream
	matchers  []map[string]any // one of these must match, for each route on the way
}

// upstream is where a guard's server is.
type upstream struct {
	dial string
	path string
	address
	tls bool
}

// findGuards finds every guard. A dialect that cannot be read is an error: the
// server would not start with it.
func findGuards(tree any) ([]*guard, error) {
	var found []*guard
	var failure error
	all := servers(tree)
	invokes := map[string][]*node{} // by the named route that they run
	walk(tree, func(n *node) bool {
		if n.handler() == "invoke" {
			name := textAt(n.object, "name")
			invokes[name] = append(invokes[name], n)
		}
		return true
	})
	walk(tree, func(n *node) bool {
		if n.handler() != "metaguard" {
			return true
		}
		g := &guard{node: n}
		for _, s := range all {
			if s.below(n.path) {
				g.server = s
			}
		}
		g.matchers = matchersAbove(n)
		for name, nodes := range invokes {
			if strings.Contains(n.path, ".named_routes."+name+".") {
				for _, invoke := range nodes {
					g.matchers = append(g.matchers, matchersAbove(invoke)...)
				}
			}
		}
		if err := g.read(); err != nil && failure == nil {
			failure = fmt.Errorf("%s: %w", n.path, err)
		}
		found = append(found, g)
		return false
	})
	return found, failure
}

// matchersAbove are the matchers of the routes that lead to a handler.
func matchersAbove(n *node) []map[string]any {
	var found []map[string]any
	for _, above := range n.above {
		if _, route := above.object["handle"]; !route {
			continue
		}
		sets, _ := above.object["match"].([]any)
		for _, set := range sets {
			if matchers, ok := set.(map[string]any); ok && len(matchers) > 0 {
				found = append(found, matchers)
			}
		}
	}
	return found
}

// read gets the dialect and the upstreams.
func (g *guard) read() error {
	transport, _ := at(g.object, "upstream", "transport").(map[string]any)
	_, secure := transport["tls"]
	list, _ := at(g.object, "upstream", "upstreams").([]any)
	for i, element := range list {
		dial := textAt(element, "dial")
		known, _ := parseAddress(dial, 80)
		g.upstreams = append(g.upstreams, upstream{
			dial: dial, path: fmt.Sprintf("%s.upstream.upstreams[%d]", g.path, i), address: known, tls: secure,
		})
	}
	settings, ok := at(g.object, "dialect").(map[string]any)
	if !ok {
		return errors.New("it has no dialect")
	}
	var err error
	g.dialect, err = loadDialect(settings)
	return err
}

// loadDialect makes a dialect of its settings in JSON.
func loadDialect(settings map[string]any) (dialect.Dialect, error) {
	name, _ := settings["name"].(string)
	rest := make(map[string]any, len(settings))
	for member, value := range settings {
		if member != "name" {
			rest[member] = value
		}
	}
	raw, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("metaguard.dialects."+name, raw)
	if err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	known, ok := loaded.(dialect.Dialect)
	if !ok {
		return nil, fmt.Errorf("dialect %s: it is a %T", name, loaded)
	}
	return known, nil
}

// identities are the settings of the guard's sources.
func (g *guard) identities() []*node {
	var found []*node
	list, _ := g.object["identities"].([]any)
	for i, element := range list {
		if source, ok := element.(map[string]any); ok {
			found = append(found, &node{path: fmt.Sprintf("%s.identities[%d]", g.path, i), object: source})
		}
	}
	return found
}

// listen are the addresses of the guard's server.
func (g *guard) listen() []string {
	if g.server == nil {
		return nil
	}
	return g.server.listen()
}
