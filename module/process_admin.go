// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/metaguard/metaguard/module/identity"
)

// adminAdvice says what to write instead of an admin API that every local
// process can reach.
const adminAdvice = "write `admin unix//run/metaguard/admin.sock|0600` or `admin off` in the global options (in JSON: `\"admin\": {\"listen\": \"unix//run/metaguard/admin.sock|0600\"}`)"

// checkProcessAdmin refuses `identify process` beside an admin API that every
// local process can reach, since each could change the configuration there. What
// is known only where the configuration runs is checked when it starts.
func checkProcessAdmin(h httpcaddyfile.Helper, handler *Handler) error {
	if !identifiesProcesses(handler.IdentitiesRaw) {
		return nil
	}
	admin, _ := h.Option("admin").(*caddy.AdminConfig)
	problem := openAdmin(admin)
	if problem == "" {
		return nil
	}
	for h.Reset(); h.Next(); {
		if h.Val() == "identify" && h.NextArg() && h.Val() == "process" {
			break
		}
	}
	return h.Errf("identify process cannot stand beside an admin API that every local process can reach, and %s: %s", problem, adminAdvice)
}

func identifiesProcesses(sources []json.RawMessage) bool {
	for _, raw := range sources {
		var guest struct {
			Source string `json:"source"`
		}
		if json.Unmarshal(raw, &guest) == nil && guest.Source == "process" {
			return true
		}
	}
	return false
}

// openAdmin says why everybody on this host can reach an admin API, or nothing.
func openAdmin(admin *caddy.AdminConfig) string {
	listen := caddy.DefaultAdminListen
	if admin != nil {
		if admin.Disabled {
			return ""
		}
		if admin.Listen != "" {
			listen = admin.Listen
		}
	}
	listen, err := caddy.NewReplacer().ReplaceOrErr(listen, true, true)
	if err != nil {
		return "" // a variable that only the running server has
	}
	address, err := caddy.ParseNetworkAddress(listen)
	switch {
	case err != nil:
		return "" // Caddy says what is wrong with it
	case address.IsFdNetwork():
		return "" // whatever was handed over is looked at when it starts
	case !address.IsUnixNetwork():
		return "it listens on " + listen
	}
	path, bits, _ := strings.Cut(address.Host, "|")
	if strings.HasPrefix(path, "@") {
		return "it listens on the abstract socket " + listen
	}
	mode, err := strconv.ParseUint(bits, 8, 32)
	if err == nil && fs.FileMode(mode)&othersWrite != 0 {
		return fmt.Sprintf("its socket has mode %04o", mode)
	}
	return ""
}

// othersWrite is the bit that lets everybody connect to a Unix socket.
const othersWrite fs.FileMode = 0o002

// usesProcesses tells whether a site of this configuration identifies processes.
func (a *App) usesProcesses() bool {
	for _, source := range a.sources {
		if _, ok := source.(*identity.Process); ok {
			return true
		}
	}
	return false
}
