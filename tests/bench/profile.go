// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// adminClient asks the subject's admin API, which is on a Unix socket.
func (s *subject) adminClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.admin)
		},
		DisableKeepAlives: true,
	}}
}

// admin asks the admin API and gives the answer's body.
func (s *subject) fromAdmin(ctx context.Context, method, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := s.adminClient().Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", path, response.StatusCode, body)
	}
	return body, err
}

// profile records what a guarded subject does in this round, in the directory of
// --profile. Rounds with it are slower than others by what sampling costs.
func (b *bench) profile(ctx context.Context, s *subject) (wait func()) {
	if b.profiles == "" || len(s.needs) > 0 {
		return func() {}
	}
	name := strings.NewReplacer("@", "-").Replace(fmt.Sprintf("%s-%d", s.name, len(s.cpu)+1))
	var done sync.WaitGroup
	done.Go(func() {
		seconds := max(1, int(b.duration.Seconds()))
		body, err := s.fromAdmin(ctx, http.MethodGet, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
		b.keep(name+".cpu.pprof", body, err)
	})
	return func() {
		done.Wait()
		body, err := s.fromAdmin(ctx, http.MethodGet, "/debug/pprof/allocs")
		b.keep(name+".allocs.pprof", body, err)
	}
}

func (b *bench) keep(name string, content []byte, err error) {
	if err == nil {
		err = os.WriteFile(filepath.Join(b.profiles, name), content, 0o600)
	}
	if err != nil {
		say("no profile %s: %v", name, err)
	}
}
