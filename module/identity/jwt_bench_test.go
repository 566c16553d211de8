// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"testing"
)

// BenchmarkJWTIdentify is what a token costs from header to caller.
func BenchmarkJWTIdentify(b *testing.B) {
	k := testKeys()
	j := newJWT(b, allKeys(), nil)
	for _, test := range []struct {
		algorithm, kid string
		key            any
	}{
		{"RS256", "rsa", k.rsa},
		{"PS256", "rsa", k.rsa},
		{"ES256", "p256", k.p256},
		{"ES384", "p384", k.p384},
		{"EdDSA", "ed", k.ed},
	} {
		r := withBearer(signedBy(test.key, doc{"alg": test.algorithm, "kid": test.kid, "typ": "JWT"}, goodPayload().but(doc{"scope": "read write"})))
		b.Run(test.algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if caller, refusal := j.Identify(r, stranger); caller == nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}

// BenchmarkJWTRefuse is what a forged token costs that names no known key.
func BenchmarkJWTRefuse(b *testing.B) {
	j := newJWT(b, allKeys(), nil)
	r := withBearer(signedBy(testKeys().ed, goodHeader().but(doc{"kid": "forged"}), goodPayload()))
	b.ReportAllocs()
	for b.Loop() {
		if caller, _ := j.Identify(r, stranger); caller != nil {
			b.Fatal("a caller")
		}
	}
}

// BenchmarkJWTUnclaimed is what the source costs a request without a token.
func BenchmarkJWTUnclaimed(b *testing.B) {
	j := newJWT(b, allKeys(), nil)
	r := request(nil)
	b.ReportAllocs()
	for b.Loop() {
		if caller, refusal := j.Identify(r, stranger); caller != nil || refusal != nil {
			b.Fatal("claimed")
		}
	}
}
