// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	sys "golang.org/x/sys/unix"
)

const (
	// adminGone is how long the admin API of the configuration before may take
	// to close: Caddy does that beside the start of the next one.
	adminGone = 5 * time.Second
	// adminAnswers is how long a listener may take to show what it is.
	adminAnswers = 3 * time.Second
)

// checkRunningAdmin refuses to start beside an admin API that every local
// process can reach. A module is not told where Caddy's admin API listens, so each
// listener of this process that is not a site's is asked whether it is one.
func (a *App) checkRunningAdmin() error {
	if !a.usesProcesses() {
		return nil
	}
	sites, err := a.siteListeners()
	if err != nil {
		return err
	}
	limit := time.Now()
	if reloading() { // there is an admin API before
		limit = limit.Add(adminGone)
	}
	for {
		found, err := openListener(sites)
		if err != nil {
			return fmt.Errorf("looking for an admin API that every local process can reach, which identify process cannot stand beside: %w", err)
		}
		if found == "" {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("identify process cannot stand beside an admin API that every local process can reach, and it listens on %s: %s; until a good configuration is loaded, it goes on listening there", found, adminAdvice)
		}
		time.Sleep(200 * time.Millisecond) // there is nothing that tells when it has closed
	}
}

// listener is a socket of ours that accepts connections.
type listener struct{ network, address string }

// openListener finds an admin API that everybody can reach, or nothing.
func openListener(sites []caddy.NetworkAddress) (string, error) {
	listeners, err := reachableListeners()
	if err != nil {
		return "", err
	}
	for _, l := range listeners {
		if ofSite(l, sites) {
			continue
		}
		admin, err := answersAsAdmin(l)
		if err != nil {
			return "", fmt.Errorf("asking the listener %s of this process what it is: %w", l.address, err)
		}
		if admin {
			return l.address, nil
		}
	}
	return "", nil
}

// siteListeners are the addresses of the http app's servers.
func (a *App) siteListeners() ([]caddy.NetworkAddress, error) {
	loaded, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return nil, fmt.Errorf("looking at the sites: %w", err)
	}
	app, ok := loaded.(*caddyhttp.App)
	if !ok {
		return nil, fmt.Errorf("looking at the sites: the http app is a %T", loaded)
	}
	var addresses []caddy.NetworkAddress
	for _, server := range app.Servers {
		for _, text := range server.Listen {
			address, err := caddy.ParseNetworkAddress(text)
			if err != nil {
				return nil, fmt.Errorf("looking at the sites: %w", err)
			}
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// ofSite tells whether a listener is a site's. Where a site has a name for an
// address, its port decides.
func ofSite(l listener, sites []caddy.NetworkAddress) bool {
	for _, site := range sites {
		if l.network == "unix" {
			if path, _, _ := strings.Cut(site.Host, "|"); site.IsUnixNetwork() && path == l.address {
				return true
			}
			continue
		}
		at, err := netip.ParseAddrPort(l.address)
		if err != nil || site.IsUnixNetwork() || uint(at.Port()) < site.StartPort || uint(at.Port()) > site.EndPort {
			continue
		}
		host, err := netip.ParseAddr(site.Host)
		switch {
		case site.Host == "", err == nil && host.IsUnspecified():
			if at.Addr().IsUnspecified() {
				return true
			}
		case err != nil, host.Unmap() == at.Addr().Unmap():
			return true
		}
	}
	return false
}

// reachableListeners lists the sockets on which this process accepts
// connections from everybody on this host.
func reachableListeners() ([]listener, error) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var found []listener
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		if accepts, err := sys.GetsockoptInt(fd, sys.SOL_SOCKET, sys.SO_ACCEPTCONN); err != nil || accepts == 0 {
			continue // no socket, or no listener, or closed since
		}
		address, err := sys.Getsockname(fd)
		if err != nil {
			continue // closed since
		}
		switch address := address.(type) {
		case *sys.SockaddrInet4:
			found = append(found, listener{"tcp", netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(address.Port)).String()}) //nolint:gosec // a port
		case *sys.SockaddrInet6:
			ip := netip.AddrFrom16(address.Addr)
			if address.ZoneId != 0 {
				ip = ip.WithZone(strconv.FormatUint(uint64(address.ZoneId), 10))
			}
			found = append(found, listener{"tcp", netip.AddrPortFrom(ip, uint16(address.Port)).String()}) //nolint:gosec // a port
		case *sys.SockaddrUnix:
			if openToAll(address.Name) {
				found = append(found, listener{"unix", address.Name})
			}
		}
	}
	return found, nil
}

// openToAll tells whether everybody may connect to a Unix socket.
func openToAll(path string) bool {
	if strings.HasPrefix(path, "@") {
		return true
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&othersWrite != 0
}

// answersAsAdmin asks a listener what Caddy's admin API alone answers in its
// way: a request without the same-origin policy, before it looks at the host. One
// that says nothing in time may be anything, and is an error.
func answersAsAdmin(l listener) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), adminAnswers)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, l.network, l.address)
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+policiesPath, nil)
	if err != nil {
		return false, err
	}
	if l.network == "tcp" {
		request.Host = l.address
	}
	request.Header.Set("Sec-Fetch-Mode", "no-cors")
	answer, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			return false, errors.New("it does not answer")
		}
		return false, nil // closed meanwhile, or another protocol
	}
	defer answer.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAdminBody))
	if err != nil && ctx.Err() != nil {
		return false, errors.New("it does not answer")
	}
	for _, sentence := range []string{
		"Disabling same-origin restrictions is not allowed", // Caddy's own
		"host not allowed: ",                           // Caddy's own, if it no longer says that
		"a change is possible only over a Unix socket", // ours, which is behind both
	} {
		if strings.Contains(string(body), `{"error":"`+sentence) {
			return true, nil
		}
	}
	return false, nil
}
