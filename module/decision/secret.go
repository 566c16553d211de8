// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"io"
)

// redacted is all that a Secret ever prints.
const redacted = "[redacted]"

// Secret holds bytes that no log line, error, metric or document may show.
// However it is printed or encoded, it says "[redacted]"; only Reveal gives
// the bytes. Configuration never has a field of this type: it holds the
// placeholder, and Provision makes the Secret from it.
type Secret struct {
	// A pointer, since fmt's %p shows the fields of a struct whatever its
	// methods say.
	value *[]byte
}

// NewSecret keeps a copy of value.
func NewSecret(value string) Secret {
	bytes := []byte(value)
	return Secret{value: &bytes}
}

// Reveal gives the bytes. The caller must not change or print them.
func (s Secret) Reveal() []byte {
	if s.value == nil {
		return nil
	}
	return *s.value
}

// Empty tells whether there is nothing in it.
func (s Secret) Empty() bool { return len(s.Reveal()) == 0 }

// String says "[redacted]".
func (s Secret) String() string { return redacted }

// GoString says "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format says "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON says "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText says "[redacted]"; encoders of zap use it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
