// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// adminClient asks the subject's admin API, which is on a Unix socket.
func (s *subject) adminClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.admin)
		},
		DisableKeepAlives:  true,
		DisableCompression: true, // a compressor takes more memory than what is measured
	}}
}

// fromAdmin asks the admin API and gives the answer's body.
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

// metric adds up the samples of one metric.
func (s *subject) metric(ctx context.Context, name string) (sum float64, err error) {
	text, err := s.fromAdmin(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(string(text)) {
		rest, ours := strings.CutPrefix(line, name)
		if !ours || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}
