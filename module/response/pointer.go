// SPDX-License-Identifier: Apache-2.0

package response

import (
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// pointers is a set of JSON pointers (RFC 6901) as a tree, one level a token.
// A nil one is empty.
type pointers struct {
	end  bool // a pointer ends here: the value is hidden
	next map[string]*pointers
}

// newPointers reads the pointers. One that no value can have would hide
// nothing, so it is refused as the malformed decision that it is:
//
//	policy_malformed   redact_pointer (no leading slash, or a "~" that is neither "~0" nor "~1"),
//	                   redact_pointer_root (the whole document)
func newPointers(list []string) (*pointers, *decision.Refusal) {
	if len(list) == 0 {
		return nil, nil
	}
	root := &pointers{}
	for _, pointer := range list {
		if pointer == "" {
			return nil, decision.Refuse(decision.PolicyMalformed, "redact_pointer_root")
		}
		if pointer[0] != '/' {
			return nil, decision.Refuse(decision.PolicyMalformed, "redact_pointer")
		}
		at := root
		for token := range strings.SplitSeq(pointer[1:], "/") {
			name, ok := unescapeToken(token)
			if !ok {
				return nil, decision.Refuse(decision.PolicyMalformed, "redact_pointer")
			}
			at = at.add(name)
		}
		at.end = true
	}
	return root, nil
}

// add gives the child of that name, and makes it if need be.
func (p *pointers) add(name string) *pointers {
	if p.next == nil {
		p.next = make(map[string]*pointers, 1)
	}
	child := p.next[name]
	if child == nil {
		child = &pointers{}
		p.next[name] = child
	}
	return child
}

// child gives the pointers that go on below name, nil if none do.
func (p *pointers) child(name []byte) *pointers {
	if p == nil {
		return nil
	}
	return p.next[string(name)]
}

// unescapeToken reads "~1" as "/" and "~0" as "~".
func unescapeToken(token string) (string, bool) {
	if !strings.Contains(token, "~") {
		return token, true
	}
	var name strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '~' {
			i++
			switch {
			case i < len(token) && token[i] == '0':
				c = '~'
			case i < len(token) && token[i] == '1':
				c = '/'
			default:
				return "", false
			}
		}
		name.WriteByte(c)
	}
	return name.String(), true
}
