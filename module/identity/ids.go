// SPDX-License-Identifier: Apache-2.0

package identity

import "github.com/google/uuid"

// instancePrefix begins the id of every caller that is an instance.
const instancePrefix = "instance:"

// uuidLen is the length of a UUID.
const uuidLen = 36

// maxProject is the longest project id; Keystone's own column has 64.
const maxProject = 64

// maxInstanceID is the longest instance id, in bytes.
const maxInstanceID = 64

// validInstanceID tells whether s can be an instance: a UUID in lower case, as
// OpenStack and Azure have them, or another name of 1 to 64 letters, digits and
// `-_.`, such as EC2's i-0123456789abcdef0 and GCE's numbers. Any other spelling of
// a UUID would be another instance to a policy and to the latch, so it is none. No
// comma, so two joined headers never pass for one.
func validInstanceID[T string | []byte](s T) bool {
	if isUUID(s) {
		return true
	}
	if len(s) == 0 || len(s) > maxInstanceID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	_, err := uuid.Parse(string(s))
	return err != nil // else it is a UUID in another spelling
}

// isUUID tells whether s is a UUID in lower case, 8-4-4-4-12, as Nova writes and
// compares it.
func isUUID[T string | []byte](s T) bool {
	if len(s) != uuidLen {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !lowerHex(s[i]) {
				return false
			}
		}
	}
	return true
}

// validProjectID tells whether s can be a project: 1 to 64 letters, digits and
// `-_.:`. Keystone's are 32 hexadecimal digits; older and other clouds have
// names. No comma, so two joined headers never pass for one.
func validProjectID[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > maxProject {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

func lowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
