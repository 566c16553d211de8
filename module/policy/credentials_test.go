// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// clientCertificate makes a certificate and gives the files of both parts.
func clientCertificate(t testing.TB) (certificate *x509.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "metaguard"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	encodedKey, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	certFile, keyFile = root+"/client.pem", root+"/client.key"
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encodedKey})))
	return certificate, certFile, keyFile
}

// tlsServer serves one bundle to who is let in.
func tlsServer(t testing.TB, clients *x509.CertPool, handler http.HandlerFunc) (server *httptest.Server, caFile string) {
	t.Helper()
	server = httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = nil
	if clients != nil {
		server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	caFile = t.TempDir() + "/ca.pem"
	write(t, caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return server, caFile
}

func deniesUserdata(t testing.TB, config string) {
	t.Helper()
	path := t.TempDir() + "/opa.yaml"
	write(t, path, config)
	e := remoteEngine(t, Config{OPA: path})
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@r1" {
		t.Errorf("%+v", r)
	}
}

// A service can ask for a client's certificate.
func TestClientCertificate(t *testing.T) {
	certificate, certFile, keyFile := clientCertificate(t)
	clients := x509.NewCertPool()
	clients.AddCert(certificate)
	content := teamBundle(t, "r1", "userdata")
	server, caFile := tlsServer(t, clients, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	deniesUserdata(t, fmt.Sprintf(`services:
  s:
    url: %s
    tls: {ca_cert: %s}
    credentials:
      client_tls: {cert: %s, private_key: %s}
bundles: {team: {service: s, resource: team.tar.gz}}
`, server.URL, caFile, certFile, keyFile))
}

// A service can ask for a token that another server gives (RFC 6749, client
// credentials).
func TestOAuth2(t *testing.T) {
	t.Setenv("METAGUARD_TEST_CLIENT_SECRET", "planted-client-secret")
	content := teamBundle(t, "r1", "userdata")
	var tokens atomic.Int64
	server, caFile := tlsServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			body, _ := io.ReadAll(r.Body)
			id, secret, _ := r.BasicAuth()
			if id != "metaguard" || secret != "planted-client-secret" || !strings.Contains(string(body), "grant_type=client_credentials") {
				http.Error(w, "who?", http.StatusUnauthorized)
				return
			}
			tokens.Add(1)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token": "one", "token_type": "Bearer", "expires_in": 3600}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer one" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(content)
	})
	deniesUserdata(t, fmt.Sprintf(`services:
  s:
    url: %s
    tls: {ca_cert: %s}
    credentials:
      oauth2: {token_url: %s/token, client_id: metaguard, client_secret: "${METAGUARD_TEST_CLIENT_SECRET}"}
bundles: {team: {service: s, resource: team.tar.gz}}
`, server.URL, caFile, server.URL))
	if tokens.Load() == 0 {
		t.Error("no token was asked for")
	}
}
