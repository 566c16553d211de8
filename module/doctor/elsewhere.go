// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// mention is an address somewhere in the configuration, outside of the guards.
type mention struct {
	path, text string
	address
}

// notDestinations are members that name no place that anything is sent to.
var notDestinations = []string{"listen", "headers", "body", "origins", "output", "@id"}

// mentions finds everything outside of guards that can be read as an address:
// the members called dial, and any other text, since a handler of somebody else
// may call it anything.
func (x *examination) mentions() []mention {
	var found []mention
	walk(x.config.tree, func(n *node) bool {
		if n.handler() == "metaguard" || n.path == "admin" || n.path == "logging" {
			return false
		}
		for name, value := range n.object {
			if slices.Contains(notDestinations, name) {
				continue
			}
			for _, text := range ownTexts(value) {
				port := uint(0)
				if name == "dial" {
					port = 80
				}
				if known, ok := parseAddress(text, port); ok {
					found = append(found, mention{join(n.path, name), withoutCredentials(text), known})
				}
			}
		}
		return true
	})
	slices.SortFunc(found, func(a, b mention) int { return strings.Compare(a.path, b.path) })
	return found
}

// withoutCredentials is an address as it may be shown: a URL may hold a password.
func withoutCredentials(text string) string {
	if parsed, err := url.Parse(text); err == nil && parsed.Host != "" {
		return parsed.Scheme + "://" + parsed.Host
	}
	return text[strings.LastIndex(text, "@")+1:]
}

// ownTexts are the texts of a member, and of the list that it may be.
func ownTexts(value any) []string {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var found []string
		for _, element := range value {
			if text, ok := element.(string); ok {
				found = append(found, text)
			}
		}
		return found
	}
	return nil
}

// checkElsewhere finds what reaches an upstream outside of the guard.
func checkElsewhere(ctx context.Context, x *examination, f *finder) {
	x.compareAddresses(f, func(guarded address, other address) bool {
		return guarded.same(other) || x.resolvesTo(ctx, guarded, other)
	}, "%s leads to %s, which is an upstream of Metaguard")
}

// checkPerhaps finds what may reach an upstream by another name.
func checkPerhaps(ctx context.Context, x *examination, f *finder) {
	x.compareAddresses(f, func(guarded address, other address) bool {
		return guarded.perhaps(other) && !x.resolvesTo(ctx, guarded, other)
	}, "%s may be %s by another name: the port is the same")
}

// compareAddresses reports the mentions that match an upstream, by their lines
// where the Caddyfile has as many.
func (x *examination) compareAddresses(f *finder, match func(guarded, other address) bool, message string) {
	mentions := x.mentions()
	var seen []upstream
	for _, up := range x.upstreams() {
		if up.network == "" || slices.ContainsFunc(seen, func(known upstream) bool { return known.same(up.address) }) {
			continue
		}
		seen = append(seen, up)
		var paths, texts []string
		for _, m := range mentions {
			if match(up.address, m.address) {
				paths, texts = append(paths, m.path), append(texts, m.text)
			}
		}
		if len(paths) == 0 {
			continue
		}
		lines, words := x.config.text.mentions(func(other address) bool { return match(up.address, other) })
		if len(lines) >= len(paths) {
			paths, texts = lines, words
		}
		reported := map[string]bool{}
		for i, where := range paths {
			if !reported[where] { // a snippet is imported, and a site adapted, more than once
				reported[where] = true
				f.found(where, fmt.Sprintf(message, texts[i], up.dial))
			}
		}
	}
}

// mentions are the words of a Caddyfile, outside of guards, that are such an
// address.
func (t *caddyfileText) mentions(match func(address) bool) (places, words []string) {
	for _, line := range t.lines() {
		if line.global || line.inside("metaguard") || line.words[0] == "bind" {
			continue
		}
		port := uint(0)
		if slices.Contains([]string{"reverse_proxy", "to", "php_fastcgi", "forward_auth"}, line.words[0]) {
			port = 80
		}
		for _, word := range line.words[1:] {
			if other, ok := parseAddress(word, port); ok && match(other) {
				places, words = append(places, line.where), append(words, withoutCredentials(word))
			}
		}
	}
	return places, words
}

// upstreams are those of all guards.
func (x *examination) upstreams() []upstream {
	var all []upstream
	for _, g := range x.guards {
		all = append(all, g.upstreams...)
	}
	return all
}

// checkUnknownDestination finds what chooses where it goes when it runs.
func checkUnknownDestination(_ context.Context, x *examination, f *finder) {
	if len(x.guards) == 0 {
		return
	}
	walk(x.config.tree, func(n *node) bool {
		if n.handler() == "metaguard" {
			return false
		}
		if _, dynamic := n.object["dynamic_upstreams"]; dynamic {
			f.found(x.config.whereOne(n.path, func(l textLine) bool { return l.begins("dynamic") && !l.inside("metaguard") }),
				"a reverse_proxy finds its upstreams when it runs")
		}
		for _, dial := range ownTexts(n.object["dial"]) {
			if _, known := parseAddress(dial, 80); !known {
				f.found(x.config.whereOne(n.path, func(l textLine) bool { return slices.Contains(l.words, dial) && !l.inside("metaguard") }),
					fmt.Sprintf("where %q leads is not known before it runs", dial))
			}
		}
		return true
	})
}
