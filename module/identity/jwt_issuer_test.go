// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	example "github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// provider is a real OpenID provider that runs in the test: Zitadel's, with
// keys that can be changed while it runs. Its tokens are made by go-jose, and
// come through a grant over HTTP.
type provider struct {
	op.Storage // the example's, for all that is not said here
	server     *httptest.Server
	handler    http.Handler

	guard    sync.Mutex
	keys     []providerKey // the first signs
	audience []string
	lifetime time.Duration
}

type providerKey struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   any
}

func (k providerKey) ID() string                                  { return k.id }
func (k providerKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k providerKey) Key() any                                    { return k.private }

type publicProviderKey struct{ providerKey }

func (k publicProviderKey) Algorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k publicProviderKey) Use() string                        { return "sig" }

func (k publicProviderKey) Key() any {
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		return &private.PublicKey
	case *ecdsa.PrivateKey:
		return &private.PublicKey
	}
	return nil
}

// serviceClient gets tokens that are JWTs.
type serviceClient struct{ op.Client }

func (serviceClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{audience: []string{testAudience}, lifetime: 5 * time.Minute}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }))
	t.Cleanup(p.server.Close)
	p.Storage = example.NewStorage(example.NewUserStore(p.server.URL))
	p.rotate(providerKey{"first", jose.RS256, testKeys().rsa})
	var err error
	p.handler, err = op.NewProvider(
		&op.Config{CryptoKey: [32]byte{1}}, p, op.StaticIssuer(p.server.URL),
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) rotate(keys ...providerKey) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.keys = keys
}

func (p *provider) issues(lifetime time.Duration, audience ...string) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.lifetime, p.audience = lifetime, audience
}

func (p *provider) SigningKey(context.Context) (op.SigningKey, error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	return p.keys[0], nil
}

func (p *provider) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256}, nil
}

func (p *provider) KeySet(context.Context) ([]op.Key, error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	var keys []op.Key
	for _, key := range p.keys {
		keys = append(keys, publicProviderKey{key})
	}
	return keys, nil
}

func (p *provider) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	client, err := p.Storage.(op.ClientCredentialsStorage).ClientCredentials(ctx, id, secret)
	return serviceClient{client}, err
}

func (p *provider) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	return &oidc.JWTTokenRequest{Subject: id, Audience: slices.Clone(p.audience), Scopes: scopes}, nil
}

func (p *provider) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	return uuid.NewString(), time.Now().Add(p.lifetime), nil
}

// token gets one by the client credentials grant.
func (p *provider) token(t *testing.T) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"metadata"}}
	r, err := http.NewRequest(http.MethodPost, p.server.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("sid1", "verysecret")
	response, err := p.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK || answer.AccessToken == "" {
		t.Fatalf("no token: status %d, %v", response.StatusCode, err)
	}
	return answer.AccessToken
}

func TestJWTRealIssuer(t *testing.T) {
	k := testKeys()
	p := newProvider(t)
	j, _ := watched(t, nil, func(j *JWT) { j.Issuer = p.server.URL })
	started(t, j)

	token := p.token(t)
	caller := identified(t, j, token)
	if caller.ID != "jwt:"+p.server.URL+"#sid1" || caller.Claims["iss"] != p.server.URL || caller.Claims["client_id"] != "sid1" {
		t.Errorf("%+v", caller)
	}
	if status := j.Status(); status.Keys != 1 || status.Failures != 0 || status.Where != p.server.URL+"/.well-known/openid-configuration" {
		t.Errorf("%+v", status)
	}

	t.Run("attacks", func(t *testing.T) {
		parts := strings.Split(token, ".")
		payload := decoded(t, parts[1])
		header := decoded(t, parts[0])
		for want, forged := range map[string]string{
			"jwt_algorithm":       signedBy(k.rsa.N.Bytes(), header.but(doc{"alg": "HS256"}), payload),
			"jwt_key_unknown":     signedBy(k.other, header.but(doc{"kid": "mine"}), payload),
			"jwt_signature_wrong": signedBy(k.other, header, payload.but(doc{"sub": "root"})),
			"jwt_issuer":          signedBy(k.rsa, header, payload.but(doc{"iss": p.server.URL + "/"})),
			"jwt_not_yet_valid":   signedBy(k.rsa, header, payload.but(doc{"nbf": time.Now().Unix() + 300})),
			"jwt_too_long":        token + strings.Repeat("A", maxToken),
			"jwt_malformed":       parts[0] + "." + parts[1],
		} {
			if code := codeOf(j, forged); code != want {
				t.Errorf("%q, want %q", code, want)
			}
		}
	})
	t.Run("another audience", func(t *testing.T) {
		p.issues(5*time.Minute, "another-service")
		if code := codeOf(j, p.token(t)); code != "jwt_audience" {
			t.Error(code)
		}
	})
	t.Run("expired", func(t *testing.T) {
		p.issues(-time.Minute, testAudience)
		if code := codeOf(j, p.token(t)); code != "jwt_expired" {
			t.Error(code)
		}
	})
	t.Run("rotation", func(t *testing.T) {
		p.issues(5*time.Minute, testAudience)
		p.rotate(providerKey{"second", jose.ES256, k.p256}, providerKey{"first", jose.RS256, k.rsa})
		rotated := p.token(t)
		j.keys.guard.Lock()
		j.keys.tried = time.Now().Add(-minRenewal)
		j.keys.guard.Unlock()
		// Its key is not known yet, so it makes the keys be fetched.
		identified(t, j, rotated)
		identified(t, j, token)
		if status := j.Status(); status.Keys != 2 {
			t.Errorf("%+v", status)
		}
	})
	t.Run("withdrawal", func(t *testing.T) {
		p.rotate(providerKey{"second", jose.ES256, k.p256})
		old := token
		j.keys.refresh(context.Background())
		if code := codeOf(j, old); code != "jwt_key_unknown" {
			t.Error(code)
		}
		identified(t, j, p.token(t))
	})
}

// decoded reads a part of a token.
func decoded(t *testing.T, part string) doc {
	t.Helper()
	text, err := base64URL.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	var members doc
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		t.Fatal(err)
	}
	return members
}
