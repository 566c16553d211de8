// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// address is a place to connect to, in one spelling. The host of all that is
// this machine's loopback, or no host at all, is "loopback".
type address struct {
	network  string // tcp or unix
	host     string // the path of a Unix socket
	from, to uint
}

// loopback stands for 127.0.0.0/8, ::1, localhost, and no or any address, which
// connect there too.
const loopback = "loopback"

// parseAddress reads an address as it stands in a configuration: of a dial, a
// URL, or a token of a Caddyfile. A port that is missing is port, if that is
// not 0. It says no to what is no address, or one that a request chooses.
func parseAddress(text string, port uint) (address, bool) {
	text, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil || text == "" || strings.ContainsAny(text, "{} \t\n") {
		return address{}, false
	}
	if scheme, rest, found := strings.Cut(text, "://"); found {
		if scheme == "unix" {
			return parseAddress("unix/"+rest, port)
		}
		parsed, err := url.Parse(text)
		if err != nil || parsed.Host == "" {
			return address{}, false
		}
		text = parsed.Host
		if port = 80; scheme == "https" {
			port = 443
		}
	}
	if port != 0 && !strings.Contains(text, "/") && portless(text) {
		text = strings.Trim(text, "[]")
		if strings.Contains(text, ":") {
			text = "[" + text + "]"
		}
		text += ":" + strconv.FormatUint(uint64(port), 10)
	}
	parsed, err := caddy.ParseNetworkAddressWithDefaults(text, "tcp", 0)
	switch {
	case err != nil:
		return address{}, false
	case parsed.IsUnixNetwork():
		path, _, _ := strings.Cut(parsed.Host, "|")
		if !strings.HasPrefix(path, "@") {
			path = filepath.Clean(path)
			if target, err := filepath.EvalSymlinks(path); err == nil {
				path = target
			}
		}
		return address{network: "unix", host: path}, path != ""
	case !strings.HasPrefix(parsed.Network, "tcp") || parsed.StartPort == 0:
		return address{}, false
	}
	return address{"tcp", hostKey(parsed.Host), parsed.StartPort, parsed.EndPort}, true
}

// portless tells whether a host stands without a port.
func portless(text string) bool {
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return true
	}
	return !strings.Contains(text, ":")
}

// hostKey is the one spelling of a host.
func hostKey(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopback
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if ip.IsLoopback() || ip.IsUnspecified() {
			return loopback
		}
		return ip.String()
	}
	if legacyLoopback(host) {
		return loopback
	}
	return host
}

// legacyLoopback tells of 127.1, 0x7f000001 and the like, which C's resolver
// takes for 127.0.0.1.
func legacyLoopback(host string) bool {
	first, _, _ := strings.Cut(host, ".")
	value, err := strconv.ParseUint(first, 0, 32)
	if err != nil {
		return false
	}
	if first == host {
		return value>>24 == 127 || value == 0
	}
	return value == 127
}

// same tells whether both lead to the same place.
func (a address) same(b address) bool {
	return a.network == b.network && a.host == b.host && (a.network == "unix" || a.from <= b.to && b.from <= a.to)
}

// perhaps tells whether both could lead to the same place although they are
// written differently: the port is the same, and one at least is a name.
func (a address) perhaps(b address) bool {
	return a.network == "tcp" && b.network == "tcp" && a.host != b.host && a.from <= b.to && b.from <= a.to && (a.named() || b.named())
}

// named tells whether the host is a name that must be resolved.
func (a address) named() bool {
	_, err := netip.ParseAddr(a.host)
	return a.network == "tcp" && a.host != loopback && err != nil
}

// listensPublic tells whether a server that listens there can be reached from
// other machines.
func listensPublic(listen string) bool {
	listen = caddy.NewReplacer().ReplaceKnown(listen, "")
	parsed, err := caddy.ParseNetworkAddressWithDefaults(listen, "tcp", 0)
	if err != nil || parsed.IsUnixNetwork() || parsed.IsFdNetwork() {
		return false
	}
	if parsed.Host == "localhost" || strings.HasSuffix(parsed.Host, ".localhost") {
		return false
	}
	ip, err := netip.ParseAddr(parsed.Host)
	return err != nil || !ip.Unmap().IsLoopback()
}
