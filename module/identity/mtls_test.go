// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// certificate is one that went through DER, as a connection's has.
func certificate(tb testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xabc),
		Subject:      pkix.Name{CommonName: "worker", Organization: []string{"ops"}},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

func uris(texts ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, text := range texts {
			uri, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, uri)
		}
	}
}

func overTLS(sent *x509.Certificate, verified bool) *http.Request {
	r := request(http.Header{})
	r.TLS = new(tls.ConnectionState)
	if sent != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{sent}
	}
	if verified {
		r.TLS.VerifiedChains = [][]*x509.Certificate{{sent}}
	}
	return r
}

func TestMTLSIdentify(t *testing.T) {
	many := func(c *x509.Certificate) {
		for i := range maxCertificateNames + 1 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("h%d.example", i))
		}
	}
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		id     string
		code   string
	}{
		"spiffe":                {uris("spiffe://example.org/ns/a/sa/b"), "spiffe://example.org/ns/a/sa/b", ""},
		"subject":               {func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }, "subject:CN=worker,O=ops", ""},
		"another URI":           {uris("https://a.example/x", "urn:y"), "subject:CN=worker,O=ops", ""},
		"DNS name only":         {func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{}, []string{"a.example", "b.example"} }, "dns:a.example", ""},
		"nothing at all":        {func(c *x509.Certificate) { c.Subject = pkix.Name{} }, "certificate:", ""},
		"names at the limit":    {func(c *x509.Certificate) { many(c); c.DNSNames = c.DNSNames[1:] }, "subject:CN=worker,O=ops", ""},
		"two spiffe ids":        {uris("spiffe://example.org/a", "spiffe://example.org/b"), "", "certificate_spiffe"},
		"spiffe beside another": {uris("https://a.example/", "spiffe://example.org/b"), "", "certificate_spiffe"},
		"spiffe with a query":   {uris("spiffe://example.org/a?b=c"), "", "certificate_spiffe"},
		"spiffe with dots":      {uris("spiffe://example.org/a/../b"), "", "certificate_spiffe"},
		"spiffe without domain": {uris("spiffe:///a"), "", "certificate_spiffe"},
		"expired since":         {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, "", "certificate_expired"},
		"too many names":        {many, "", "certificate_too_large"},
		"a long subject":        {func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", maxSubjectName) }, "", "certificate_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := certificate(t, test.change)
			caller, refusal := new(MTLS).Identify(overTLS(sent, true), stranger)
			if test.code != "" {
				if caller != nil || refusal == nil || refusal.Code != test.code || refusal.Reason != "identity_invalid" {
					t.Fatalf("%+v, %v, want %s", caller, refusal, test.code)
				}
				return
			}
			if refusal != nil || !strings.HasPrefix(caller.ID, test.id) || caller.Source != "mtls" || caller.Address != stranger || caller.InstanceID != "" {
				t.Fatalf("%+v, %v, want id %s", caller, refusal, test.id)
			}
			if caller.Claims["spiffe_id"] != "" && caller.Claims["spiffe_id"] != test.id {
				t.Errorf("claims %v", caller.Claims)
			}
			// One that was only sent is a claim all the same.
			caller, refusal = new(MTLS).Identify(overTLS(sent, false), stranger)
			if caller != nil || refusal == nil || refusal.Code != "certificate_unverified" {
				t.Errorf("unverified: %+v, %v", caller, refusal)
			}
		})
	}
}

func TestMTLSUnclaimed(t *testing.T) {
	for name, r := range map[string]*http.Request{"without TLS": request(http.Header{}), "without a certificate": overTLS(nil, false)} {
		if caller, refusal := new(MTLS).Identify(r, stranger); caller != nil || refusal != nil {
			t.Errorf("%s: %+v, %v", name, caller, refusal)
		}
	}
}

func TestMTLSClaims(t *testing.T) {
	sent := certificate(t, func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses = []string{"a.example"}, []string{"a@example"}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}
		uris("urn:x")(c)
	})
	caller, refusal := new(MTLS).Identify(overTLS(sent, true), stranger)
	if refusal != nil {
		t.Fatal(refusal)
	}
	delete(caller.Claims, "sha256")
	got, err := json.Marshal(caller.Claims)
	want := fmt.Sprintf(`{"common_name":"worker","dns_names":["a.example"],"email_addresses":["a@example"],"ip_addresses":["192.0.2.1","2001:db8::1"],`+
		`"issuer":"CN=worker,O=ops","not_after":%d,"serial_number":"abc","spiffe_id":"","subject":"CN=worker,O=ops","uris":["urn:x"]}`, sent.NotAfter.Unix())
	if err != nil || string(got) != want {
		t.Errorf("%s\nwant %s (%v)", got, want, err)
	}
}

// A site that verifies nobody, or anybody whom the system's authorities know,
// is refused when the configuration is loaded.
func TestMTLSSite(t *testing.T) {
	ca := json.RawMessage(`{"provider":"file"}`)
	//nolint:staticcheck // deprecated, and still in use
	listed, files, leaves := &caddytls.ClientAuthentication{Mode: "require_and_verify", TrustedCACerts: []string{"x"}},
		&caddytls.ClientAuthentication{TrustedCACertPEMFiles: []string{"x"}}, &caddytls.ClientAuthentication{TrustedLeafCerts: []string{"x"}}
	for name, test := range map[string]struct {
		auth *caddytls.ClientAuthentication
		good bool
	}{
		"none":                   {nil, false},
		"request":                {&caddytls.ClientAuthentication{Mode: "request", CARaw: ca}, false},
		"require":                {&caddytls.ClientAuthentication{Mode: "require", CARaw: ca}, false},
		"the system's":           {&caddytls.ClientAuthentication{Mode: "require_and_verify"}, false},
		"verify_if_given":        {&caddytls.ClientAuthentication{Mode: "verify_if_given", CARaw: ca}, true},
		"require_and_verify":     {listed, true},
		"the default, and a CA":  {files, true},
		"the default without CA": {leaves, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := &caddyhttp.Server{TLSConnPolicies: caddytls.ConnectionPolicies{nil, {ClientAuthentication: test.auth}}}
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.WithValue(t.Context(), caddyhttp.ServerCtxKey, server)})
			defer cancel()
			err := new(MTLS).Provision(ctx)
			if (err == nil) != test.good || err != nil && !strings.Contains(err.Error(), "client_auth") {
				t.Error(err)
			}
		})
	}
}

func BenchmarkMTLS(b *testing.B) {
	r := overTLS(certificate(b, uris("spiffe://example.org/ns/a/sa/b")), true)
	b.ReportAllocs()
	for b.Loop() {
		if caller, _ := new(MTLS).Identify(r, stranger); caller == nil {
			b.Fatal("refused")
		}
	}
}
