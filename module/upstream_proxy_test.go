// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// brokenSource finds no upstreams, and cannot forget.
type brokenSource struct{ asked, reset int }

func (s *brokenSource) GetUpstreams(*http.Request) ([]*reverseproxy.Upstream, error) {
	s.asked++
	return nil, errors.New("no such host")
}

func (s *brokenSource) ResetCache(*http.Request) error {
	s.reset++
	return errors.New("not forgotten")
}

// That upstreams cannot be found is said, once for many requests: their own answers may
// come from others.
func TestUpstreamsNotFoundAreTold(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	inner := new(brokenSource)
	source := &tellingSource{UpstreamSource: inner, logger: zap.New(core)}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := source.GetUpstreams(r.WithContext(gone)); err == nil || logged.Len() != 0 {
		t.Errorf("%v, and a client that leaves is %v", err, logged.All())
	}
	for range 3 {
		if _, err := source.GetUpstreams(r); err == nil {
			t.Error("the error is lost")
		}
		if err := source.ResetCache(r); err == nil {
			t.Error("the error of a reset is lost")
		}
	}
	if inner.asked != 4 || inner.reset != 3 {
		t.Errorf("asked %d times, reset %d times", inner.asked, inner.reset)
	}
	if got := logged.All(); len(got) != 1 || got[0].ContextMap()["error"] != "no such host" {
		t.Errorf("%v", got)
	}
	source.told.Store(source.told.Load() - int64(tellAgain))
	if _, _ = source.GetUpstreams(r); logged.Len() != 2 {
		t.Errorf("%d lines after a while", logged.Len())
	}
}
