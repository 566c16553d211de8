// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// OneLine gives the password in an answer of a server that makes passwords: one
// line of printable text. A line end after it is none of it. Anything else is no
// password, whatever it is: a page of HTML, a status line in the wrong place.
func OneLine(answer []byte) (line []byte, ok bool) {
	line, ended := bytes.CutSuffix(answer, []byte("\n"))
	if ended {
		line, _ = bytes.CutSuffix(line, []byte("\r"))
	}
	rest := line
	for len(rest) > 0 {
		r, size := utf8.DecodeRune(rest)
		if (r == utf8.RuneError && size <= 1) || !unicode.IsPrint(r) {
			return nil, false
		}
		rest = rest[size:]
	}
	return line, true
}
