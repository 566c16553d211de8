// SPDX-License-Identifier: Apache-2.0

package password

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/metaguard/metaguard/module/decision"
)

// DefaultMaxSize is what Nova stores of a password, in bytes: four chunks of
// 255 characters. It answers 400 to more.
const DefaultMaxSize = 1020

// Limits says what may be written as a password.
type Limits struct {
	// MaxSize is in bytes; 0 means DefaultMaxSize.
	MaxSize int
	// RequireEncrypted refuses everything that is not one RSA result, see
	// Inspect.
	RequireEncrypted bool
}

// Max is the largest password in bytes.
func (l Limits) Max() int {
	if l.MaxSize <= 0 {
		return DefaultMaxSize
	}
	return l.MaxSize
}

// ReadSize is how many bytes of a body must be read at least before it is
// given to Check: enough to recognise the result of a key that is too large,
// so that the refusal can say so.
func (l Limits) ReadSize() int { return max(l.Max(), maxInspect) }

// Check tells what is wrong with a complete body, if anything is. Nothing is
// ever cut to fit.
func (l Limits) Check(body []byte) *decision.Refusal {
	if len(body) == 0 {
		return decision.Refuse(decision.PasswordEmpty, "body_empty")
	}
	if len(body) > l.Max() {
		if view := Inspect(body); view.KeyBits > 0 {
			return decision.RefuseWith(decision.BodyTooLarge,
				fmt.Sprintf("rsa_%d_over_max_size", view.KeyBits),
				fmt.Errorf("a password encrypted with an RSA-%d key takes %d bytes, max_size is %d: use a smaller key",
					view.KeyBits, view.Size, l.Max()))
		}
		return decision.Refuse(decision.BodyTooLarge, "body_over_max_size")
	}
	if !utf8.Valid(body) {
		return decision.Refuse(decision.BodyUnreadable, "body_not_utf8")
	}
	if l.RequireEncrypted && Inspect(body).Format != decision.FormatRSABase64 {
		return decision.Refuse(decision.PasswordNotEncrypted, "body_not_rsa")
	}
	return nil
}

// AllowedKey tells whether a stored key of this name may pass in an answer: of
// the keys that begin with "password_" only the four that Nova itself writes,
// password_0 to password_3, do. Nova joins every key with that prefix into the
// password it shows. Other names are not this rule's business and pass.
func AllowedKey(name string) bool {
	chunk, found := strings.CutPrefix(name, "password_")
	if !found {
		return true
	}
	return len(chunk) == 1 && '0' <= chunk[0] && chunk[0] <= '3'
}
