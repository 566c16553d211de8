// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Admin is the admin API of a process on a Unix socket that only the test's
// user can reach.
type Admin struct {
	// Listen is the argument of the global option `admin`.
	Listen string
	// Address is the argument of `--address`.
	Address string

	client *http.Client
}

// socketPath is where a test can have a socket. It is short, whatever the test is
// called: a socket's path has about a hundred bytes.
func socketPath(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "mg-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, name)
}

// NewAdmin gives an admin API a socket of its own.
func NewAdmin(tb testing.TB) *Admin {
	tb.Helper()
	socket := socketPath(tb, "admin.sock")
	return &Admin{
		Listen:  "unix/" + socket + "|0600",
		Address: "unix/" + socket,
		client:  &http.Client{Transport: DialTransport("unix", socket), Timeout: time.Minute},
	}
}

// DialTransport sends every request to one address, on a connection of its own,
// since a reload replaces the server.
func DialTransport(network, address string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		DisableKeepAlives: true,
	}
}

// Get asks for a path, such as /metrics.
func (a *Admin) Get(tb testing.TB, path string) string {
	tb.Helper()
	response, err := a.client.Get("http://localhost" + path)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %d %v\n%s", path, response.StatusCode, err, body)
	}
	return string(body)
}

// Ask sends a request with a body, if it has one, and gives what came back.
func (a *Admin) Ask(tb testing.TB, method, path, body string) (status int, answer string) {
	tb.Helper()
	request, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	response, err := a.client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// Load makes the process load its configuration anew, as `reload --force`
// does. The configuration is JSON.
func (a *Admin) Load(config string) error {
	request, err := http.NewRequest(http.MethodPost, "http://localhost/load", strings.NewReader(config))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Cache-Control", "must-revalidate")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("loading: %d %w %s", response.StatusCode, err, body)
	}
	return nil
}

// Metrics gives all samples of one metric, by their labels as they are
// written, such as `{engine="x"}`.
func (a *Admin) Metrics(tb testing.TB, name string) map[string]float64 {
	tb.Helper()
	samples := make(map[string]float64)
	for line := range strings.Lines(a.Get(tb, "/metrics")) {
		rest, found := strings.CutPrefix(strings.TrimSpace(line), name)
		if !found || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		labels, text, _ := strings.Cut(rest, " ")
		var value float64
		if _, err := fmt.Sscan(text, &value); err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
		samples[labels] = value
	}
	return samples
}

// Total is the sum of all samples of one metric.
func (a *Admin) Total(tb testing.TB, name string) (sum float64) {
	tb.Helper()
	for _, value := range a.Metrics(tb, name) {
		sum += value
	}
	return sum
}
