// SPDX-License-Identifier: Apache-2.0

package password

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxInstanceID bounds an instance id, in bytes.
const maxInstanceID = 256

// Key names the instance that a record belongs to.
type Key struct {
	instance string // folded, see NewKey
	name     string
}

// NewKey makes the key of an instance. Two spellings of one UUID in different
// case are one instance, since a database that compares without case would
// take them for one; any other id is taken as it is. An id that is empty, over
// 256 bytes, not UTF-8 or with a zero byte is an error.
func NewKey(instanceID string) (Key, error) {
	switch {
	case instanceID == "":
		return Key{}, errors.New("no instance id")
	case len(instanceID) > maxInstanceID:
		return Key{}, errors.New("instance id is too long")
	case !utf8.ValidString(instanceID) || strings.IndexByte(instanceID, 0) >= 0:
		return Key{}, errors.New("instance id is not plain text")
	}
	if isUUID(instanceID) {
		folded := strings.ToLower(instanceID)
		return Key{instance: folded, name: folded}, nil
	}
	sum := sha256.Sum256([]byte(instanceID))
	return Key{instance: instanceID, name: hex.EncodeToString(sum[:])}, nil
}

// Name is safe in file names and in keys of a store: the UUID in lower case,
// or 64 hexadecimal digits (SHA-256) of an id that is no UUID.
func (k Key) Name() string { return k.name }

// isUUID tells whether id is a UUID in its form of 36 characters.
func isUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}
