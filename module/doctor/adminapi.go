// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// adminListen is where the admin API listens, as it is written, and with its
// placeholders in place; both are empty where it is off.
func (c *configuration) adminListen() (written, listen string) {
	if off, _ := at(c.tree, "admin", "disabled").(bool); off {
		return "", ""
	}
	written = textAt(c.tree, "admin", "listen")
	if written == "" {
		written = caddy.DefaultAdminListen
	}
	return written, caddy.NewReplacer().ReplaceKnown(written, "")
}

func (c *configuration) whereAdmin() string {
	if textAt(c.tree, "admin", "listen") == "" {
		return c.whole("admin.listen")
	}
	return c.whereOne("admin.listen", func(l textLine) bool { return l.global && l.begins("admin") })
}

// checkAdminTCP finds an admin API on a port that all of this host reaches.
func checkAdminTCP(_ context.Context, x *examination, f *finder) {
	if _, listen := x.config.adminListen(); listen != "" && !onSocket(listen) && !listensPublic(listen) {
		f.found(x.config.whereAdmin(), "the admin API listens on "+listen)
	}
}

// checkAdminPublic finds an admin API that other machines, or everybody on this
// one, reach.
func checkAdminPublic(_ context.Context, x *examination, f *finder) {
	_, listen := x.config.adminListen()
	switch path, mode, isSocket := socketOf(listen); {
	case listen == "":
	case !isSocket:
		if listensPublic(listen) {
			origin := ""
			if enforced, _ := at(x.config.tree, "admin", "enforce_origin").(bool); !enforced {
				origin = ", without enforce_origin"
			}
			f.found(x.config.whereAdmin(), "the admin API listens on "+listen+origin)
		}
	case strings.HasPrefix(path, "@"):
		f.found(x.config.whereAdmin(), "the admin API listens on the abstract socket "+path+", which has no mode")
	case mode&0o077 != 0:
		f.found(x.config.whereAdmin(), fmt.Sprintf("the socket of the admin API has mode %04o", mode))
	}
	for _, path := range listAt(x.config.tree, "admin", "origins") {
		if path == "*" {
			f.found(x.config.whole("admin.origins"), "the admin API takes requests of every origin")
		}
	}
}

// checkAdminSocket finds a socket that is more open on disk than it should be.
func checkAdminSocket(_ context.Context, x *examination, f *finder) {
	_, listen := x.config.adminListen()
	path, _, isSocket := socketOf(listen)
	if !isSocket || strings.HasPrefix(path, "@") {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		f.unable(path, plain(err))
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		f.found(path, fmt.Sprintf("the socket of the admin API has mode %04o", mode))
	}
}

// checkAdminRemote finds remote administration without access control.
func checkAdminRemote(_ context.Context, x *examination, f *finder) {
	remote, ok := at(x.config.tree, "admin", "remote").(map[string]any)
	if !ok {
		return
	}
	where := x.config.whole("admin.remote")
	access, _ := remote["access_control"].([]any)
	if len(access) == 0 {
		f.found(where, "remote administration has no access_control")
	}
	for _, element := range access {
		permissions, _ := at(element, "permissions").([]any)
		if len(permissions) == 0 {
			f.found(where, "a remote administrator may do everything: permissions are not given")
		}
	}
}

// onSocket tells whether a network address is a Unix socket, or one that was
// handed over.
func onSocket(listen string) bool {
	parsed, err := caddy.ParseNetworkAddress(listen)
	return err != nil || parsed.IsUnixNetwork() || parsed.IsFdNetwork()
}

// socketOf gives the path and the mode of a Unix socket, as they are configured.
func socketOf(listen string) (path string, mode uint64, ok bool) {
	parsed, err := caddy.ParseNetworkAddress(listen)
	if err != nil || !parsed.IsUnixNetwork() {
		return "", 0, false
	}
	path, bits, found := strings.Cut(parsed.Host, "|")
	mode = 0o200 // Caddy's own default
	if found {
		if mode, err = strconv.ParseUint(bits, 8, 32); err != nil {
			mode = 0o777
		}
	}
	return path, mode, true
}
