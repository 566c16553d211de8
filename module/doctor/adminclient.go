// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	// maxConfig and maxPolicy bound what the admin API may send, in bytes.
	maxConfig = 64 << 20
	maxPolicy = 128 << 20
	// adminTimeout bounds one answer of the admin API: a policy may be large.
	adminTimeout = 30 * time.Second
)

// adminClient reads from a running server's admin API. Caddy's own client waits
// for ever.
type adminClient struct {
	network, address string
	origin           string
}

// newAdminClient reads a network address, such as unix//run/metaguard/admin.sock.
func newAdminClient(listen string) (*adminClient, error) {
	if strings.HasPrefix(listen, "/") { // the path of the socket, as a shell completes it
		listen = "unix/" + listen
	}
	parsed, err := caddy.ParseNetworkAddress(listen)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("the address of the admin API, %s, is none", listen)
	}
	if parsed.IsUnixNetwork() {
		path, _, _ := strings.Cut(parsed.Host, "|")
		return &adminClient{"unix", path, "127.0.0.1"}, nil
	}
	host := parsed.JoinHostPort(0)
	return &adminClient{"tcp", host, host}, nil
}

// get reads one document.
func (a *adminClient) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.origin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the admin API: %w", err)
	}
	if a.network != "unix" { // a socket knows no origin
		request.Header.Set("Origin", "http://"+a.origin)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, a.network, a.address)
		},
		DisableKeepAlives: true,
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("asking the admin API at %s: %s", a.address, plainDial(err))
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	content, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the admin API's answer to %s breaks off", path)
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("the admin API's answer to %s has more than %d bytes", path, limit)
	case response.StatusCode == http.StatusForbidden && strings.HasPrefix(path, "/metaguard/"):
		return nil, errors.New("the admin API shows a policy over a Unix socket with mode 0600 only")
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the admin API answers %s with status %d", path, response.StatusCode)
	}
	return content, nil
}

// process finds out which process has the socket, and looks at it.
func (a *adminClient) process(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.address)
	if err != nil {
		return nil, errors.New(plainDial(err))
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	pid, err := peerOf(conn)
	if err != nil {
		return nil, err
	}
	return lookAt(pid), nil
}

// runningConfig is the configuration that the server has loaded.
func (a *adminClient) runningConfig(ctx context.Context) (any, error) {
	content, err := a.get(ctx, "/config/", maxConfig)
	if err != nil {
		return nil, err
	}
	return decodeTree(content)
}

// runningPolicies are the policies that the server has.
func (a *adminClient) runningPolicies(ctx context.Context) ([]runningPolicy, error) {
	content, err := a.get(ctx, "/metaguard/policies", maxConfig)
	if err != nil {
		return nil, err
	}
	var found []runningPolicy
	if err := json.Unmarshal(content, &found); err != nil {
		return nil, errors.New("the admin API's list of policies cannot be read")
	}
	return found, nil
}
