// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

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
