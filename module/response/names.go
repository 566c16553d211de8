// SPDX-License-Identifier: Apache-2.0

package response

import "bytes"

// fewNames is up to how many names a plain comparison is faster than a map.
const fewNames = 8

// names is a set of strings that is asked with bytes. Its zero value is empty.
type names struct {
	few  []string
	many map[string]struct{}
}

// newNames makes the set. It keeps list, which must not change.
func newNames(list []string) names {
	if len(list) <= fewNames {
		return names{few: list}
	}
	many := make(map[string]struct{}, len(list))
	for _, name := range list {
		many[name] = struct{}{}
	}
	return names{many: many}
}

// has tells whether name is in the set. It does not allocate.
func (n names) has(name []byte) bool {
	for _, each := range n.few {
		if each == string(name) {
			return true
		}
	}
	if n.many == nil {
		return false
	}
	_, found := n.many[string(name)]
	return found
}

// passwordPrefix begins the keys that Nova joins into the password it shows,
// whoever wrote them.
var passwordPrefix = []byte("password_")

// strayPassword tells whether a name begins with "password_" and is none of
// password_0 to password_3, the only ones that Nova writes itself. Such a name
// never passes, whatever the policy says.
func strayPassword(name []byte) bool {
	chunk, found := bytes.CutPrefix(name, passwordPrefix)
	return found && (len(chunk) != 1 || chunk[0] < '0' || chunk[0] > '3')
}
