// SPDX-License-Identifier: Apache-2.0

// Package session makes and checks session tokens as EC2's IMDSv2 has them:
// step 3 of a request's way.
//
// A token is had with a PUT and a header of its own, and shown in a header with
// every other request. It proves that whoever asks can choose method and
// headers, which most server-side request forgeries cannot, and that no proxy
// stood between it and Metaguard which adds Forwarded or X-Forwarded-For. The
// answer with the token may also leave with so low an IP TTL that it does not
// get past the first router. A token proves nothing about who calls: that is
// known before it is asked for, and it counts for that caller only.
//
// # Tokens
//
// A token is self-contained, so that no memory grows with clients and every
// replica with the same key takes it. It is, in base64url without padding:
//
//	version (1 byte) | nonce (24) | XChaCha20-Poly1305 of issued, expires (16) and tag (16)
//
// Both times are milliseconds since 1970, 8 bytes each, the high one first. The
// version, the caller and the site are authenticated with them, so that
// another's token, or one of another site, is as foreign as a made-up one. The
// cipher's key is derived from the operator's secret with HKDF-SHA-256, for this
// use alone.
//
// # Clocks
//
// Replicas have clocks of their own. A token that was made up to 30 s in the
// future is taken, with an age of zero; one from further on is not. A token
// that is shown to a replica whose clock is late lives as much longer.
package session

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/metaguard/metaguard/module/decision"
)

const (
	// MinSecret is the shortest secret of which keys are made, in bytes.
	MinSecret = 32
	// MinTTL is the shortest time for which a token can be asked, as in IMDSv2.
	MinTTL = time.Second
	// MaxTTL is the longest.
	MaxTTL = 6 * time.Hour
)

// Keys makes and checks tokens. They never change, so any number of requests
// may use them at a time.
type Keys struct {
	ciphers []cipher.AEAD // the first makes tokens
	maxTTL  time.Duration
}

// NewKeys derives the keys from the secrets: the first makes tokens, all of them
// are taken. No token counts for longer than maxTTL, whatever it was made for.
func NewKeys(secrets []decision.Secret, maxTTL time.Duration) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("session tokens need a key")
	}
	if maxTTL < MinTTL || maxTTL > MaxTTL {
		return nil, fmt.Errorf("session tokens live %s to %s, not %s", MinTTL, MaxTTL, maxTTL)
	}
	k := &Keys{maxTTL: maxTTL}
	for _, secret := range secrets {
		if len(secret.Reveal()) < MinSecret {
			return nil, errShort
		}
		key, err := hkdf.Key(sha256.New, secret.Reveal(), nil, "metaguard session token v1", chacha20poly1305.KeySize)
		if err != nil {
			return nil, fmt.Errorf("deriving a session key: %w", err)
		}
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, fmt.Errorf("making a session cipher: %w", err)
		}
		k.ciphers = append(k.ciphers, aead)
	}
	return k, nil
}

var errShort = fmt.Errorf("a session key must have at least %d bytes", MinSecret)

// NewSecret makes a random secret, as text that can be stored and given to
// ParseSecret: 64 hexadecimal digits and a newline.
func NewSecret() []byte {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return append(hex.AppendEncode(nil, random[:]), '\n')
}

// ParseSecret takes a stored or given secret. Line ends at its end do not belong
// to it; all other bytes do.
func ParseSecret(text []byte) (decision.Secret, error) {
	for len(text) > 0 && (text[len(text)-1] == '\n' || text[len(text)-1] == '\r') {
		text = text[:len(text)-1]
	}
	if len(text) < MinSecret {
		return decision.Secret{}, errShort
	}
	return decision.NewSecret(string(text)), nil
}
