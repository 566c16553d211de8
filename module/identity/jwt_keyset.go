// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	// maxKeySet and maxKeys bound what an issuer may publish.
	maxKeySet = 1 << 20
	maxKeys   = 100

	// minRSABits is what RFC 7518 demands.
	minRSABits = 2048
)

// jwtAlgorithms are the signature algorithms that can be allowed.
var jwtAlgorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// checkAlgorithm refuses an algorithm that proves nothing.
func checkAlgorithm(name string) error {
	switch {
	case slices.Contains(jwtAlgorithms, name):
		return nil
	case strings.EqualFold(name, "none"):
		return errors.New("algorithm none: whoever likes could write a token")
	case len(name) > 2 && strings.EqualFold(name[:2], "HS"):
		return fmt.Errorf("algorithm %s: whoever can verify with a shared key can also sign; let the issuer use a key pair", name)
	}
	return fmt.Errorf("unknown algorithm %q: there are %s", name, strings.Join(jwtAlgorithms, ", "))
}

// jwtKeySet is what an issuer published, without what cannot be used.
type jwtKeySet struct {
	keys    []*jwtKey
	skipped int
	digest  [sha256.Size]byte
}

// jwtKey is a public key for signatures.
type jwtKey struct {
	id         string
	named      bool     // it has an id
	algorithms []string // that fit it
	public     any
}

// parseKeySet reads a JSON Web Key Set. A key that is not for verifying
// signatures, that is no public key pair's, weak or not understood is skipped;
// with none left the set is an error. Errors show nothing of the text.
func parseKeySet(text []byte) (*jwtKeySet, error) {
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("the key set is longer than %d bytes", maxKeySet)
	}
	var list jsontext.Value
	err := eachMember(text, func(name []byte, value jsontext.Value) error {
		if string(name) == "keys" {
			list = value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the key set: it is %w", err)
	}
	if list.Kind() != '[' {
		return nil, errors.New(`reading the key set: it has no list "keys"`)
	}
	set := &jwtKeySet{digest: sha256.Sum256(text)}
	reader := jsontext.NewDecoder(bytes.NewBuffer(list))
	if _, err := reader.ReadToken(); err != nil {
		return nil, errors.New("reading the key set: its list cannot be read")
	}
	for count := 1; reader.PeekKind() != ']'; count++ {
		value, err := reader.ReadValue()
		if err != nil {
			return nil, errors.New("reading the key set: its list cannot be read")
		}
		if count > maxKeys {
			return nil, fmt.Errorf("the key set has more than %d keys", maxKeys)
		}
		if key := parseKey(value); key != nil {
			set.keys = append(set.keys, key)
		} else {
			set.skipped++
		}
	}
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("the key set has no key that can verify a signature, of %d", set.skipped)
	}
	return set, nil
}

// parseKey gives a key, or nil for one that is not to be used.
func parseKey(text []byte) *jwtKey {
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return nil
	}
	if use, ok := parsed.KeyUsage(); ok && use != "sig" {
		return nil
	}
	if operations, ok := parsed.KeyOps(); ok && !slices.Contains(operations, jwk.KeyOpVerify) {
		return nil
	}
	key := new(jwtKey)
	key.id, key.named = parsed.KeyID()
	// A private key should not be there; its public half still is right.
	if parsed, err = parsed.PublicKey(); err != nil {
		return nil
	}
	if err := jwk.Export(parsed, &key.public); err != nil {
		return nil
	}
	switch public := key.public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits || public.E < 3 || public.E%2 == 0 {
			return nil
		}
		key.algorithms = jwtAlgorithms[:6]
	case *ecdsa.PublicKey:
		algorithm := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[public.Curve.Params().Name]
		key.algorithms = []string{algorithm}
		if algorithm == "" {
			return nil
		}
	case ed25519.PublicKey:
		key.algorithms = []string{"EdDSA"}
	default: // a shared key, or one for encryption
		return nil
	}
	if algorithm, ok := parsed.Algorithm(); ok {
		name := algorithm.String()
		if name == "Ed25519" { // the newer name of the same (RFC 9864)
			name = "EdDSA"
		}
		if !slices.Contains(key.algorithms, name) {
			return nil
		}
		key.algorithms = []string{name}
	}
	return key
}

// find gives the one key that the header means, or the code of why there is
// none. Missing tells that newer keys may have it.
func (s *jwtKeySet) find(header tokenHeader) (found *jwtKey, code string, missing bool) {
	known := false
	for _, key := range s.keys {
		if header.named && (!key.named || key.id != header.kid) {
			continue
		}
		known = true
		if !slices.Contains(key.algorithms, header.alg) {
			continue
		}
		if found != nil { // to try them all would be to guess
			return nil, "jwt_key_unknown", false
		}
		found = key
	}
	switch {
	case found != nil:
		return found, "", false
	case header.named && known:
		return nil, "jwt_algorithm", false
	}
	return nil, "jwt_key_unknown", true
}
