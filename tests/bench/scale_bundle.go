// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// bundleFile is a bundle in a subject's directory.
const bundleFile = "team.tar.gz"

// scaleBundle grows the grants of a bundle, which OPA fetches and unpacks.
func (b *bench) scaleBundle(ctx context.Context) (*series, error) {
	server := httptest.NewServer(http.HandlerFunc(b.serveBundle))
	defer server.Close()
	s := &series{Name: "bundle", Title: "Cost of a request by number of grants in a bundle", Axis: "grants"}
	var all []at
	defer func() { b.dropAll(all) }()
	for _, n := range sizes {
		v := *find("seen")
		v.name, v.site = fmt.Sprintf("bundle-%d", n), bundled
		packed, err := bundleOf(n)
		if err != nil {
			return nil, err
		}
		v.files = func() map[string]string {
			return map[string]string{bundleFile: packed, "opa.yaml": opaConfig(server.URL, v.name)}
		}
		say("starting %s", v.name)
		subject, err := b.start(ctx, v, b.metaguard)
		if err != nil {
			return nil, err
		}
		all = append(all, at{size: n, subject: subject, crowd: newCrowd(1, scaleCallers, callerCount), clients: b.connections})
	}
	l, err := b.lineOf(ctx, "decisions seen before", again, all)
	if err != nil {
		return nil, err
	}
	s.Lines = append(s.Lines, l)
	s.fact("bundle: growth of CPU per request", l.growth(), maxGrowth)
	next := func(n int) (map[string]string, error) {
		packed, err := bundleOf(million + n)
		return map[string]string{bundleFile: packed}, err
	}
	// OPA unpacks a large file in steps that nothing can interrupt.
	return s, b.largest(ctx, s, all, next, loaded, 0)
}

// bundled has its policy come from a server.
func bundled(p *place) string {
	return strings.Replace(signed(p), "policy policy {", "policy {\n\t\t\topa opa.yaml\n\t\t\tready_timeout 2m", 1)
}

func opaConfig(server, directory string) string {
	return fmt.Sprintf("services: {bench: {url: '%s'}}\nbundles: {team: {service: bench, resource: %s/%s, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}\n",
		server, directory, bundleFile)
}

// serveBundle serves what lies in the subjects' directories, with ETags.
func (b *bench) serveBundle(w http.ResponseWriter, r *http.Request) {
	file, err := os.Open(filepath.Join(b.dir, filepath.FromSlash(r.URL.Path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%d"`, info.ModTime().UnixNano()))
	http.ServeContent(w, r, bundleFile, info.ModTime(), file)
}

// bundleOf is a bundle of the first n callers' grants.
func bundleOf(n int) (string, error) {
	content := bundle.Bundle{Manifest: bundle.Manifest{Revision: strconv.Itoa(n), Roots: &[]string{"metaguard/grants"}}}
	if err := json.Unmarshal([]byte(grantsOf(n)), &content.Data); err != nil {
		return "", err
	}
	var packed bytes.Buffer
	err := bundle.NewWriter(&packed).Write(content)
	return packed.String(), err
}
