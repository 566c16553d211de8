// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

const (
	planted = "pl4nted-$ecret-0123456789"
	older   = "0lder-pl4nted-$ecret-987654"

	instanceA = "11111111-1111-4111-8111-111111111111"
	instanceB = "5f1c3a52-0c6e-4f6e-9d0a-3c1f2b7a9e10"
	tenantA   = "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"
)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	stranger = netip.MustParseAddr("192.0.2.7")
)

// newNeutron provisions a source with planted as first and older as second secret.
func newNeutron(tb testing.TB, trust ...string) *Neutron {
	tb.Helper()
	tb.Setenv("METAGUARD_TEST_SECRET", planted)
	tb.Setenv("METAGUARD_TEST_OLDER", older+"\n")
	n := &Neutron{Secrets: []string{"{env.METAGUARD_TEST_SECRET}", "{env.METAGUARD_TEST_OLDER}"}, Trust: trust}
	provision(tb, n.Provision)
	if err := n.Validate(); err != nil {
		tb.Fatal(err)
	}
	return n
}

func provision(tb testing.TB, what func(caddy.Context) error) {
	tb.Helper()
	if err := provisionError(tb, what); err != nil {
		tb.Fatal(err)
	}
}

func provisionError(tb testing.TB, what func(caddy.Context) error) error {
	tb.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	return what(ctx)
}

func request(headers http.Header) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/openstack/latest/meta_data.json", nil)
	r.Header = headers
	return r
}

// signed is what a real agent sends for instanceA.
func signed(secret string) http.Header {
	return http.Header{
		"X-Forwarded-For":         {"10.0.0.5"},
		"X-Instance-Id":           {instanceA},
		"X-Tenant-Id":             {tenantA},
		"X-Instance-Id-Signature": {Sign(decision.NewSecret(secret), instanceA)},
	}
}
