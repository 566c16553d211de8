// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"strconv"
	"strings"
)

// AnswerEnd follows an answer as it comes in, and knows where it ends if it says
// so with one Content-Length. It is strict: whatever two readers could read in two
// ways has no end.
type AnswerEnd struct {
	head  []byte // of an answer whose header has not come whole
	whole bool   // the header has
	exact bool   // the answer says where it ends
	left  int64  // what is missing of the body, if so
}

// Reset begins with the next answer.
func (e *AnswerEnd) Reset() { *e = AnswerEnd{head: e.head[:0]} }

// Exact tells that the header is here, and says where the answer ends.
func (e *AnswerEnd) Exact() bool { return e.exact }

// Ended tells that the answer is here to its end.
func (e *AnswerEnd) Ended() bool { return e.exact && e.left == 0 }

// Add takes the next part, and gives how many bytes at its end are none of the
// answer.
func (e *AnswerEnd) Add(part []byte) (rest int) {
	if !e.whole {
		head := part
		if len(e.head) > 0 {
			e.head = append(e.head, part...)
			head = e.head
		}
		end := endOfHead(head)
		if end < 0 {
			if len(e.head) == 0 {
				e.head = append(e.head, part...)
			}
			return 0
		}
		e.whole = true
		e.left, e.exact = lengthOf(head[:end])
		part = head[end:]
		e.head = e.head[:0]
	}
	if !e.exact {
		return 0
	}
	took := min(e.left, int64(len(part)))
	e.left -= took
	return len(part) - int(took)
}

// endOfHead is where the header ends: behind its first empty line. Lines end in
// \n, as net/http reads them; -1: it is not whole.
func endOfHead(head []byte) int {
	for at := 0; ; {
		end := bytes.IndexByte(head[at:], '\n')
		if end < 0 {
			return -1
		}
		line := head[at : at+end]
		at += end + 1
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return at
		}
	}
}

// lengthOf reads how long the body is.
func lengthOf(head []byte) (length int64, exact bool) {
	status, lines, _ := bytes.Cut(head, []byte("\n"))
	if !hasLength(status) {
		return 0, false
	}
	found := false
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || bytes.ContainsAny(name, " \t") || bytes.IndexByte(line, '\r') >= 0 {
			return 0, false
		}
		switch {
		case isName(name, "Transfer-Encoding"):
			return 0, false
		case isName(name, "Content-Length"):
			number, err := strconv.ParseUint(string(bytes.Trim(value, " \t")), 10, 62)
			if err != nil || found {
				return 0, false
			}
			length, found = int64(number), true
		}
	}
	return length, found
}

func isName(name []byte, wanted string) bool {
	return len(name) == len(wanted) && strings.EqualFold(string(name), wanted)
}

// hasLength tells whether an answer with this status line has a body as long as it
// says. Informational ones come before another; 204 and 304 have none.
func hasLength(status []byte) bool {
	code, ok := bytes.CutPrefix(status, []byte("HTTP/1.1 "))
	if !ok || len(code) < 3 || len(code) > 3 && code[3] != ' ' && code[3] != '\r' {
		return false
	}
	switch number := string(code[:3]); number {
	case "204", "304":
		return false
	default:
		return number >= "200" && number <= "599"
	}
}
