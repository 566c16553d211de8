// SPDX-License-Identifier: Apache-2.0

package response

import (
	"github.com/metaguard/metaguard/module/decision"
)

// CheckJSON refuses an answer whose body is not exactly one complete JSON
// document. It is for resources that the dialect knows as JSON: where a server
// closes the connection at the end of an answer, as uWSGI does, only the
// document itself shows a cut.
//
//	response_incomplete   json_cut: the document ends too early, or there is none
//	response_unreadable   json_invalid (also strings that are not UTF-8 and lone surrogates, which clients
//	                      read in more than one way), json_too_deep
//
// An object may have the same name twice.
func CheckJSON(a *Answer) *decision.Refusal {
	s := getScanner(a.Body)
	defer s.put()
	return s.check()
}

// RedactJSON removes from a JSON document:
//
//   - the values that the pointers (RFC 6901, exact) name, members and array
//     elements alike; an index counts in the document as it came, and a pointer
//     to what is not there hides nothing;
//   - the members with one of the keys as name, at any depth;
//   - the members whose name begins with "password_" and is none of password_0
//     to password_3, always.
//
// Names are compared after JSON's escapes are undone, case-sensitively, and
// every one of a repeated name counts. All that is kept, white space, order,
// numbers and escapes, is byte for byte as it came; with a member goes one
// comma. The document must be what CheckJSON takes, even with nothing to hide.
//
//	policy_malformed      redact_pointer, redact_pointer_root
//	response_unreadable   json_removals: more than 16,384 places to cut; and what CheckJSON says
//
// It works in the answer's own memory. If something was removed, Content-Length
// fits again and ETag and Last-Modified are gone. With a refusal nothing is
// changed.
func RedactJSON(a *Answer, list, keys []string) (Removed, *decision.Refusal) {
	tree, refusal := newPointers(list)
	if refusal != nil {
		return Removed{}, refusal
	}
	s := getScanner(a.Body)
	defer s.put()
	s.keys = newNames(keys)
	if refusal := s.scan(tree); refusal != nil {
		return Removed{}, refusal
	}
	if len(s.cuts) > 0 {
		a.setBody(s.compact())
	}
	return s.removed, nil
}
