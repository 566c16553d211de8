// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// MinFingerprintKey is the shortest fingerprint key, in bytes. A fingerprint
// of a short plain-text password could be guessed by whoever has its key.
const MinFingerprintKey = 32

// NewFingerprintKey makes a random key, as text that can be stored and given
// to ParseFingerprintKey: 64 hexadecimal digits and a newline. Keep it in
// another place than the latch.
func NewFingerprintKey() []byte {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return append(hex.AppendEncode(nil, random[:]), '\n')
}

// ParseFingerprintKey takes a stored or given key. Line ends at its end do not
// belong to it; all other bytes do.
func ParseFingerprintKey(text []byte) (decision.Secret, error) {
	text = bytes.TrimRight(text, "\r\n")
	if len(text) < MinFingerprintKey {
		return decision.Secret{}, fmt.Errorf("a fingerprint key must have at least %d bytes", MinFingerprintKey)
	}
	return decision.NewSecret(string(text)), nil
}

// fingerprint is a keyed fingerprint of a password: the key's id, a colon and the MAC, in
// hexadecimal digits; empty is none.
type fingerprint string

const (
	printKeyIDSize = 16 // hexadecimal digits
	printSize      = printKeyIDSize + 1 + 2*sha256.Size
)

// valid tells whether p has the form of a fingerprint.
func (p fingerprint) valid() bool {
	if len(p) != printSize || p[printKeyIDSize] != ':' {
		return false
	}
	for i := range len(p) {
		if i != printKeyIDSize && strings.IndexByte("0123456789abcdef", p[i]) < 0 {
			return false
		}
	}
	return true
}

// keyID is the part that names the key.
func (p fingerprint) keyID() string { return string(p[:printKeyIDSize]) }

// printer makes and compares fingerprints. The first key signs, all verify.
type printer struct {
	keys []printKey
}

type printKey struct {
	id     string
	secret decision.Secret
}

func newPrinter(secrets []decision.Secret) (printer, error) {
	var made printer
	for i, secret := range secrets {
		if len(secret.Reveal()) < MinFingerprintKey {
			return printer{}, fmt.Errorf("fingerprint key %d has less than %d bytes", i+1, MinFingerprintKey)
		}
		// No instance id is empty, so this is no fingerprint of anything.
		mac := hmac.New(sha256.New, secret.Reveal())
		mac.Write([]byte("\x00metaguard fingerprint key"))
		made.keys = append(made.keys, printKey{
			id:     hex.EncodeToString(mac.Sum(nil))[:printKeyIDSize],
			secret: secret,
		})
	}
	return made, nil
}

// on tells whether fingerprints are made at all.
func (p printer) on() bool { return len(p.keys) > 0 }

// sign makes the fingerprint of a password, or none without a key.
func (p printer) sign(key Key, body []byte) fingerprint {
	if !p.on() {
		return ""
	}
	return p.keys[0].of(key, body)
}

// matches tells whether body has one of the fingerprints.
func (p printer) matches(key Key, body []byte, prints []fingerprint) bool {
	found := 0
	for _, k := range p.keys {
		made := []byte(k.of(key, body))
		for _, kept := range prints {
			found |= subtle.ConstantTimeCompare(made, []byte(kept))
		}
	}
	return found == 1
}

// knows tells whether the key of a fingerprint is given.
func (p printer) knows(kept fingerprint) bool {
	for _, k := range p.keys {
		if k.id == kept.keyID() {
			return true
		}
	}
	return false
}

func (k printKey) of(key Key, body []byte) fingerprint {
	mac := hmac.New(sha256.New, k.secret.Reveal())
	mac.Write([]byte(key.instance))
	mac.Write([]byte{0})
	mac.Write(body)
	return fingerprint(k.id + ":" + hex.EncodeToString(mac.Sum(nil)))
}
