// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// place is where a guarded site stands in the configuration.
type place struct {
	server *caddyhttp.Server // nil: none of Caddy's own
	index  int               // among the guards of its server, in their order
}

func placeOf(ctx caddy.Context) place {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return place{server: server}
}

// listen are the addresses on which the site's server listens, as configured.
func (p place) listen() []string {
	if p.server == nil {
		return nil
	}
	return p.server.Listen
}

// siteName names a site where people and machines speak of it: by the server as
// the configuration calls it, the addresses on which that listens and which of
// its guards it is, such as srv0/:8775/0. It outlives a reload that changes none
// of these.
func (a *App) siteName(h *Handler) string {
	name := ""
	if loaded, err := a.ctx.AppIfConfigured("http"); err == nil {
		if app, ok := loaded.(*caddyhttp.App); ok {
			for key, server := range app.Servers {
				if server == h.place.server {
					name = key
				}
			}
		}
	}
	return name + "/" + strings.Join(h.place.listen(), ",") + "/" + strconv.Itoa(h.place.index)
}

// siteByName is one site; the name may be left out where there is only one.
func (a *App) siteByName(name string) (*Handler, error) {
	if name == "" && len(a.sites) == 1 {
		return a.sites[0], nil
	}
	names := make([]string, 0, len(a.sites))
	for _, h := range a.sites {
		known := a.siteName(h)
		if name == known {
			return h, nil
		}
		names = append(names, known)
	}
	return nil, fmt.Errorf("which site? there are: %s", strings.Join(names, " "))
}

// addSite takes over a site, and numbers it among those of its server.
func (a *App) addSite(h *Handler) {
	for _, other := range a.sites {
		if other.place.server == h.place.server {
			h.place.index++
		}
	}
	a.sites = append(a.sites, h)
}
