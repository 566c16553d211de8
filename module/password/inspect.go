// SPDX-License-Identifier: Apache-2.0

package password

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/metaguard/metaguard/module/decision"
)

// maxInspect is the size of the longest body that Inspect recognises: the
// result of an 8192-bit RSA key with a newline.
const maxInspect = 1368 + 1

// Inspect gives the policy's view of a complete body.
//
// A body is "rsa_base64" when it has the exact size and form of one RSA result
// (a number as long as the key) in padded standard base64 (RFC 4648 section 4,
// unused bits zero) for a key of 1024, 1536, 2048, 3072, 4096, 6144 or 8192
// bits, with or without one newline at its end, which `base64 -w0 | curl` and
// the like leave there. Line breaks inside are not accepted. Size and alphabet
// are all that can be checked without the private key: it is no proof of
// encryption.
//
// Everything else is "empty", "text" if it is UTF-8, or "binary".
func Inspect(body []byte) decision.Body {
	view := decision.Body{Size: len(body)}
	switch bits := rsaBits(body); {
	case len(body) == 0:
		view.Format = decision.FormatEmpty
	case bits > 0:
		view.Format = decision.FormatRSABase64
		view.KeyBits = bits
	case utf8.Valid(body):
		view.Format = decision.FormatText
	default:
		view.Format = decision.FormatBinary
	}
	return view
}

// rsaBits gives the size of the key that body is a result of, or 0.
func rsaBits(body []byte) int {
	if len(body) > maxInspect {
		return 0
	}
	if last := len(body) - 1; last >= 0 && body[last] == '\n' {
		body = body[:last]
	}
	bits, padding := rsaForm(len(body))
	if bits == 0 {
		return 0
	}
	digits := body[:len(body)-padding]
	for _, c := range body[len(digits):] {
		if c != '=' {
			return 0
		}
	}
	value := 0
	for _, c := range digits {
		if value = base64Value(c); value < 0 {
			return 0
		}
	}
	// Of the last digit two bits are unused per padding character.
	if value&(1<<(2*padding)-1) != 0 {
		return 0
	}
	return bits
}

// Sample is a body of size bytes that Inspect takes for the result of an RSA key
// of so many bits: the size that such a result has, or one more for a newline.
func Sample(bits, size int) []byte {
	sample := base64.StdEncoding.AppendEncode(nil, make([]byte, bits/8))
	if size > len(sample) {
		sample = append(sample, '\n')
	}
	return sample
}

// rsaForm tells which key has results of size base64 characters, and how many
// of them are padding.
func rsaForm(size int) (bits, padding int) {
	switch size {
	case 172:
		return 1024, 1
	case 256:
		return 1536, 0
	case 344:
		return 2048, 2
	case 512:
		return 3072, 0
	case 684:
		return 4096, 1
	case 1024:
		return 6144, 0
	case 1368:
		return 8192, 2
	}
	return 0, 0
}

// base64Value is the value of a base64 digit, or -1.
func base64Value(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}
