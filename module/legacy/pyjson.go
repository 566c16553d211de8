// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"crypto/rand"
	"fmt"
	"strings"
	"unicode/utf16"
)

// This file prints JSON the way Python's json.dumps does, since a test of what
// passes a guard untouched is worth more on the server's own bytes.

// object is a JSON object whose members keep their order.
type object struct{ members []string }

// add appends a member whose value is JSON already.
func (o *object) add(name, value string) {
	o.members = append(o.members, quote(name)+": "+value)
}

func (o *object) String() string { return "{" + strings.Join(o.members, ", ") + "}" }

// quote prints a JSON string in ASCII, as json.dumps does by default.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// randomBytes gives n bytes of the system's randomness, which cannot fail.
func randomBytes(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out) // never returns an error (crypto/rand)
	return out
}

// padded is a number as EC2 ids have it.
func padded(n int) string { return fmt.Sprintf("%08x", n) }
