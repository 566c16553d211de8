// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// A projected service account token, with the keys where an API server has
// them: behind its own authority, for whoever has a token that is rotated.
func TestJWTKubernetes(t *testing.T) {
	k := testKeys()
	dir := t.TempDir()
	tokenFile, caFile := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	valid := "first-" + planted
	server := newKeyHost(t, httptest.NewTLSServer)
	serve := func(keys string) {
		wanted := "Bearer " + valid
		server.does(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Header.Get("Authorization") != wanted:
				w.WriteHeader(http.StatusForbidden)
			case r.URL.Path == "/.well-known/openid-configuration":
				_, _ = w.Write([]byte(doc{
					"issuer": server.URL, "jwks_uri": server.URL + "/openid/v1/jwks", "response_types_supported": []string{"id_token"},
					"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
				}.String()))
			case r.URL.Path == "/openid/v1/jwks":
				w.Header().Set("Content-Type", "application/jwk-set+json")
				_, _ = w.Write([]byte(keys))
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
	}
	serve(keySetOf(jwkOf(k.rsa, "k8s").but(doc{"use": "sig", "alg": "RS256"})))
	writeFile(t, tokenFile, valid+"\n")
	writeFile(t, caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))

	j, logs := watched(t, &JWKS{CA: caFile, Token: "{file." + tokenFile + "}"}, func(j *JWT) {
		j.Issuer = server.URL
		j.Claims = []string{"sub", "kubernetes.io", "kubernetes.io.pod.name"}
		j.Target = &TargetRule{By: targetByClaim, Claim: "kubernetes.io.pod.uid"}
		j.Project = "kubernetes.io.namespace"
	})
	j.keys.interval = 5 * time.Millisecond
	started(t, j)

	now := time.Now().Unix()
	payload := doc{
		"aud": []string{testAudience}, "exp": now + 3607, "iat": now, "nbf": now, "iss": server.URL, "jti": "0b2e5c0c-5b3e-4f0a-9f0e-000000000000",
		"kubernetes.io": doc{
			"namespace": "web", "node": doc{"name": "node-1", "uid": instanceB},
			"pod":            doc{"name": "app-7d4b9", "uid": instanceA},
			"serviceaccount": doc{"name": "app", "uid": instanceB}, "warnafter": now + 3000,
		},
		"sub": "system:serviceaccount:web:app",
	}
	token := signedBy(k.rsa, doc{"alg": "RS256", "kid": "k8s"}, payload)
	caller := identified(t, j, token)
	if caller.ID != "jwt:"+server.URL+"#system:serviceaccount:web:app" || caller.ProjectID != "web" {
		t.Errorf("%+v", caller)
	}
	account, _ := caller.Claims["kubernetes.io"].(map[string]any)
	if !reflect.DeepEqual(account["pod"], map[string]any{"name": "app-7d4b9", "uid": instanceA}) || caller.Claims["kubernetes.io.pod.name"] != "app-7d4b9" {
		t.Errorf("%#v", caller.Claims)
	}
	target, ok := j.TargetRule().Find(withBearer(token), stranger, caller)
	if want := (decision.Target{InstanceID: instanceA, ProjectID: "web"}); !ok || target != want {
		t.Errorf("target %+v, %t", target, ok)
	}
	// The token of an API server's default audience is for the API server.
	if code := codeOf(j, signedBy(k.rsa, doc{"alg": "RS256", "kid": "k8s"}, payload.but(doc{"aud": []string{server.URL}}))); code != "jwt_audience" {
		t.Error(code)
	}

	// The kubelet rotates the file; the next fetch has the new token.
	valid = "second-" + planted
	serve(keySetOf(jwkOf(k.rsa, "k8s"), jwkOf(k.p256, "k8s-2")))
	eventually(t, func() bool { return j.Status().Failures > 0 })
	identified(t, j, token)
	next := filepath.Join(dir, "next")
	writeFile(t, next, valid)
	if err := os.Rename(next, tokenFile); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return j.Status().Keys == 2 })
	j.Stop()
	noSecret(t, j, j.Status())
	for _, entry := range logs.All() {
		noSecret(t, entry.Message, entry.ContextMap())
	}
}
