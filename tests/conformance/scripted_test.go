// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// script is testdata/<dialect>.yaml: what a server of one kind answers, and
// where it is written so.
type script struct {
	Source string `yaml:"source"`
	// Aliases are first path segments that stand for another one.
	Aliases map[string]string `yaml:"aliases"`
	// Answers are tried from the top; what none is for is 404.
	Answers []scriptedAnswer `yaml:"answers"`
}

// scriptedAnswer is given to requests that have all that it names.
type scriptedAnswer struct {
	Method  string             `yaml:"method"`  // GET if none is given
	Path    string             `yaml:"path"`    // with or without a slash at its end; empty is any
	Query   map[string]pattern `yaml:"query"`   // of a parameter; "" is one that is not there
	Request map[string]pattern `yaml:"request"` // of a header; "" is one that is not there

	Status  int               `yaml:"status"` // 200 if none is given
	Headers map[string]string `yaml:"headers"`
	Body    string            `yaml:"body"`
	Hold    time.Duration     `yaml:"hold"` // before the answer, unless the client leaves
}

// scripted is such a server.
type scripted struct {
	url, address string
}

func newScripted(t *testing.T, dialect string) *scripted {
	t.Helper()
	data, err := os.ReadFile("testdata/" + dialect + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var s script
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Source == "" {
		t.Fatalf("testdata/%s.yaml cites no source", dialect)
	}
	server := httptest.NewServer(&s)
	t.Cleanup(server.Close)
	return &scripted{url: server.URL, address: strings.TrimPrefix(server.URL, "http://")}
}

// ServeHTTP gives the first answer that is for the request.
func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if segments := strings.SplitN(path, "/", 3); s.Aliases[segments[1]] != "" {
		segments[1] = s.Aliases[segments[1]]
		path = strings.Join(segments, "/")
	}
	for _, a := range s.Answers {
		if a.is(r, path) {
			a.give(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

func (a *scriptedAnswer) is(r *http.Request, path string) bool {
	method := a.Method
	if method == "" {
		method = http.MethodGet
	}
	if r.Method != method || (a.Path != "" && strings.TrimRight(a.Path, "/") != strings.TrimRight(path, "/")) {
		return false
	}
	query := r.URL.Query()
	for name, want := range a.Query {
		if !want.whole(query.Get(name)) {
			return false
		}
	}
	for name, want := range a.Request {
		if !want.whole(r.Header.Get(name)) {
			return false
		}
	}
	return true
}

func (a *scriptedAnswer) give(w http.ResponseWriter, r *http.Request) {
	if a.Hold > 0 {
		select {
		case <-time.After(a.Hold):
		case <-r.Context().Done():
			return
		}
	}
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = io.WriteString(w, a.Body)
}

// TestScriptedSources: every scripted server cites what it follows.
func TestScriptedSources(t *testing.T) {
	url := regexp.MustCompile(`https://[a-z.]+/`)
	entries, err := os.ReadDir("testdata")
	if err != nil || len(entries) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile("testdata/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !url.Match(data) {
			t.Errorf("%s cites no page", entry.Name())
		}
	}
}
