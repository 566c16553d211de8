// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bundleServer serves bundles with ETags, as any web server does.
type bundleServer struct {
	*httptest.Server
	mu      sync.Mutex
	bundles map[string][]byte
	etags   map[string]string
	serial  int
	down    bool
	gate    chan struct{} // answers wait until it is closed, if there is one
	asked   map[string]int
	tokens  []string
}

func newBundleServer(t testing.TB) *bundleServer {
	t.Helper()
	s := &bundleServer{bundles: map[string][]byte{}, etags: map[string]string{}, asked: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *bundleServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, r.Header.Get("Authorization"))
	if s.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	content, ok := s.bundles[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	etag := s.etags[strings.TrimPrefix(r.URL.Path, "/")]
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Type", "application/gzip")
	_, _ = w.Write(content)
}

// put makes a bundle the newest.
func (s *bundleServer) put(name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	s.bundles[name], s.etags[name] = content, fmt.Sprintf(`"%d"`, s.serial)
}

func (s *bundleServer) requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *bundleServer) setGate(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
}

func (s *bundleServer) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// tarball makes a bundle of files, byte for byte.
func tarball(t testing.TB, content files) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	names := make([]string, 0, len(content))
	for name := range content {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// teamBundle is a bundle that denies one kind, and says so in its revision.
func teamBundle(t testing.TB, revision, kind string) []byte {
	t.Helper()
	return tarball(t, files{
		".manifest":      fmt.Sprintf(`{"revision": %q, "roots": ["metaguard/team"]}`, revision),
		"team/team.rego": fmt.Sprintf("package metaguard.team\n\ndeny contains \"no_%s\" if input.resource.kind == %q\n", kind, kind),
	})
}

// fast lets OPA ask for a bundle without a pause.
const fast = `, "polling": {"min_delay_seconds": 0, "max_delay_seconds": 0}`

// opaFile writes a configuration of OPA with the service "s" at this server.
func opaFile(t testing.TB, s *bundleServer, sections string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "opa.json")
	write(t, path, fmt.Sprintf(`{"services": {"s": {"url": %q, "response_header_timeout_seconds": 5}}, %s}`, s.URL, sections))
	return path
}

// remoteEngine is a started engine with a configuration of OPA.
func remoteEngine(t testing.TB, cfg Config, opts ...Option) *Engine {
	t.Helper()
	if cfg.ReadyTimeout == 0 {
		cfg.ReadyTimeout = 20 * time.Second
	}
	e := engine(t, cfg, append([]Option{WithStateDir(t.TempDir())}, opts...)...)
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e
}
