// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testIssuer   = "https://issuer.example/realm"
	testAudience = "metaguard"
)

// testKeys are made once: RSA keys take a while.
var testKeys = sync.OnceValue(func() (keys struct {
	rsa, other *rsa.PrivateKey
	weak       *rsa.PrivateKey
	p256, p384 *ecdsa.PrivateKey
	p521       *ecdsa.PrivateKey
	ed         ed25519.PrivateKey
},
) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	keys.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	keys.other, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	keys.weak, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	keys.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	keys.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	keys.p521, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, keys.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return keys
})

// doc is a JSON object.
type doc map[string]any

// but gives a copy with other members; nil removes one.
func (d doc) but(changes doc) doc {
	changed := maps.Clone(d)
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
		} else {
			changed[name] = value
		}
	}
	return changed
}

func (d doc) String() string {
	text, err := json.Marshal(map[string]any(d))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signedBy makes a token with the standard library alone.
func signedBy(key any, header, payload fmt.Stringer) string {
	return signedText(key, header.String(), payload.String())
}

func signedText(key any, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	var members struct{ Alg string }
	_ = json.Unmarshal([]byte(header), &members)
	return input + "." + base64.RawURLEncoding.EncodeToString(signatureBy(key, members.Alg, []byte(input)))
}

func signatureBy(key any, algorithm string, input []byte) []byte {
	hash := crypto.SHA256
	switch {
	case strings.HasSuffix(algorithm, "384"):
		hash = crypto.SHA384
	case strings.HasSuffix(algorithm, "512"):
		hash = crypto.SHA512
	}
	h := hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	var signature []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(algorithm, "PS") {
			signature, err = rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, key, hash, digest)
		}
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, key, digest)
		size := (key.Curve.Params().BitSize + 7) / 8
		signature = make([]byte, 2*size)
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, input)
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write(input)
		signature = mac.Sum(nil)
	case nil:
	}
	if err != nil {
		panic(err)
	}
	return signature
}

// jwkOf is the public half of a key, written by hand.
func jwkOf(key any, id string) doc {
	number := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	var d doc
	switch key := key.(type) {
	case *rsa.PrivateKey:
		d = doc{"kty": "RSA", "n": number(key.N, (key.N.BitLen()+7)/8), "e": "AQAB"}
	case *ecdsa.PrivateKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		d = doc{"kty": "EC", "crv": key.Curve.Params().Name, "x": number(key.X, size), "y": number(key.Y, size)}
	case ed25519.PrivateKey:
		d = doc{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}
	case []byte:
		d = doc{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(key)}
	}
	if id != "" {
		d["kid"] = id
	}
	return d
}

func keySetOf(keys ...doc) string {
	return doc{"keys": keys}.String()
}

// allKeys is the key set of most tests.
func allKeys() string {
	k := testKeys()
	return keySetOf(jwkOf(k.rsa, "rsa"), jwkOf(k.p256, "p256"), jwkOf(k.p384, "p384"), jwkOf(k.p521, "p521"), jwkOf(k.ed, "ed"))
}

// goodPayload is a token's that holds now.
func goodPayload() doc {
	now := time.Now().Unix()
	return doc{
		"iss": testIssuer, "aud": testAudience, "sub": "user-1",
		"iat": now - 10, "nbf": now - 10, "exp": now + 600,
	}
}

func goodHeader() doc { return doc{"alg": "RS256", "kid": "rsa", "typ": "JWT"} }

// newJWT provisions a source whose keys are in a file.
func newJWT(tb testing.TB, set string, change func(*JWT)) *JWT {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "jwks.json")
	writeFile(tb, path, set)
	j := &JWT{Issuer: testIssuer, Audience: []string{testAudience}, JWKS: &JWKS{File: path}}
	if change != nil {
		change(j)
	}
	provisionJWT(tb, j)
	return j
}

func provisionJWT(tb testing.TB, j *JWT) {
	tb.Helper()
	provision(tb, j.Provision)
	if err := j.Validate(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Cleanup() })
}

func withBearer(token string) *http.Request {
	return request(http.Header{"Authorization": {"Bearer " + token}})
}
