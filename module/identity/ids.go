// SPDX-License-Identifier: Apache-2.0

package identity

// instancePrefix begins the id of every caller that is an instance.
const instancePrefix = "instance:"

// uuidLen is the length of an instance id.
const uuidLen = 36

// maxProject is the longest project id; Keystone's own column has 64.
const maxProject = 64

// validInstanceID tells whether s is a UUID in lower case, 8-4-4-4-12, as Nova
// writes and compares it. Any other spelling of the same UUID would be another
// instance to a policy and to the signature.
func validInstanceID[T string | []byte](s T) bool {
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
