// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strings"
	"testing"
)

func TestJWTKeysThatAreSkipped(t *testing.T) {
	k := testKeys()
	scalar, err := k.p256.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	private := jwkOf(k.p256, "private").but(doc{"d": encode(string(scalar))})
	tests := map[string]struct {
		key  doc
		want string // algorithms; empty: skipped
	}{
		"RSA":                 {jwkOf(k.rsa, "x"), "RS256 RS384 RS512 PS256 PS384 PS512"},
		"RSA for one":         {jwkOf(k.rsa, "x").but(doc{"alg": "PS384"}), "PS384"},
		"RSA for ES256":       {jwkOf(k.rsa, "x").but(doc{"alg": "ES256"}), ""},
		"RSA for HS256":       {jwkOf(k.rsa, "x").but(doc{"alg": "HS256"}), ""},
		"RSA for encryption":  {jwkOf(k.rsa, "x").but(doc{"alg": "RSA-OAEP"}), ""},
		"RSA of no known alg": {jwkOf(k.rsa, "x").but(doc{"alg": "RS999"}), ""},
		"RSA, weak":           {jwkOf(k.weak, "x"), ""},
		"RSA, exponent 1":     {jwkOf(k.rsa, "x").but(doc{"e": "AQ"}), ""},
		"RSA, exponent even":  {jwkOf(k.rsa, "x").but(doc{"e": "BA"}), ""},
		"RSA, no modulus":     {jwkOf(k.rsa, "x").but(doc{"n": nil}), ""},
		"use sig":             {jwkOf(k.ed, "x").but(doc{"use": "sig"}), "EdDSA"},
		"use enc":             {jwkOf(k.ed, "x").but(doc{"use": "enc"}), ""},
		"key_ops verify":      {jwkOf(k.ed, "x").but(doc{"key_ops": []string{"verify"}}), "EdDSA"},
		"key_ops sign":        {jwkOf(k.ed, "x").but(doc{"key_ops": []string{"sign"}}), ""},
		"key_ops wrapKey":     {jwkOf(k.rsa, "x").but(doc{"key_ops": []string{"wrapKey", "encrypt"}}), ""},
		"Ed25519 by new name": {jwkOf(k.ed, "x").but(doc{"alg": "Ed25519"}), "EdDSA"},
		"Ed25519 by old name": {jwkOf(k.ed, "x").but(doc{"alg": "EdDSA"}), "EdDSA"},
		"Ed25519 cut":         {jwkOf(k.ed, "x").but(doc{"x": "AAAA"}), ""},
		"X25519":              {jwkOf(k.ed, "x").but(doc{"crv": "X25519"}), ""},
		"P-256":               {jwkOf(k.p256, "x"), "ES256"},
		"P-384":               {jwkOf(k.p384, "x"), "ES384"},
		"P-521":               {jwkOf(k.p521, "x"), "ES512"},
		"P-256 as P-384":      {jwkOf(k.p256, "x").but(doc{"crv": "P-384"}), ""},
		"off the curve":       {jwkOf(k.p256, "x").but(doc{"y": jwkOf(k.p256, "")["x"]}), ""},
		"secp256k1":           {jwkOf(k.p256, "x").but(doc{"crv": "secp256k1"}), ""},
		"private by mistake":  {private, "ES256"},
		"shared":              {jwkOf([]byte(strings.Repeat("s", 32)), "x"), ""},
		"of an unknown type":  {doc{"kty": "AKP", "kid": "x", "alg": "ML-DSA-44", "pub": "AAAA"}, ""},
		"without a type":      {doc{"kid": "x"}, ""},
		"kid a number":        {jwkOf(k.ed, "").but(doc{"kid": 1}), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			// One that is skipped spoils nothing for the others.
			set, err := parseKeySet([]byte(keySetOf(test.key, jwkOf(k.other, "other"))))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(set.keys) == 2 {
				got = strings.Join(set.keys[0].algorithms, " ")
			}
			if got != test.want || len(set.keys)+set.skipped != 2 {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestJWTFind(t *testing.T) {
	k := testKeys()
	set, err := parseKeySet([]byte(keySetOf(
		jwkOf(k.rsa, "both"), jwkOf(k.p256, "both"), jwkOf(k.p384, ""), jwkOf(k.other, "twin"), jwkOf(k.rsa, "twin"), jwkOf(k.ed, "for"),
	)))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		alg, kid string // kid -: none
		index    int
		code     string
		missing  bool
	}{
		{"RS256", "both", 0, "", false},
		{"ES256", "both", 1, "", false},
		{"EdDSA", "both", -1, "jwt_algorithm", false},
		{"RS256", "twin", -1, "jwt_key_unknown", false},
		{"RS256", "-", -1, "jwt_key_unknown", false},
		{"ES384", "-", 2, "", false},
		{"ES384", "", -1, "jwt_key_unknown", true},
		{"ES512", "-", -1, "jwt_key_unknown", true},
		{"EdDSA", "-", 5, "", false},
		{"EdDSA", "FOR", -1, "jwt_key_unknown", true},
	} {
		header := tokenHeader{alg: test.alg, kid: test.kid, named: test.kid != "-"}
		if !header.named {
			header.kid = ""
		}
		key, code, missing := set.find(header)
		if code != test.code || missing != test.missing || (key != nil) != (test.index >= 0) || key != nil && key != set.keys[test.index] {
			t.Errorf("%s %s: %+v %q %t", test.alg, test.kid, key, code, missing)
		}
	}
}
