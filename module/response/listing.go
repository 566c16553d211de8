// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"strings"
)

// RedactListing removes from a listing, one entry a line:
//
//   - the entries that hidden names, exactly and case-sensitively: "meta-data"
//     hides "meta-data", "meta-data/" and "meta-data=…" (EC2 lists keys as
//     "0=name"), and "meta-data/" in hidden does the same;
//   - the lines that begin with "password_" and name none of password_0 to
//     password_3, always.
//
// Lines may end in LF, CRLF, or whatever else clients in Python take for a line
// end (CR, VT, FF, FS, GS, RS), so that nothing hides behind one. What is kept is byte for byte as it came,
// and the last line has a line end if and only if it had one before. It works
// in the answer's own memory. If something was removed, Content-Length fits
// again and ETag and Last-Modified are gone.
func RedactListing(a *Answer, hidden []string) Removed {
	var removed Removed
	hide := newNames(entries(hidden))
	body := a.Body
	to := 0          // what is kept ends here
	var cutLast bool // the line before was removed
	for from := 0; from < len(body); {
		line, end := nextLine(body[from:])
		size := len(line) + end
		switch name := entryName(line); {
		case strayPassword(name):
			removed.PasswordKeys++
			cutLast = true
		case hide.has(name), hide.has(line):
			removed.Entries++
			cutLast = true
		default:
			if to != from {
				copy(body[to:], body[from:from+size])
			}
			to += size
			cutLast = false
		}
		if from += size; from == len(body) && end == 0 && cutLast {
			// There was no line end at the end, so that there is none now.
			to = len(bytes.TrimRight(body[:to], lineEnds))
		}
	}
	if removed.Total() > 0 {
		clear(body[to:])
		a.setBody(body[:to])
	}
	return removed
}

// entries takes the slash off what is to be hidden, since an entry's own is
// taken off too. It copies only where there is one.
func entries(hidden []string) []string {
	for i, entry := range hidden {
		if entry != "" && !strings.HasSuffix(entry, "/") {
			continue
		}
		// An empty entry would hide blank lines, which are none.
		clean := append(make([]string, 0, len(hidden)), hidden[:i]...)
		for _, entry := range hidden[i:] {
			if entry = strings.TrimSuffix(entry, "/"); entry != "" {
				clean = append(clean, entry)
			}
		}
		return clean
	}
	return hidden
}

// lineEnds are the bytes at which bytes.splitlines and str.splitlines of
// Python end a line.
const lineEnds = "\n\r\v\f\x1c\x1d\x1e"

// nextLine gives the first line of text, without its end, and the length of
// that end: 2 for CRLF, else 1, and 0 at the end of the text.
func nextLine(text []byte) (line []byte, end int) {
	at := bytes.IndexAny(text, lineEnds)
	switch {
	case at < 0:
		return text, 0
	case text[at] == '\r' && at+1 < len(text) && text[at+1] == '\n':
		return text[:at], 2
	default:
		return text[:at], 1
	}
}

// entryName is the name in a line: up to the first "=", without the slash that
// marks a directory.
func entryName(line []byte) []byte {
	name, _, _ := bytes.Cut(line, []byte("="))
	return bytes.TrimSuffix(name, []byte("/"))
}
