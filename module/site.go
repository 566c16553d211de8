// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// listeners are the addresses on which a site's server listens, as configured.
func listeners(ctx caddy.Context) []string {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(server.Listen))
}

// nameSite names a site in metrics, traces and the admin API: by the addresses on
// which its server listens, and a number where that server has more than one, in
// the order of its routes. A client has no say in it, and reloads of one file give
// the same names, unless several are in named routes, which Caddy provisions in no
// order.
func (a *App) nameSite(listen []string) string {
	name := nobody
	if len(listen) > 0 {
		name = strings.Join(listen, ",")
	}
	if a.named == nil {
		a.named = make(map[string]int)
	}
	a.named[name]++
	if number := a.named[name]; number > 1 {
		name = fmt.Sprintf("%s#%d", name, number)
	}
	return name
}

// siteByName is one site; the name may be left out where there is only one.
func (a *App) siteByName(name string) (*Handler, error) {
	if name == "" && len(a.sites) == 1 {
		return a.sites[0], nil
	}
	names := make([]string, 0, len(a.sites))
	for _, h := range a.sites {
		if name == h.site {
			return h, nil
		}
		names = append(names, h.site)
	}
	return nil, fmt.Errorf("which site? there are: %s", strings.Join(names, " "))
}
